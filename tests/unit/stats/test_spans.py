"""Any span is read from few sums, each minute of it once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.history import Span, Totals, pieces
from stats.retention import parse_age
from stats.rollups import DAY, HOUR, MINUTE, STEPS, Cell

MINUTES = st.integers(0, 100 * 24 * 60)


@given(MINUTES, MINUTES)
def test_pieces_follow_one_another_through_the_whole_span(one, other):
    span = Span(*(minute * MINUTE for minute in sorted((one, other))))
    at = span.start
    for piece in pieces(span):
        assert piece.start == at
        assert (piece.start % piece.step, piece.end % piece.step) == (0, 0)
        at = piece.end
    assert at == span.end


@given(MINUTES, MINUTES)
def test_few_sums_make_a_long_span(one, other):
    span = Span(*(minute * MINUTE for minute in sorted((one, other))))
    sums = sum((piece.end - piece.start) // piece.step for piece in pieces(span))
    assert sums <= 2 * 59 + 2 * 23 + 100
    assert len(pieces(span)) <= 5


def test_whole_days_are_read_as_days():
    assert pieces(Span(DAY, 3 * DAY)) == [(DAY, DAY, 3 * DAY)]


@given(st.floats(10**9, 2 * 10**9), st.sampled_from([(900, MINUTE), (DAY, HOUR), (30 * DAY, DAY), (DAY, 900)]))
def test_the_last_span_holds_now_and_at_least_as_much_as_asked_for(now, window):
    seconds, step = window
    span = Span.last(seconds, now, step)
    assert span.start <= now - seconds < now < span.end
    assert (span.start % step, span.end % step) == (0, 0)
    assert span.end - span.start <= seconds + 2 * step


def test_rates_of_nothing_are_none():
    nothing = Totals(60, Cell())
    assert (nothing.success_rate, nothing.hit_rate) == (None, None)
    assert nothing.as_json()["latency_ms"] == {"p50": None, "p95": None}


def test_what_was_rejected_or_cancelled_is_not_in_the_success_rate():
    assert Totals(60, Cell(success=3, failure=1, rejected=5, cancelled=6)).success_rate == 75.0


def test_what_bypassed_the_cache_is_not_in_the_hit_rate():
    assert Totals(60, Cell(success=9, cache_hits=1, cache_misses=3)).hit_rate == 25.0


def test_requests_per_second_are_over_the_whole_span():
    assert Totals(60, Cell(success=20, failure=10)).as_json()["requests_per_s"] == 0.5


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY), ("12h", 12 * HOUR), ("90m", 90 * MINUTE), ("0d", 0)])
def test_ages_are_read(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30days", "1w", "1d2h", "٣d", "9999999d"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(ValueError, match="no age"):
        parse_age(text)


def test_sums_are_kept_by_minute_hour_and_day():
    assert STEPS == (60, 3600, 86_400)
