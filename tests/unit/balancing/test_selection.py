"""Who is asked next: exact shares, spread turns, and never a cooled endpoint while a healthy one is there."""

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.balancing.health import Availability, Health, Reason
from routing.balancing.selection import SmoothTurns, assess, by_weight, least_busy, lowest_latency
from tests.unit.tables import endpoints_of, group_of, model

WEIGHTS = st.lists(st.integers(1, 12), min_size=1, max_size=12)
UNEVEN = st.lists(st.sampled_from([1, 2, 17, 20, 85, 98, 100]), min_size=1, max_size=12)


def turns(weights: list[int], count: int) -> list[str]:
    taking = SmoothTurns(endpoints_of(*weights))
    return [taking.next().name for _ in range(count)]


@given(WEIGHTS)
def test_every_full_cycle_is_exact(weights):
    cycle = sum(weights)
    served = turns(weights, 3 * cycle)
    expected = Counter({"abcdefghijkl"[i]: weight for i, weight in enumerate(weights)})
    for start in range(2 * cycle):
        assert Counter(served[start : start + cycle]) == expected


@given(WEIGHTS | UNEVEN)
@example([1, 85, 1, 1, 1, 1, 1, 1, 85, 1, 98, 1])
def test_any_window_is_off_by_at_most_two(weights):
    """Running sums: a window's error is the difference of the errors at its two ends."""
    total = sum(weights)
    served = turns(weights, total)
    for name, weight in zip("abcdefghijkl", weights, strict=False):
        error, errors = 0, [0]
        for turn in served:
            error += total * (turn == name) - weight
            errors.append(error)
        assert max(errors) - min(errors) <= 2 * total
        assert errors[-1] == 0


def test_weights_with_a_common_divisor_take_turns_as_the_reduced_ones_do():
    assert turns([2, 1], 6) == turns([200, 100], 6)


def test_turns_are_spread_out():
    served = "".join(turns([5, 1, 1], 28))
    assert "aaaa" not in served
    assert "bc" not in served + served


def test_a_cycle_too_long_to_remember_is_still_exact():
    weights = [20_001, 2]
    served = Counter(turns(weights, 2 * sum(weights)))
    assert served == {"a": 40_002, "b": 4}


def test_endpoints_of_weight_zero_share_alike():
    assert Counter(turns([0, 0], 10)) == {"a": 5, "b": 5}


HEALTHS = st.lists(
    st.tuples(
        st.sampled_from(["healthy", "cooling", "over", "granted", "probing", "disabled", "missing"]), st.integers(0, 3)
    ),
    min_size=1,
    max_size=8,
)


def scene(states):
    models = []
    for index, (state, weight) in enumerate(states):
        key = {"params": {"api_key": "os.environ/NOT_SET"}} if state == "missing" else {}
        models.append(model("abcdefgh"[index], weight, enabled=state != "disabled", **key))
    group = group_of(*models)
    healths = {endpoint: health_in(state) for endpoint, (state, _) in zip(group.endpoints, states, strict=True)}
    return group, healths


def health_in(state):
    health = Health()
    if state in ("cooling", "over", "granted", "probing"):
        health.cool(0.0, 200 if state == "cooling" else 50, Reason.FAILURE)
    if state in ("granted", "probing"):
        health.grant(99.0, 5)
    health.probing = int(state == "probing")
    return health


@given(HEALTHS)
def test_only_available_endpoints_take_turns_and_weight_zero_only_without_others(states):
    group, healths = scene(states)
    found = assess(group.endpoints, healths.__getitem__, 100.0)
    by_name = dict(zip((e.name for e in group.endpoints), states, strict=True))
    healthy = {name for name, (state, _) in by_name.items() if state == "healthy"}
    weighted = {name for name in healthy if by_name[name][1] > 0}
    assert {e.name for e in found.turn} == (weighted or healthy)
    assert {e.name for e in found.reserve} == (healthy - weighted if weighted else set())
    assert {e.name for e in found.probes} == {name for name, (state, _) in by_name.items() if state == "granted"}
    assert {e.name for e in found.due} == {name for name, (state, _) in by_name.items() if state in ("over", "probing")}
    assert len(found.candidates) == len(states)


def test_an_assessment_holds_until_the_first_cooldown_ends():
    group, healths = scene([("healthy", 1), ("cooling", 1), ("cooling", 1)])
    healths[group.endpoints[2]] = Health()
    healths[group.endpoints[2]].cool(0.0, 120, Reason.FAILURE)
    assert assess(group.endpoints, healths.__getitem__, 100.0).valid_until == 120.0


@pytest.mark.parametrize(
    ("state", "kind"), [("disabled", Availability.DISABLED), ("missing", Availability.MISCONFIGURED)]
)
def test_switched_off_and_misconfigured_endpoints_say_so(state, kind):
    group, healths = scene([(state, 1)])
    assert assess(group.endpoints, healths.__getitem__, 0.0).candidates[0].availability is kind


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 1000))
def test_by_weight_never_draws_weight_zero_beside_others(weights, seed):
    drawn = by_weight(endpoints_of(*weights), random.Random(seed))
    assert drawn.weight > 0 or not any(weights)


def test_by_weight_draws_in_proportion():
    rng, endpoints = random.Random(1), endpoints_of(3, 1)
    drawn = Counter(by_weight(endpoints, rng).name for _ in range(4000))
    assert 2800 < drawn["a"] < 3200


def test_least_busy_prefers_the_idler_of_two():
    busy, idle = endpoints_of(1, 1)
    healths = {busy: Health(in_flight=3), idle: Health(in_flight=1)}
    rng = random.Random(1)
    assert {least_busy((busy, idle), healths.__getitem__, rng).name for _ in range(50)} == {"b"}


def test_least_busy_counts_requests_for_their_weight():
    big, small = endpoints_of(4, 1)
    healths = {big: Health(in_flight=4), small: Health(in_flight=2)}
    assert least_busy((big, small), healths.__getitem__, random.Random(1)) is big


def test_lowest_latency_tries_an_unknown_endpoint_with_one_request():
    known, unknown = endpoints_of(1, 1)
    healths = {known: Health(latency_s=0.1, latency_at=100.0), unknown: Health()}
    assert lowest_latency((known, unknown), healths.__getitem__, 100.0, random.Random(1)) is unknown
    healths[unknown].in_flight = 1
    healths[known].in_flight = 1
    assert lowest_latency((known, unknown), healths.__getitem__, 100.0, random.Random(1)) is known


def test_lowest_latency_without_any_measurement_spreads_by_requests_in_flight():
    busy, idle = endpoints_of(1, 1)
    healths = {busy: Health(in_flight=2), idle: Health(in_flight=1)}
    assert lowest_latency((busy, idle), healths.__getitem__, 100.0, random.Random(1)) is idle


def test_lowest_latency_takes_the_faster():
    slow, fast = endpoints_of(1, 1)
    healths = {slow: Health(latency_s=0.5, latency_at=99.0), fast: Health(latency_s=0.2, latency_at=99.0)}
    assert lowest_latency((slow, fast), healths.__getitem__, 100.0, random.Random(1)) is fast
    healths[fast].in_flight = 4
    assert lowest_latency((slow, fast), healths.__getitem__, 100.0, random.Random(1)) is slow


def test_a_stale_latency_is_tried_again():
    slow, fast = endpoints_of(1, 1)
    healths = {slow: Health(latency_s=9.0, latency_at=10.0), fast: Health(latency_s=0.2, latency_at=99.0)}
    assert lowest_latency((slow, fast), healths.__getitem__, 100.0, random.Random(1)) is slow
