"""Sums miss nothing, and count each thing once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats import rollups
from stats.counters import OUTCOMES, quantile_ms
from stats.record import AttemptRecord, RequestRecord
from stats.rollups import DAY, HOUR, MINUTE, SUMS, Cell, CellKey, Cells, by_step, cell_of, count_in, total

MINUTE_0 = 1_700_000_040  # a whole minute


def attempt(endpoint: str = "east", outcome: str = "success", began_ms: float = 0.0, duration_ms: float = 90.0):
    return AttemptRecord(endpoint, f"id-{endpoint}", outcome, "", 200, began_ms, duration_ms)


def record(**changes: Any) -> RequestRecord:
    usual: dict[str, Any] = {
        "request_id": "r", "at": MINUTE_0 + 1.0, "duration_ms": 100.0, "operation": "chat/completions",
        "outcome": "success", "model_group": "m", "endpoint": "east", "attempts": [attempt()], "cost_nano_usd": 7,
    }  # fmt: skip
    return RequestRecord(**usual | changes)


def counted(*records: RequestRecord, recorded: bool = True) -> Cells:
    cells: Cells = {}
    for one in records:
        count_in(cells, one, recorded)
    return cells


TOKENS = st.one_of(st.none(), st.integers(0, 1000))
ATTEMPTS = st.lists(
    st.builds(
        attempt, st.sampled_from(["east", "west"]), st.sampled_from(OUTCOMES), st.floats(0, 50), st.floats(0, 1e5)
    ),
    max_size=4,
)
RECORDS = st.lists(
    st.builds(
        record, at=st.floats(MINUTE_0, MINUTE_0 + 2 * DAY), duration_ms=st.floats(0, 1e6), attempts=ATTEMPTS,
        outcome=st.sampled_from(OUTCOMES), cache=st.sampled_from(["hit", "miss", "bypass"]), input_tokens=TOKENS,
        output_tokens=TOKENS, cost_nano_usd=TOKENS, saved_nano_usd=TOKENS, model_group=st.sampled_from(["m", "n", ""]),
        ttft_ms=st.one_of(st.none(), st.floats(0, 1e5)),
    ),
    max_size=20,
)  # fmt: skip


@given(RECORDS)
def test_every_request_counts_once_under_its_outcome(records):
    cell = total(cell for key, cell in counted(*records).items() if not key.endpoint)
    assert [getattr(cell, name) for name in OUTCOMES] == [sum(r.outcome == name for r in records) for name in OUTCOMES]


@given(RECORDS)
def test_every_attempt_counts_once_under_its_outcome(records):
    cell = total(cell for key, cell in counted(*records).items() if key.endpoint)
    attempts = [a for r in records for a in r.attempts]
    assert [getattr(cell, name) for name in OUTCOMES] == [sum(a.outcome == name for a in attempts) for name in OUTCOMES]


@given(RECORDS)
def test_latencies_are_those_of_successes(records):
    for cell in counted(*records).values():
        assert sum(cell.latency.values()) == cell.success


@given(RECORDS)
def test_what_endpoints_used_is_what_requests_used(records):
    cells = counted(*records)
    requests = total(cell for key, cell in cells.items() if not key.endpoint)
    attempts = total(cell for key, cell in cells.items() if key.endpoint)
    for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_nano_usd", "unpriced"):
        assert getattr(requests, name) == getattr(attempts, name)


@given(RECORDS, st.sampled_from([MINUTE, HOUR, DAY]))
def test_wider_steps_hold_the_same_sums(records, step):
    cells = counted(*records)
    wider = by_step(cells, step)
    assert total(wider.values()) == total(cells.values())
    assert all(key.start % step == 0 for key in wider)


@given(RECORDS)
def test_a_cell_is_made_again_of_its_numbers(records):
    for cell in counted(*records).values():
        assert cell_of([getattr(cell, name) for name in SUMS], cell.latency, cell.ttft) == cell


def test_a_request_counts_in_the_minute_in_which_it_ends():
    cells = counted(record(at=MINUTE_0 - 30.0, duration_ms=31_000.0))
    assert {key.start for key in cells} == {MINUTE_0}


def test_the_wait_for_the_first_event_is_an_endpoints_from_when_it_was_asked():
    slow, good = attempt("west", "failure", 0.0, 4000.0), attempt("east", "success", 4000.0, 1000.0)
    cells = counted(record(attempts=[slow, good], ttft_ms=4200.0, duration_ms=5000.0))
    assert quantile_ms(cells[CellKey(MINUTE_0, "m", "")].ttft, 0.5) == pytest.approx(4200, rel=0.1)
    assert quantile_ms(cells[CellKey(MINUTE_0, "m", "east")].ttft, 0.5) == pytest.approx(200, rel=0.1)
    assert cells[CellKey(MINUTE_0, "m", "west")].ttft == {}


def test_tokens_of_a_hit_are_saved_and_not_used():
    hit = record(cache="hit", attempts=[], input_tokens=5, output_tokens=6, cost_nano_usd=0, saved_nano_usd=70)
    assert counted(hit) == {
        CellKey(MINUTE_0, "m", ""): Cell(
            success=1, cache_hits=1, saved_tokens=11, saved_nano_usd=70, latency=counted(hit).popitem()[1].latency
        )
    }


def test_a_hit_that_outlived_who_asked_for_it_used_tokens_and_saved_none():
    """It was the last one left of an answer that others had asked for, and brings their attempt along."""
    hit = record(cache="hit", input_tokens=5, output_tokens=6, cost_nano_usd=70)
    cells = counted(hit)
    for cell in cells.values():
        assert (cell.input_tokens, cell.output_tokens, cell.cost_nano_usd, cell.saved_tokens) == (5, 6, 70, 0)
    assert (cells[CellKey(MINUTE_0, "m", "")].cache_hits, cells[CellKey(MINUTE_0, "m", "east")].success) == (1, 1)


def test_an_unknown_cost_is_counted_and_is_not_zero():
    cells = counted(record(cost_nano_usd=None), record(cost_nano_usd=3))
    assert [(cell.unpriced, cell.cost_nano_usd) for cell in cells.values()] == [(1, 3), (1, 3)]


def test_a_request_that_no_upstream_saw_has_no_unknown_cost():
    cells = counted(record(attempts=[], outcome="rejected", cost_nano_usd=None))
    assert [cell.unpriced for cell in cells.values()] == [0]


def test_tokens_belong_to_the_endpoint_of_the_answer():
    cells = counted(record(attempts=[attempt("west", "failure"), attempt("east")], input_tokens=5))
    assert {key.endpoint: cell.input_tokens for key, cell in cells.items()} == {"": 5, "west": 0, "east": 5}


def test_misses_and_bypasses_are_told_apart():
    cells = counted(record(cache="miss"), record(cache="bypass"))
    assert cells[CellKey(MINUTE_0, "m", "")].cache_misses == 1


def test_requests_without_a_record_are_counted():
    assert counted(record(), recorded=False)[CellKey(MINUTE_0, "m", "")].unrecorded == 1


def test_memory_stays_bounded_while_the_database_is_away_and_the_sums_stay_right(monkeypatch):
    monkeypatch.setattr(rollups, "_MOST_CELLS", 10)
    records = [record(at=MINUTE_0 + 60.0 * number) for number in range(600)]
    cells = counted(*records)
    assert len(cells) < 10 + 2 * 12
    assert total(cell for key, cell in cells.items() if not key.endpoint).success == 600
    assert total(cell for key, cell in cells.items() if key.endpoint).success == 600
