"""What `/metrics` says, in Prometheus' words. Imports prometheus_client: whoever needs this imports it when asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from stats.counters import OUTCOMES, Counts
from stats.metrics_series import HISTOGRAMS, SUM, Field

STATES = ("healthy", "cooling_down", "probing", "disabled", "draining", "misconfigured")
_TIERS = ("process", "store", "flight")
_RESULTS = {"hit": "hit:", "miss": "miss", "bypass": "bypassed:"}
_MOST_REASONS = 30
_MICRO, _NANO = 1e6, 1e9


class EndpointNow(NamedTuple):
    """state: one of STATES. in_flight: of all workers."""

    name: str
    state: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class Scrape:
    """What is told. shared: the counts are those of all workers; else none of them are told, since a counter that
    becomes smaller has begun anew to Prometheus, and all of it would count again. refused_revision: 0 if there is none.
    """

    counts: Counts
    shared: bool
    endpoints: tuple[EndpointNow, ...]
    revision: int
    refused_revision: int


class _Counted(NamedTuple):
    """A counter made of the sums called `what`. divisor: of the unit in which they are added up."""

    name: str
    what: str
    labels: tuple[str, ...]
    help: str
    divisor: float = 1


_COUNTED = (
    _Counted(
        "llmproxy_requests",
        "requests",
        ("model_group", "endpoint", "status_class", "stream", "cache"),
        "Requests of clients that have ended. endpoint: whose answer it was.",
    ),
    _Counted(
        "llmproxy_upstream_attempts", "attempts", ("endpoint", "outcome"), "Attempts at endpoints that have ended."
    ),
    _Counted(
        "llmproxy_tokens",
        "tokens",
        ("model_group", "endpoint", "direction"),
        "Tokens as upstreams counted them; cached is part of input, reasoning of output.",
    ),
    _Counted("llmproxy_cost_usd", "cost", ("model_group", "endpoint"), "What requests cost, where known.", _NANO),
    _Counted("llmproxy_unpriced_requests", "unpriced", ("model_group", "endpoint"), "Requests of unknown cost."),
    _Counted("llmproxy_store_errors", "store_errors", ("operation",), "Times that the store did not do it."),
    _Counted("llmproxy_records_dropped", "records_dropped", (), "Requests of which no record was kept."),
)
_HISTOGRAMS = {
    "duration": ("llmproxy_request_duration_seconds", "From a request to the last byte of its answer."),
    "ttft": ("llmproxy_time_to_first_token_seconds", "From a request to the first event of its stream."),
    "overhead": ("llmproxy_overhead_seconds", "Of a whole answer, the time not spent on upstreams."),
}


def rendered(scrape: Scrape, accept: str) -> tuple[bytes, str]:
    """The text, and its content type. accept: the request's header; Prometheus asks for OpenMetrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(scrape))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it asks for a version that is none
        encode, content_type = choose_encoder("")
    return encode(registry), content_type


class _Told(Collector):
    """One scrape, once."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Metric]:
        if self._scrape.shared:
            yield from self._counts()
        yield from _now(self._scrape)

    def _counts(self) -> Iterator[Metric]:
        scrape = self._scrape
        sums = scrape.counts.series.fields()
        sums.update(_cache_errors(scrape.counts.cache))
        # From 0 on: what is first seen at 1 has not grown, to Prometheus.
        sums.update({("attempts", endpoint.name, one): 0 for endpoint in scrape.endpoints for one in OUTCOMES})
        yield from (_counter(counted, sums) for counted in _COUNTED)
        yield from (_histogram(what, sums) for what in _HISTOGRAMS)
        yield _outcomes(scrape.counts)
        yield from _cache(scrape.counts.cache)


def _counter(counted: _Counted, sums: Mapping[Field, int]) -> Metric:
    family = CounterMetricFamily(counted.name, counted.help, labels=counted.labels)
    found = {field[1:]: count for field, count in sums.items() if field[0] == counted.what}
    for labels, count in sorted(found.items() if counted.labels else [((), sum(found.values()))]):
        family.add_metric(labels, count / counted.divisor)
    return family


def _histogram(what: str, sums: Mapping[Field, int]) -> Metric:
    name, text = _HISTOGRAMS[what]
    family = HistogramMetricFamily(name, text, labels=("model_group",))
    bounds = [*map(str, HISTOGRAMS[what]), "+Inf"]
    for group in sorted({field[1] for field in sums if field[0] == what}):
        counts = accumulate(sums.get((what, group, bound), 0) for bound in bounds)
        family.add_metric((group,), list(zip(bounds, counts, strict=True)), sums.get((what, group, SUM), 0) / _MICRO)
    return family


def _outcomes(counts: Counts) -> Metric:
    family = CounterMetricFamily("llmproxy_request_outcomes", "Requests, as /stats judges them.", labels=("outcome",))
    for outcome in OUTCOMES:
        family.add_metric((outcome,), getattr(counts.requests, outcome))
    return family


def _cache_errors(cache: Mapping[str, int]) -> dict[Field, int]:
    """Those of the cache are counted apart; here they count with the rest."""
    errors = {what: sum(_part(cache, f"{what}_trouble:").values()) for what in ("read", "write")}
    return {("store_errors", f"cache_{what}"): count for what, count in errors.items()}


def _cache(cache: Mapping[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily("llmproxy_cache_requests", "Requests by what the cache did.", labels=("result",))
    for result, prefix in _RESULTS.items():
        family.add_metric((result,), sum(_part(cache, prefix).values()))
    yield family
    tiers = {tier: cache.get(f"hit:{tier}", 0) for tier in _TIERS}
    yield _by("llmproxy_cache_hits", "Hits by where the answer was found.", "tier", tiers)
    yield _by("llmproxy_cache_bypassed", "Requests that may not be kept.", "reason", _part(cache, "bypassed:"))
    yield _by("llmproxy_cache_not_kept", "Answers not offered to the store.", "reason", _part(cache, "not_kept:"))
    yield _by("llmproxy_cache_reads_failed", "Look-ups refused or unanswered.", "reason", _part(cache, "read_trouble:"))
    yield _by("llmproxy_cache_writes_refused", "Answers not taken.", "reason", _part(cache, "write_trouble:"))
    saved = {direction: cache.get(f"saved:{direction}_tokens", 0) for direction in ("input", "output")}
    yield _by("llmproxy_cache_saved_tokens", "Tokens of kept answers that were used again.", "direction", saved)
    usd = cache.get("saved:nano_usd", 0) / _NANO
    yield CounterMetricFamily("llmproxy_cache_saved_usd", "What they would have cost, where known.", value=usd)
    entries, size = cache.get("written:entries", 0), cache.get("written:bytes", 0)
    yield CounterMetricFamily("llmproxy_cache_written_entries", "Answers that the store has taken.", value=entries)
    yield CounterMetricFamily("llmproxy_cache_written_bytes", "Their size there.", value=size)


def _part(cache: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Bounded: reasons are words of our own, but anybody could write to the store."""
    found = ((name.removeprefix(prefix), count) for name, count in sorted(cache.items()) if name.startswith(prefix))
    return dict([(name, count) for name, count in found if name.isidentifier() or not name][:_MOST_REASONS])


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _now(scrape: Scrape) -> Iterator[Metric]:
    state = GaugeMetricFamily("llmproxy_endpoint_state", "1 for the state it is in.", labels=("endpoint", "state"))
    in_flight = GaugeMetricFamily("llmproxy_endpoint_in_flight", "Attempts under way.", labels=("endpoint",))
    for endpoint in scrape.endpoints:
        for one in STATES:
            state.add_metric((endpoint.name, one), int(endpoint.state == one))
        in_flight.add_metric((endpoint.name,), endpoint.in_flight)
    yield state
    yield in_flight
    text = "Revision of the configuration that is served."
    yield GaugeMetricFamily("llmproxy_config_revision", text, value=scrape.revision)
    text = "A later revision that this worker refused; 0: none."
    yield GaugeMetricFamily("llmproxy_config_refused_revision", text, value=scrape.refused_revision)
    text = "1: the counts are those of all workers; 0: the store is away, and there are none."
    yield GaugeMetricFamily("llmproxy_store_up", text, value=int(scrape.shared))
