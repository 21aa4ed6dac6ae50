"""What people read of a record: unknown is never 0, and bars stay on the line of time."""

import pytest

from routing.admin.record_texts import cache_told, dollars, duration, timeline, tokens
from stats.models import RecordedRequest
from stats.record import AttemptRecord, attempts_as_json


def row(*attempts: AttemptRecord, **fields: object) -> RecordedRequest:
    return RecordedRequest(**{"duration_ms": 200.0, "attempts": attempts_as_json(list(attempts)), **fields})


def attempt(began_ms: float, duration_ms: float, outcome: str = "success", cause: str = "") -> AttemptRecord:
    return AttemptRecord("east", "id", outcome, cause, 503 if outcome == "failure" else 200, began_ms, duration_ms)


@pytest.mark.parametrize(
    ("nano", "told"),
    [
        (None, "unknown"),
        (0, "$0"),
        (1, "$0.000000001"),
        (1500, "$0.0000015"),
        (123_456_789, "$0.123"),
        (999_000_000, "$0.999"),
        (1_234_567_890_123, "$1,234.57"),
    ],
)
def test_money_has_three_digits(nano, told):
    assert dollars(nano) == told


@pytest.mark.parametrize(
    ("ms", "told"),
    [
        (None, "-"),
        (0.123, "0.123 ms"),
        (9.99, "9.99 ms"),
        (12.34, "12 ms"),
        (999.4, "999 ms"),
        (1234, "1.23 s"),
        (3_600_000, "3,600 s"),
    ],
)
def test_a_duration_has_three_digits(ms, told):
    assert duration(ms) == told


def test_tokens_that_nobody_told_are_unknown():
    assert tokens(row(cost_nano_usd=None), None) == "unknown"


def test_where_nobody_worked_there_are_no_tokens():
    assert tokens(row(cost_nano_usd=0), None) == "-"


def test_no_tokens_are_none():
    assert tokens(row(cost_nano_usd=None), 0) == "0"


def test_bars_follow_each_other():
    line = timeline(row(attempt(0, 50, "failure", "status 503"), attempt(50, 150)))

    assert [(bar.left, bar.width) for bar in line.bars] == [(0, 25), (25, 75)]
    assert [bar.tone for bar in line.bars] == ["bad", "good"]
    assert line.whole == "200 ms"


def test_a_later_attempt_says_what_the_one_before_gave():
    line = timeline(row(attempt(0, 50, "failure", "status 503"), attempt(50, 150)))
    assert [bar.why for bar in line.bars] == ["asked first", "asked again, because east gave: status 503"]


def test_a_cause_that_says_more_than_the_status_is_shown():
    line = timeline(row(attempt(0, 50, "failure", "status 503"), attempt(50, 50, "failure", "head timeout")))
    assert [bar.cause for bar in line.bars] == ["", "head timeout"]


@pytest.mark.parametrize("began", [-500, 0, 190, 5000])
@pytest.mark.parametrize("lasted", [0, 10, 100_000])
def test_a_bar_is_seen_and_within_the_line(began, lasted):
    """One that was inherited from a request that had left began before this one did."""
    (bar,) = timeline(row(attempt(began, lasted))).bars
    assert 0 <= bar.left <= 99.4
    assert bar.width >= 0.6
    assert bar.left + bar.width <= 100.01


def test_a_request_without_attempts_has_no_bars():
    assert timeline(row(duration_ms=0)).bars == []


def test_the_first_event_is_on_the_line():
    assert timeline(row(attempt(0, 200), ttft_ms=50.0)).first_event == 25


@pytest.mark.parametrize("detail", ["", "route", "no_cache", "something_new"])
def test_every_decision_of_the_cache_has_words(detail):
    assert "left alone" in cache_told(row(cache="bypass", cache_detail=detail))
    assert "_" not in cache_told(row(cache="bypass", cache_detail=detail))
