"""Sums of requests for /metrics: each counts once, and survives the way to the store and back."""

import pytest

from stats.metrics_series import MOST_STALE, Series, read, stale, written
from stats.record import RequestRecord


def record(**fields) -> RequestRecord:
    given = {
        "request_id": "r",
        "at": 1000.0,
        "duration_ms": 40.0,
        "operation": "chat/completions",
        "outcome": "success",
        "status": 200,
        "model_group": "m",
        "cache": "miss",
        "endpoint": "a",
    }
    return RequestRecord(**given | fields)


def told(*records: RequestRecord) -> dict[tuple[str, ...], int]:
    series = Series()
    for one in records:
        series.take(one)
    return dict(series.fields())


def of(what: str, fields: dict[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    return {field[1:]: count for field, count in fields.items() if field[0] == what}


@pytest.mark.parametrize(
    ("fields", "status_class"),
    [
        ({"status": 200}, "2xx"),
        ({"status": 404, "outcome": "rejected"}, "4xx"),
        ({"status": 503, "outcome": "failure"}, "5xx"),
        ({"status": 999, "outcome": "failure"}, "5xx"),
        ({"status": 200, "outcome": "cancelled"}, "cancelled"),
        ({"status": 0, "outcome": "cancelled"}, "cancelled"),
    ],
)
def test_a_request_counts_in_the_class_of_its_status(fields, status_class):
    assert of("requests", told(record(**fields))) == {("m", "a", status_class, "false", "miss"): 1}


def test_requests_that_differ_are_told_apart():
    requests = of("requests", told(record(), record(), record(stream=True), record(cache="hit"), record(endpoint="b")))
    assert sorted(requests.values()) == [1, 1, 1, 2]


def test_a_duration_counts_in_the_smallest_bound_that_holds_it():
    durations = of("duration", told(*(record(duration_ms=ms) for ms in (5.0, 5.1, 40, 700_000))))
    assert durations == {
        ("m", "0.005"): 1,
        ("m", "0.01"): 1,
        ("m", "0.05"): 1,
        ("m", "+Inf"): 1,
        ("m", "sum"): 700050100,
    }


def test_what_was_not_measured_is_not_counted():
    fields = told(record(), record(ttft_ms=30.0), record(overhead_ms=0.2))
    assert of("ttft", fields) == {("m", "0.05"): 1, ("m", "sum"): 30_000}
    assert of("overhead", fields) == {("m", "0.00025"): 1, ("m", "sum"): 200}


def test_tokens_and_cost_are_added_up():
    used = record(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2, cost_nano_usd=70)
    fields = told(used, used)
    assert of("tokens", fields) == {
        ("m", "a", "input"): 20,
        ("m", "a", "output"): 10,
        ("m", "a", "cached"): 8,
        ("m", "a", "reasoning"): 4,
    }
    assert of("cost", fields) == {("m", "a"): 140}


def test_the_tokens_of_a_hit_were_not_used_again():
    fields = told(record(cache="hit", input_tokens=10, output_tokens=5, saved_nano_usd=7))
    assert not of("tokens", fields) | of("cost", fields) | of("unpriced", fields)


def test_an_unknown_cost_is_counted_as_such():
    assert of("unpriced", told(record(cost_nano_usd=None), record(cost_nano_usd=0))) == {("m", "a"): 1}


def test_added_series_are_the_sum():
    one, other = Series(), Series()
    one.take(record(ttft_ms=1.0))
    one.attempt("a", "success")
    other.take(record(ttft_ms=2.0))
    other.attempt("a", "success")
    other.more(3, "records_dropped")
    both = told(record(ttft_ms=1.0), record(ttft_ms=2.0)) | {("attempts", "a", "success"): 2, ("records_dropped",): 3}
    one.add(other)
    assert one.fields() == both


def test_what_is_written_is_read():
    fields = told(record(model_group='m"1\\', endpoint="wést, 2", overhead_ms=1.0, cost_nano_usd=None))
    assert read({name: str(count) for name, count in written(fields).items()}) == fields


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("not json", "1"),
        ("[]", "1"),
        ("[" * 5000, "1"),
        ('["requests"]', "1"),
        ('["unheard-of","m"]', "1"),
        ('["requests","m","a","2xx","false",null]', "1"),
        ('["duration","m","0.007"]', "1"),
        ('["attempts","a\\n","success"]', "1"),
        ('["attempts","a","success"]', "-1"),
        ('["attempts","a","success"]', "1.5"),
        ('["attempts","a","success"]', "x"),
        ('["attempts","a","success"]', "9" * 5000),
    ],
)
def test_what_is_not_ours_is_passed_over(name, value):
    assert read({name: value, '["records_dropped"]': "4"}) == {("records_dropped",): 4}


def test_names_that_are_configured_no_more_are_kept_while_they_are_few():
    assert stale(told(record(), record(endpoint="gone", model_group="old")), {"m": 1}, ["a"]) == []


def test_too_many_names_that_are_configured_no_more_are_given_up():
    current = told(record(), record(model_group="", endpoint="", status=404, outcome="rejected"))
    gone = {("attempts", f"gone-{number}", "success"): 1 for number in range(MOST_STALE)} | {
        ("tokens", "m", "gone", "input"): 1,
        ("duration", "old", "sum"): 1,
    }
    kept = {("records_dropped",): 1, ("store_errors", "counters"): 1, ("attempts", "a", "success"): 1}
    assert set(stale(current | kept | gone, {"m": 1}, ["a"])) == set(gone)
