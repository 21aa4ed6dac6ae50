import random

import pytest

from llmproxy_site.loadtest.tally import Answer, Spread, Tally


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_quantiles_are_right_to_a_hundredth(share):
    rng, spread = random.Random(3), Spread()
    times = sorted(rng.lognormvariate(-4, 1.5) for _ in range(2000))
    for time in times:
        spread.add(time)
    assert spread.quantile(share) == pytest.approx(times[int(share * 2000) - 1], rel=0.0101)


def test_the_largest_is_exact_and_no_quantile_is_above_it():
    spread = Spread()
    spread.add(0.123456)
    assert spread.as_json() == dict.fromkeys(("p50", "p90", "p99", "max", "mean"), 123.456)


@pytest.mark.parametrize("time", [0.0, -1e-9, 1e-7])
def test_times_too_short_to_measure_are_counted(time):
    spread = Spread()
    spread.add(time)
    assert spread.quantile(0.5) == max(time, 0.0)


def test_nothing_measured_is_not_zero():
    assert Spread().as_json() is None
    assert Spread().quantile(0.5) is None


def test_good_and_bad_answers_are_counted_apart():
    tally = Tally(elapsed_s=2.0, cpu_s=1.0)
    tally.add(Answer(200, body_bytes=100), 0.01)
    tally.add(Answer(200, "no JSON", body_bytes=5), 0.02)
    tally.add(Answer(503, "status 503", body_bytes=7), 0.001)
    tally.add(Answer(0, "connection refused"), 0.001)
    assert (tally.good, tally.failed, tally.requests) == (1, 3, 4)
    assert tally.statuses == {200: 2, 503: 1}
    assert tally.troubles == {"no JSON": 1, "status 503": 1, "connection refused": 1}
    assert (tally.body_bytes, tally.a_second(tally.requests), tally.cpu_share) == (112, 2.0, 0.5)


def test_latency_is_that_of_good_answers():
    tally = Tally()
    tally.add(Answer(503, "status 503", first_event_s=9.0), 9.0)
    tally.add(Answer(200, events=4, first_event_s=0.5), 1.0)
    assert (tally.latency.count, tally.latency.largest) == (1, 1.0)
    assert (tally.first_event.count, tally.first_event.largest) == (1, 0.5)
    assert tally.events == 4


def test_before_any_time_has_passed_there_is_no_rate():
    assert Tally().a_second(5) == 0.0
