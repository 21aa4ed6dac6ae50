"""What pages show of the past is what happened."""

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from stats.history import History, Span, Totals
from stats.management.commands import prune_records as command
from stats.models import RecordedRequest, Rollup, WrittenBatch
from stats.pending import Pending
from stats.record import AttemptRecord, RequestRecord
from stats.record_tables import RecordTables
from stats.retention import expired
from stats.rollups import DAY, HOUR, MINUTE, total
from tests.integration.records_database import ALIAS, NOW, database, empty, mixed, record, summed

FAILED = AttemptRecord("west", "id-west", "failure", "status 500", 500, 0.0, 30.0)
GOOD = AttemptRecord("east", "id-east", "success", "", 200, 31.0, 90.0)
EVERYTHING = Span(int(NOW) // DAY * DAY - DAY, int(NOW) // DAY * DAY + 2 * DAY)


@pytest.fixture(scope="module")
def file(tmp_path_factory, django_db_blocker) -> Iterator[str]:
    path = str(tmp_path_factory.mktemp("history") / "numbers.sqlite3")
    with django_db_blocker.unblock(), database({"NAME": path}):
        yield path


@pytest.fixture
def history(file: str) -> History:
    empty()
    return History(ALIAS)


def write(records: Any) -> list[RequestRecord]:
    kept = list(records)
    pending = Pending()
    for one in kept:
        pending.add(one)
    RecordTables(ALIAS).write("w", pending.take())
    empty_marks()
    return kept


def empty_marks() -> None:
    """So that the next batch is not taken for this one."""
    WrittenBatch.objects.using(ALIAS).all().delete()


# -- sums


def test_totals_are_what_happened(history):
    records = write(mixed(400))
    expected = total(cell for key, cell in summed(records).items() if not key.endpoint)
    assert history.totals(EVERYTHING) == {"": Totals(3 * DAY, expected)}
    assert history.totals(EVERYTHING)[""].count == 400


@pytest.mark.parametrize(("by", "which"), [("model_group", 1), ("endpoint", 2)])
def test_totals_of_each_name_are_its_own(history, by, which):
    cells = summed(write(mixed(400)))
    names = {key[which] for key in cells if key.endpoint or by != "endpoint"} - ({""} if by == "endpoint" else set())
    expected = {
        name: total(
            cell for key, cell in cells.items() if key[which] == name and bool(key.endpoint) == (by == "endpoint")
        )
        for name in names
    }
    assert {name: told.cell for name, told in history.totals(EVERYTHING, by).items()} == expected


def test_a_span_holds_its_own_minutes_and_no_others(history):
    start = int(NOW) // MINUTE * MINUTE
    write(record(at=start + 60.0 * number, duration_ms=1.0) for number in range(180))
    assert history.totals(Span(start + 10 * MINUTE, start + 150 * MINUTE))[""].count == 140


@pytest.mark.parametrize("step", [MINUTE, 5 * MINUTE, HOUR, 6 * HOUR, DAY])
@pytest.mark.parametrize("by", ["", "model_group", "endpoint"])
def test_a_series_adds_up_to_the_totals(history, step, by):
    write(mixed(400, apart_s=30.0, at=NOW - 12_000))
    span = Span.last(DAY, time.time(), step)
    totals = {name: told.cell for name, told in history.totals(span, by).items()}
    series = history.series(span, step, by)
    assert {name: total(point.cell for point in points) for name, points in series.items()} == totals
    assert {len(points) for points in series.values()} == {(span.end - span.start) // step}


def test_each_step_of_a_series_holds_what_ended_in_it(history):
    start = int(NOW) // MINUTE * MINUTE
    write(record(at=start + 20.0 * number, duration_ms=1.0) for number in range(7))
    assert [point.count for point in history.series(Span(start, start + 4 * MINUTE), MINUTE)[""]] == [3, 3, 1, 0]


def test_nothing_that_happened_is_a_series_of_nothing(history):
    span = Span.last(900, time.time())
    assert [point.count for point in history.series(span, MINUTE)[""]] == [0] * len(range(span.start, span.end, MINUTE))
    assert history.series(span, MINUTE, "endpoint") == {}
    assert history.totals(span)[""].count == 0


@pytest.mark.parametrize("share", ["p50", "p95"])
def test_quantiles_over_any_span_are_right_to_a_tenth(history, share):
    rng = random.Random(5)
    durations = [rng.lognormvariate(7, 1) for _ in range(900)]
    write(record(at=NOW - 5000 + number, duration_ms=ms) for number, ms in enumerate(durations))
    exact = sorted(durations)[int(900 * float(share[1:]) / 100)]
    told = history.totals(EVERYTHING)[""].as_json()
    assert told["latency_ms"][share] == pytest.approx(exact, rel=0.1)


def test_everything_that_pages_show_is_there(history):
    attempts = [FAILED, GOOD]
    hit = record(
        cache="hit", attempts=[], cost_nano_usd=0, saved_nano_usd=2_000_000_000, input_tokens=1, output_tokens=2
    )
    write(
        [record(attempts=attempts, cache="miss", cached_tokens=4, reasoning_tokens=5, cost_nano_usd=1_500_000_000), hit,
         record(cost_nano_usd=None)]
    )  # fmt: skip
    told = history.totals(EVERYTHING)[""].as_json()
    assert told["requests"] == 3
    assert told["success_rate"] == 100.0
    assert told["tokens"] == {"input": 20, "output": 40, "cached": 4, "reasoning": 5}
    assert (told["cost_usd"], told["unpriced"]) == (1.5, 1)
    assert told["cache"] == {"hits": 1, "misses": 1, "hit_rate": 50.0, "saved_tokens": 3, "saved_usd": 2.0}
    endpoints = {name: one.as_json() for name, one in history.totals(EVERYTHING, "endpoint").items()}
    assert {name: one["success_rate"] for name, one in endpoints.items()} == {"east": 100.0, "west": 0.0}
    json.dumps([told, endpoints])


# -- failures


def test_failures_come_newest_first_with_their_attempts(history):
    failed = record(outcome="failure", status=502, attempts=[FAILED, FAILED])
    write([record(), record(attempts=[FAILED, GOOD], request_id="rescued"),
           *(record(outcome="failure", at=NOW + number, request_id=str(number), attempts=[FAILED]) for number in range(5)),
           record(outcome="failure", at=NOW - 60, request_id="old", attempts=failed.attempts)])  # fmt: skip
    assert [one.request_id for one in history.recent_failures(3)] == ["4", "3", "2"]
    assert history.recent_failures(10)[-1].attempts == [FAILED, FAILED]
    assert "rescued" not in {one.request_id for one in history.recent_failures(10)}
    assert "rescued" in {one.request_id for one in history.recent_failures(10, rescued=True)}


# -- the filters of the records page


INDEXED = {
    "time": {"at_ms__gte": 5},
    "id": {"request_id": "r"},
    "key": {"key": "anna"},
    "group": {"model_group": "m"},
    "endpoint": {"endpoint": "east"},
    "status": {"status": 502},
    "slow": {"slow": True},
    "expensive": {"expensive": True},
    "troubled": {"troubled": True},
}


@pytest.mark.parametrize("name", INDEXED)
def test_every_filter_has_an_index(history, name):
    rows = RecordedRequest.objects.using(ALIAS).filter(**INDEXED[name])
    plan = (rows if name == "id" else rows.order_by("-at_ms")).explain()
    assert f"USING INDEX stats_request_{name}" in plan or f"USING COVERING INDEX stats_request_{name}" in plan
    assert "TEMP B-TREE" not in plan


# -- deleting


@pytest.fixture
def prune(history, monkeypatch, capsys) -> Callable[..., Any]:
    """Runs the command on the test's database: exit code and output."""
    monkeypatch.setattr(command, "expired", lambda now, keep: expired(now, keep, using=ALIAS))

    def run(*arguments: str) -> tuple[int, str]:
        code = 0
        try:
            call_command("prune_records", *arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def of_all_ages(history) -> None:
    now = time.time()
    write(record(request_id=str(days), at=now - days * DAY) for days in (0, 1, 3, 29, 31, 61, 400))


def ids() -> list[str]:
    return [row.request_id for row in RecordedRequest.objects.using(ALIAS).order_by("-at_ms")]


def test_prune_deletes_what_is_older_than_the_default(of_all_ages, prune):
    code, out = prune()
    assert (code, ids()) == (0, ["0", "1", "3", "29"])
    assert out == "Deleted 3 records, sums of 10 minutes and 4 hours.\n"
    assert Rollup.objects.using(ALIAS).filter(step=DAY, endpoint="").count() == 7


def test_prune_deletes_records_older_than_asked(of_all_ages, prune):
    prune("--older-than", "2d")
    assert ids() == ["0", "1"]


def test_a_dry_run_deletes_nothing_and_says_so(of_all_ages, prune):
    code, out = prune("--dry-run", "--json")
    assert (code, len(ids())) == (3, 7)
    assert json.loads(out) == {"records": 3, "minutes": 10, "hours": 4, "dry_run": True}


def test_a_dry_run_with_nothing_to_delete_ends_well(prune):
    assert prune("--dry-run") == (0, "Would delete 0 records, sums of 0 minutes and 0 hours.\n")


def test_prune_in_many_slices_deletes_all(of_all_ages, prune, monkeypatch):
    monkeypatch.setattr("stats.retention._SLICE", 2)
    _, out = prune("--json")
    assert json.loads(out)["records"] == 3
    assert ids() == ["0", "1", "3", "29"]


def test_the_oldest_records_go_when_there_are_too_many(history, prune, monkeypatch):
    monkeypatch.setattr("stats.retention.MOST_RECORDS", 5)
    write(record(request_id=str(number), at=time.time()) for number in range(8))
    _, out = prune("--json")
    assert json.loads(out)["records"] == 3
    assert sorted(ids()) == ["3", "4", "5", "6", "7"]


def test_an_age_that_is_none_is_refused(prune):
    with pytest.raises(CommandError, match="no age"):
        prune("--older-than", "soon")


def test_prune_without_tables_names_the_remedy(history, prune, tmp_path, monkeypatch):
    monkeypatch.setitem(connections.settings, "empty", connections.settings[ALIAS] | {"NAME": str(tmp_path / "empty")})
    monkeypatch.setattr(command, "expired", lambda now, keep: expired(now, keep, using="empty"))
    with pytest.raises(CommandError, match="migrate"):
        prune()
    connections["empty"].close()
    del connections["empty"]
