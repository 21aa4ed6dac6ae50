"""What the dashboard says of counters, sums and records."""

import pytest

from routing.admin.dashboard_figures import Pace, failure_view, series_columns
from stats.counters import bucket_of
from stats.history import Totals
from stats.record import AttemptRecord, RequestRecord
from stats.rollups import Cell


@pytest.fixture
def pace() -> Pace:
    return Pace()


def test_the_first_reading_has_no_pace(pace):
    assert pace.at(100.0, 7, True) is None


def test_the_pace_is_what_came_since_the_first_reading(pace):
    pace.at(100.0, 7, True)

    assert pace.at(102.0, 13, True) == 3.0


def test_the_pace_forgets_what_is_ten_seconds_old(pace):
    for second in range(11):
        pace.at(second, 1000 * min(second, 1), True)

    assert pace.at(11.0, 1000, True) == 0.0


def test_the_pace_begins_anew_when_the_counters_were_emptied(pace):
    pace.at(100.0, 50, True)

    assert pace.at(101.0, 2, True) is None
    assert pace.at(102.0, 4, True) == 2.0


def test_the_pace_does_not_compare_one_worker_with_all(pace):
    pace.at(100.0, 50, False)

    assert pace.at(101.0, 5000, True) is None


def test_a_series_is_one_list_for_each_line_of_a_chart():
    busy = Cell(success=2, failure=1, cache_hits=1, cache_misses=2, input_tokens=30, latency={bucket_of(0.2): 2})
    columns = series_columns([Totals(60, busy), Totals(60, Cell())], 1200, 60)

    assert columns["at"] == [1200, 1260]
    assert (columns["success"], columns["failure"]) == ([2, 0], [1, 0])
    assert (columns["hits"], columns["misses"], columns["input"]) == ([1, 0], [2, 0], [30, 0])
    assert columns["latency_p50"] == [pytest.approx(200, rel=0.1), None]
    assert columns["ttft_p95"] == [None, None]


def test_a_failure_tells_its_age_and_every_attempt():
    attempts = [
        AttemptRecord("west", "id-w", "failure", "status 500", 500, 0.4, 30.0),
        AttemptRecord("east", "id-e", "success", "", 200, 31.0, 90.0),
    ]
    record = RequestRecord(
        request_id="r", at=1000.0, duration_ms=122.0, operation="responses", outcome="success", attempts=attempts
    )
    view = failure_view(record, 1012.5)

    assert view["ago_s"] == 12.5
    assert [(one["endpoint"], one["cause"], one["began_ms"]) for one in view["attempts"]] == [
        ("west", "status 500", 0.4),
        ("east", "", 31.0),
    ]


def test_a_clock_that_went_back_makes_no_failure_of_the_future():
    record = RequestRecord(request_id="r", at=1000.0, duration_ms=1.0, operation="responses", outcome="failure")

    assert failure_view(record, 900.0)["ago_s"] == 0
