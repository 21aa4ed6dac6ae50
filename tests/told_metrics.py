"""Every metric that /metrics can tell, with its labels; for tests of what speaks of them."""

from prometheus_client.parser import text_string_to_metric_families

from stats.counters import Counts
from stats.metrics import EndpointNow, Scrape, rendered
from stats.record import RequestRecord


def counted_everything() -> Counts:
    """At least one of each."""
    counts = Counts()
    for cost in (1, None):
        counts.series.take(
            RequestRecord(
                request_id="r",
                at=1000.0,
                duration_ms=1.0,
                operation="chat/completions",
                outcome="success",
                status=200,
                model_group="m",
                endpoint="a",
                ttft_ms=1.0,
                overhead_ms=1.0,
                input_tokens=2,
                output_tokens=2,
                cached_tokens=1,
                reasoning_tokens=1,
                cost_nano_usd=cost,
            )
        )
    counts.series.more(1, "store_errors", "counters")
    counts.cache.update({f"{what}:x": 1 for what in ("bypassed", "not_kept", "read_trouble", "write_trouble")})
    return counts


def told() -> dict[str, set[str]]:
    """Name of a sample, as queries name it -> its labels."""
    scrape = Scrape(counted_everything(), True, (EndpointNow("a", "healthy", 0),), 1, 0)
    text = rendered(scrape, "")[0].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def by_metric() -> dict[str, set[str]]:
    """The same with a histogram's three samples as one."""
    return {
        name.removesuffix("_count"): labels - {"le"}
        for name, labels in told().items()
        if not name.endswith(("_bucket", "_sum"))
    }
