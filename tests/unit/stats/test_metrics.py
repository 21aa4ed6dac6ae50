"""What /metrics says can be read by Prometheus, and is what was counted."""

from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stats.counters import Counts
from stats.metrics import STATES, EndpointNow, Scrape, rendered
from stats.record import RequestRecord

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: bytes) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def scrape(counts: Counts, **fields) -> Samples:
    given = {"shared": True, "endpoints": (EndpointNow("a", "healthy", 2),), "revision": 3, "refused_revision": 0}
    return samples(rendered(Scrape(counts, **given | fields), "")[0])


def named(name: str, found: Samples) -> Iterator[tuple[dict[str, str], float]]:
    return ((dict(labels), value) for (one, labels), value in found.items() if one == name)


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def ended(group: str = "m", duration_ms: float = 40.0) -> RequestRecord:
    return RequestRecord(
        request_id="r",
        at=1000.0,
        duration_ms=duration_ms,
        operation="chat/completions",
        outcome="success",
        status=200,
        model_group=group,
        endpoint="a",
        cost_nano_usd=1_500_000_000,
    )


def test_a_request_is_told():
    counts = Counts()
    counts.series.take(ended())
    found = scrape(counts)
    labels = {"model_group": "m", "endpoint": "a", "status_class": "2xx", "stream": "false", "cache": "bypass"}
    assert list(named("llmproxy_requests_total", found)) == [(labels, 1.0)]


def test_a_histogram_adds_up():
    counts = Counts()
    for ms in (1.0, 40.0, 40.0, 900_000.0):
        counts.series.take(ended(duration_ms=ms))
    found = scrape(counts)
    buckets = {labels["le"]: count for labels, count in named("llmproxy_request_duration_seconds_bucket", found)}
    assert (buckets["0.005"], buckets["0.025"], buckets["0.05"], buckets["600.0"], buckets["+Inf"]) == (1, 1, 3, 3, 4)
    assert value(found, "llmproxy_request_duration_seconds_count", model_group="m") == 4
    assert value(found, "llmproxy_request_duration_seconds_sum", model_group="m") == 900.081


def test_money_is_told_in_dollars():
    counts = Counts()
    counts.series.take(ended())
    counts.cache["saved:nano_usd"] = 250_000_000
    found = scrape(counts)
    assert value(found, "llmproxy_cost_usd_total", model_group="m", endpoint="a") == 1.5
    assert value(found, "llmproxy_cache_saved_usd_total") == 0.25


def test_names_with_every_sign_can_be_read_again():
    name = 'a "b\\c" {d}, é=ü'
    counts = Counts()
    counts.series.take(ended(group=name))
    assert {labels["model_group"] for labels, _ in named("llmproxy_requests_total", scrape(counts))} == {name}


def test_an_endpoint_is_in_one_state():
    found = scrape(Counts(), endpoints=(EndpointNow("a", "cooling_down", 2),))
    states = {labels["state"]: one for labels, one in named("llmproxy_endpoint_state", found)}
    assert states == dict.fromkeys(STATES, 0.0) | {"cooling_down": 1.0}
    assert value(found, "llmproxy_endpoint_in_flight", endpoint="a") == 2


def test_attempts_begin_at_nought():
    """Prometheus sees nothing grow that is 1 when it is first told."""
    assert {one for _, one in named("llmproxy_upstream_attempts_total", scrape(Counts()))} == {0.0}


def test_what_the_cache_did_is_told():
    counts = Counts()
    for name in ("hit:process", "hit:store", "miss", "bypassed:no_cache", "read_trouble:away", "write_trouble:OOM"):
        counts.cache[name] = 2
    found = scrape(counts)
    results = {labels["result"]: one for labels, one in named("llmproxy_cache_requests_total", found)}
    assert results == {"hit": 4, "miss": 2, "bypass": 2}
    assert value(found, "llmproxy_cache_hits_total", tier="store") == 2
    assert value(found, "llmproxy_cache_bypassed_total", reason="no_cache") == 2
    assert value(found, "llmproxy_cache_writes_refused_total", reason="OOM") == 2
    assert value(found, "llmproxy_store_errors_total", operation="cache_read") == 2


def test_reasons_that_are_not_ours_are_bounded():
    counts = Counts()
    counts.cache.update({f"bypassed:r{number}": 1 for number in range(1000)} | {"bypassed:\n evil": 1})
    assert len(list(named("llmproxy_cache_bypassed_total", scrape(counts)))) == 30


@pytest.mark.parametrize(("shared", "up"), [(True, 1), (False, 0)])
def test_it_says_whose_numbers_they_are(shared, up):
    assert value(scrape(Counts(), shared=shared), "llmproxy_store_up") == up


def test_a_refused_revision_is_told():
    found = scrape(Counts(), refused_revision=4)
    assert value(found, "llmproxy_config_revision") == 3
    assert value(found, "llmproxy_config_refused_revision") == 4


def test_openmetrics_is_spoken_to_whom_asks_for_it():
    counts = Counts()
    counts.series.take(ended())
    whole = Scrape(counts, True, (EndpointNow("a", "healthy", 0),), 1, 0)
    text, content_type = rendered(whole, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert {"llmproxy_requests", "llmproxy_store_up"} <= {family.name for family in read_openmetrics(text.decode())}


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text; version=x", "text/plain; version=9..9", ";;,"]
)
def test_whatever_is_asked_for_something_is_said(accept):
    text, content_type = rendered(Scrape(Counts(), True, (), 1, 0), accept)
    assert b"llmproxy_store_up 1.0\n" in text
    assert content_type.startswith(("text/plain", "application/openmetrics-text"))
