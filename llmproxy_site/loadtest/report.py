"""What a load test measured, for people and for scripts. Pure."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from llmproxy_site.loadtest.plan import Plan
from llmproxy_site.loadtest.tally import Spread, Tally
from llmproxy_site.management.figures import NOTHING, count, milliseconds, percent, size
from llmproxy_site.management.terminal import Cell, Column, Row, table_of

_BUSY = 0.9  # share of a core from which on this process, and not the server, may be what limits
_REACHED = 0.95  # share of the wanted rate
_QUANTILES = ("p50", "p90", "p99", "max")


def notes(plan: Plan, tally: Tally) -> list[str]:
    """What one must know to read the figures."""
    told = []
    if tally.stopped:
        told.append("Stopped by Ctrl-C: this is what was measured until then, without the requests under way.")
    if own_limit(tally):
        told.append(
            f"The load generator itself was the bottleneck ({percent(100 * tally.cpu_share)} of a core): the server can"
            " do more. Run several at once, on other cores or machines."
        )
    elif plan.rate and not tally.stopped and tally.a_second(tally.requests) < _REACHED * plan.rate:
        told.append(f"The wanted {plan.rate:g} requests a second were not reached: all {plan.connections} connections"
                    " were busy. Raise --connections, or lower --rate.")  # fmt: skip
    return told


def own_limit(tally: Tally) -> bool:
    return tally.cpu_share >= _BUSY


def as_json(plan: Plan, tally: Tally) -> dict[str, Any]:
    return {
        "url": url_of(plan),
        "model": plan.model,
        "stream": plan.stream,
        "connections": plan.connections,
        "rate": plan.rate,
        "elapsed_s": round(tally.elapsed_s, 3),
        "requests": tally.requests,
        "succeeded": tally.good,
        "failed": tally.failed,
        "requests_per_s": round(tally.a_second(tally.requests), 2),
        "statuses": {str(status): number for status, number in sorted(tally.statuses.items())},
        "errors": dict(tally.troubles.most_common()),
        "latency_ms": tally.latency.as_json(),
        "first_event_ms": tally.first_event.as_json(),
        "events": tally.events,
        "events_per_s": round(tally.a_second(tally.events), 2),
        "body_bytes": tally.body_bytes,
        "cpu_share": round(tally.cpu_share, 3),
        "limited_by_itself": own_limit(tally),
        "stopped": tally.stopped,
    }


def url_of(plan: Plan) -> str:
    """Without a query, which may hold a key."""
    origin = plan.target.origin
    return f"{origin.scheme}://{origin.authority}{plan.target.path.partition('?')[0]}"


def page(plan: Plan, tally: Tally, console: Console) -> RenderableType:
    parts: list[RenderableType] = [table_of(console, f"Load test of {url_of(plan)}", _TOTALS, totals(plan, tally))]
    parts += [Text(""), table_of(console, "Times of good answers", _TIMES, times(plan, tally))]
    if tally.troubles:
        parts += [Text(""), table_of(console, "Errors", _ERRORS, errors(tally))]
    parts += [Text(f"\n{note}", "yellow") for note in notes(plan, tally)]
    return Group(*parts)


_TOTALS = [Column(""), Column("", number=True), Column("a second", number=True)]
_TIMES = [Column(""), *(Column(name, number=True) for name in _QUANTILES), Column("mean", 1, number=True)]
_ERRORS = [Column("error"), Column("requests", number=True), Column("share", number=True)]


def totals(plan: Plan, tally: Tally) -> Iterator[Row]:
    yield "requests", count(tally.requests), _rate(tally, tally.requests)
    yield "good answers", count(tally.good), _rate(tally, tally.good)
    failed: Cell = (count(tally.failed), "red") if tally.failed else count(tally.failed)
    yield "errors", failed, _rate(tally, tally.failed)
    if plan.stream:
        yield "events", count(tally.events), _rate(tally, tally.events)
    yield "bytes of bodies", size(tally.body_bytes), size(tally.a_second(tally.body_bytes))
    yield "time", f"{tally.elapsed_s:.2f} s", NOTHING
    yield "connections", count(plan.connections), NOTHING
    yield "own CPU", percent(100 * tally.cpu_share), NOTHING


def _rate(tally: Tally, amount: float) -> str:
    return f"{tally.a_second(amount):,.1f}"


def times(plan: Plan, tally: Tally) -> Iterator[Row]:
    yield _times("whole answer", tally.latency)
    if plan.stream:
        yield _times("first event", tally.first_event)


def _times(name: str, spread: Spread) -> list[Cell]:
    told = spread.as_json() or {}
    return [name, *(milliseconds(told.get(quantile)) for quantile in (*_QUANTILES, "mean"))]


def errors(tally: Tally) -> Iterator[Row]:
    for trouble, number in tally.troubles.most_common():
        yield trouble, count(number), percent(100 * number / tally.requests)
