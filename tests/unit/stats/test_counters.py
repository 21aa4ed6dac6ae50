"""Counts as integers: they travel as increments, add up over workers, and keep quantiles to a tenth."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.counters import Counts, EndpointCounts, RequestCounts, bucket_of, quantile_ms

NUMBERS = st.integers(0, 10**12)
ENDPOINT = st.builds(
    EndpointCounts,
    success=NUMBERS,
    failure=NUMBERS,
    rejected=NUMBERS,
    cancelled=NUMBERS,
    input_tokens=NUMBERS,
    output_tokens=NUMBERS,
    buckets=st.dictionaries(st.integers(0, 90), st.integers(1, 10**9), max_size=5),
    last_error=st.sampled_from(["", "status 500", "connect timeout"]),
    last_error_at=st.just(0.0),
    last_success_at=st.sampled_from([0.0, 1.5, 1_700_000_000.123456]),
)
REQUESTS = st.builds(RequestCounts, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)


@given(ENDPOINT)
def test_endpoint_counts_survive_the_store(counts):
    if counts.last_error:
        counts.last_error_at = 1_700_000_000.25
    fields = {name: str(value) for name, value in counts.increments().items()} | counts.latest()
    assert EndpointCounts.from_fields(fields) == counts


@given(REQUESTS)
def test_request_counts_survive_the_store(counts):
    assert RequestCounts.from_fields({name: str(value) for name, value in counts.increments().items()}) == counts


def test_nothing_counted_is_nothing_to_tell():
    assert (EndpointCounts().increments(), EndpointCounts().latest(), RequestCounts().increments()) == ({}, {}, {})
    assert Counts().empty()


@given(ENDPOINT, ENDPOINT)
def test_counts_of_two_workers_add_up(one, other):
    both = EndpointCounts()
    both.add(one)
    both.add(other)
    for name in ("success", "failure", "rejected", "cancelled", "input_tokens", "output_tokens"):
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
    assert both.buckets == {b: one.buckets.get(b, 0) + other.buckets.get(b, 0) for b in {*one.buckets, *other.buckets}}
    assert both.last_success_at == max(one.last_success_at, other.last_success_at)


def test_the_latest_error_of_all_workers_is_shown():
    older, newer = (
        EndpointCounts(last_error="old", last_error_at=1.0),
        EndpointCounts(last_error="new", last_error_at=2.0),
    )
    for first, second in ((older, newer), (newer, older)):
        both = EndpointCounts()
        both.add(first)
        both.add(second)
        assert (both.last_error, both.last_error_at) == ("new", 2.0)


@pytest.mark.parametrize(
    "fields",
    [{"of the future": "7"}, {"latency:": "1"}, {"latency:x": "1"}, {"latency:3": "x"}, {"success": "many"}, {"success": ""},
     {"last_success_at": "yesterday"}, {"buckets": "7"}, {"increments": "7"}, {"success": "1.5"}],
)  # fmt: skip
def test_fields_of_another_version_are_passed_over(fields):
    assert EndpointCounts.from_fields(fields | {"failure": "3"}) == EndpointCounts(failure=3)


def test_request_fields_of_another_version_are_passed_over():
    assert RequestCounts.from_fields({"success": "x", "new": "1", "failure": "2"}) == RequestCounts(failure=2)


@given(st.floats(0.001, 5000), st.integers(1, 1000))
def test_a_quantile_of_equal_values_is_exact_to_a_tenth(seconds, count):
    for share in (0.5, 0.95):
        assert quantile_ms({bucket_of(seconds): count}, share) == pytest.approx(seconds * 1000, rel=0.1)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantiles_of_a_spread_are_exact_to_a_tenth(share):
    rng = random.Random(1)
    seconds = sorted(rng.lognormvariate(-1, 1.2) for _ in range(5000))
    buckets: dict[int, int] = {}
    for value in seconds:
        buckets[bucket_of(value)] = buckets.get(bucket_of(value), 0) + 1
    assert quantile_ms(buckets, share) == pytest.approx(seconds[int(share * 5000)] * 1000, rel=0.1)


def test_no_latency_has_no_quantile():
    assert quantile_ms({}, 0.5) is None
    assert quantile_ms({3: 0}, 0.5) is None


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_buckets_grow_with_time_and_are_bounded(one, other):
    low, high = sorted((one, other))
    assert 0 <= bucket_of(low) <= bucket_of(high) <= 90
