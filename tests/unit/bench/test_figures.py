"""Percentiles, costs, ratios within a round, and bars."""

from math import isnan

import pytest

from tests.bench.figures import (
    CPU,
    RATE,
    Bar,
    Cell,
    Results,
    Round,
    Start,
    bunched,
    load_is_bottleneck,
    others_busy,
    percentile,
    spread,
)


def a_round(**figures) -> Round:
    quiet = {"requests": 100, "events": 0, "pieces": 0, "seconds": 1.0, "p50_ms": 1.0, "p99_ms": 2.0}
    return Round(**quiet | {"cpu_s": 0.5, "load_cpu_s": 0.5, "machine_cpu_s": 1.0} | figures)


def cell(*rounds: Round, kind="json", load_cores=1) -> Cell:
    return Cell("a server", kind, 32, load_cores, list(rounds))


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_smallest_value_that_enough_others_do_not_exceed(share, value):
    assert percentile(range(100, 0, -1), share) == value


def test_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 0.99) == 7.0


def test_percentile_of_nothing_is_no_number():
    assert isnan(percentile([], 0.5))


def test_json_costs_are_per_request():
    assert cell(a_round(requests=1000, cpu_s=0.1)).of(CPU) == pytest.approx(100)


def test_paced_costs_and_rates_are_per_event():
    paced = cell(a_round(requests=2, events=200, cpu_s=0.01, seconds=2.0), kind="paced")
    assert paced.of(CPU) == pytest.approx(50)
    assert paced.of(RATE) == pytest.approx(100)


def test_cost_without_any_answer_is_no_number():
    assert isnan(cell(a_round(requests=0)).of(CPU))


def test_figure_of_a_cell_is_the_median_of_its_rounds():
    assert cell(*(a_round(cpu_s=seconds) for seconds in (0.3, 0.1, 0.2))).of(CPU) == pytest.approx(2000)


def test_ratio_is_taken_within_each_round_before_the_median():
    slow_and_noisy = cell(a_round(cpu_s=0.2), a_round(cpu_s=2.0), a_round(cpu_s=0.9))
    empty = cell(a_round(cpu_s=0.1), a_round(cpu_s=1.0), a_round(cpu_s=0.3))
    assert slow_and_noisy.ratio(CPU, empty) == pytest.approx(2)


def test_spread_is_a_share_of_the_median():
    assert spread([90, 100, 120]) == pytest.approx(0.3)


def test_others_are_what_the_machine_did_beyond_us():
    assert others_busy(cell(), a_round(machine_cpu_s=1.7)) == pytest.approx(0.7)


def test_others_are_not_negative_where_the_machine_does_not_tell():
    assert others_busy(cell(), a_round(machine_cpu_s=0.0)) == 0


def test_a_full_load_core_beside_an_idle_server_is_the_bottleneck():
    assert load_is_bottleneck(cell(a_round(cpu_s=0.6, load_cpu_s=0.97)))


def test_a_full_load_core_beside_a_full_server_is_not():
    assert not load_is_bottleneck(cell(a_round(cpu_s=0.97, load_cpu_s=0.97)))


def test_two_load_cores_are_full_at_two_seconds_a_second():
    assert not load_is_bottleneck(cell(a_round(cpu_s=0.6, load_cpu_s=0.97), load_cores=2))


def test_events_that_come_together_are_bunched():
    assert cell(a_round(events=300, pieces=100), kind="paced").of(bunched) == pytest.approx(3)


def test_failures_of_all_rounds_are_added():
    assert cell(a_round(failures={"a": 1}), a_round(failures={"a": 2, "b": 1})).failures() == {"a": 3, "b": 1}


def test_the_first_start_does_not_count_as_a_start():
    assert Results(starts=[Start(9, 1, 1)]).start_s is None
    assert Results(starts=[Start(9, 1, 1), Start(2, 1, 1), Start(1, 1, 1), Start(3, 1, 1)]).start_s == 2


@pytest.mark.parametrize(
    ("value", "missed"), [(None, False), (3.9, False), (4.0, False), (4.01, True), (float("nan"), True)]
)
def test_a_bar_is_missed_above_its_limit_and_by_no_number(value, missed):
    assert Bar("a figure", 4.0, value).missed is missed
