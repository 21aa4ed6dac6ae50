"""The numbers of the gateway as tables for people. Pure: what is shown was read by `stats_reading`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from llmproxy_site.management.figures import NOTHING, UNKNOWN, cost, count, milliseconds, percent, seconds, usd
from llmproxy_site.management.stats_reading import Reading
from llmproxy_site.management.terminal import Cell, Column, Row, table_of
from routing.config.table import Endpoint
from routing.config.table import Group as ModelGroup

_STYLES = {
    "healthy": "green",
    "cooling_down": "red",
    "probing": "yellow",
    "misconfigured": "red",
    "disabled": "dim",
    "draining": "yellow",
}
# What groups and endpoints have in common.
_OUTCOMES = [
    Column("failed", 3, number=True),
    Column("rejected", 10, number=True),
    Column("cancelled", 11, number=True),
    Column("success", 1, number=True),
    Column("p50", 6, number=True),
    Column("p95", 4, number=True),
    Column("tokens in", 8, number=True),
    Column("tokens out", 9, number=True),
    Column("cost", 5, number=True),
]
_GROUPS = [Column("model group"), Column("requests", number=True), *_OUTCOMES, Column("cache hits", 7, number=True)]
_ENDPOINTS = [
    Column("endpoint"),
    Column("model group", 7),
    Column("state"),
    Column("in flight", 2, number=True),
    Column("attempts", number=True),
    *_OUTCOMES,
    Column("last error", 12),
]


def page(reading: Reading, console: Console) -> RenderableType:
    """Everything, for this console."""
    past = reading.past
    parts: list[RenderableType] = [_title(reading)]
    if reading.missing:
        parts.append(Text(reading.missing, "yellow"))
    if not reading.table.groups:
        parts.append(Text("There is no model group yet: `manage.py import_config llmproxy.yaml`.", "yellow"))
    parts += [Text(""), table_of(console, f"Requests, last {past.name}", _GROUPS, group_rows(reading))]
    if endpoints := list(endpoint_rows(reading)):
        parts += [Text(""), table_of(console, f"Endpoints, last {past.name}", _ENDPOINTS, endpoints)]
    parts += [Text(""), *(Text(line) for line in summary(reading))]
    return Group(*parts)


def _title(reading: Reading) -> Text:
    return Text(f"LLMProxy, revision {reading.table.revision}, {reading.at:%Y-%m-%d %H:%M:%S} UTC", "bold")


def group_rows(reading: Reading) -> Iterator[Row]:
    """Those of the configuration, then those that were there once, then all together."""
    past = reading.past
    for name in [*reading.table.groups, *(name for name in past.groups if name not in reading.table.groups)]:
        yield _group_row(name or "(no group)", past.groups.get(name))
    yield _group_row("all", past.requests)


def _group_row(name: str, told: dict[str, Any] | None) -> list[Cell]:
    return [name, count(told["requests"] if told else 0), *_outcomes(told), _hits(told)]


def _outcomes(told: dict[str, Any] | None) -> list[Cell]:
    """The cells of `_OUTCOMES`."""
    if told is None:
        return [NOTHING] * len(_OUTCOMES)
    outcomes, tokens = told["outcomes"], told["tokens"]
    failed = count(outcomes["failure"])
    return [
        (failed, "red") if outcomes["failure"] else failed,
        count(outcomes["rejected"]),
        count(outcomes["cancelled"]),
        percent(told["success_rate"]),
        milliseconds(told["latency_ms"]["p50"]),
        milliseconds(told["latency_ms"]["p95"]),
        count(tokens["input"]),
        count(tokens["output"]),
        cost(told),
    ]


def _hits(told: dict[str, Any] | None) -> str:
    return percent(told["cache"]["hit_rate"]) if told else NOTHING


def endpoint_rows(reading: Reading) -> Iterator[Row]:
    """By group, as configured; then those that are not configured any more but did something."""
    past = reading.past.endpoints
    names = set()
    for group in reading.table.groups.values():
        states = _states(reading, group)
        for endpoint in group.endpoints:
            names.add(endpoint.name)
            yield _endpoint_row(endpoint, states.get(endpoint.id), past.get(endpoint.name), reading.at)
    for name, told in past.items():
        if name not in names:
            yield [name, NOTHING, ("removed", "dim"), NOTHING, count(told["requests"]), *_outcomes(told), NOTHING]


def _states(reading: Reading, group: ModelGroup) -> dict[str, dict[str, Any]]:
    """By endpoint id; none where live numbers are not known."""
    told = reading.live["model_groups"].get(group.name, []) if reading.live else []
    return {endpoint["id"]: endpoint["state"] for endpoint in told}


def _endpoint_row(
    endpoint: Endpoint, state: dict[str, Any] | None, told: dict[str, Any] | None, now: datetime
) -> list[Cell]:
    return [
        endpoint.name,
        endpoint.group,
        state_cell(endpoint, state, now),
        count(state["in_flight"]) if state else UNKNOWN,
        count(told["requests"] if told else 0),
        *_outcomes(told),
        (state["last_error"] or NOTHING) if state else UNKNOWN,
    ]


def state_cell(endpoint: Endpoint, state: dict[str, Any] | None, now: datetime) -> Cell:
    """With what is left of a cooldown. Without a state only what the configuration itself says is known."""
    if state is None:
        status = "misconfigured" if endpoint.missing else UNKNOWN if endpoint.enabled else "disabled"
        return status, _STYLES.get(status, "yellow")
    status, until = state["status"], state["cooldown_until"]
    words = status.replace("_", " ")
    if status == "cooling_down" and until:
        words = f"{words}, {seconds((datetime.fromisoformat(until) - now).total_seconds())}"
    return words, _STYLES.get(status, "")


def summary(reading: Reading) -> Iterator[str]:
    """What stands below the tables."""
    saved = reading.past.requests["cache"]
    hits = f"{saved['hits']:,} of {saved['hits'] + saved['misses']:,} cacheable requests ({percent(saved['hit_rate'])})"
    money = UNKNOWN if saved["saved_tokens"] and not saved["saved_usd"] else usd(saved["saved_usd"])
    tokens = f"{saved['saved_tokens']:,}"
    yield f"Cache, last {reading.past.name}: answered {hits}; saved tokens: {tokens}; saved money: {money}."
    if reading.live is not None:
        requests, cache = reading.live["requests"], reading.live["cache"]
        parts = ", ".join(f"{requests[name]:,} {name}" for name in ("succeeded", "failed", "rejected", "cancelled"))
        yield f"Since the counters began: {requests['total']:,} requests ({parts}), {cache['hits']:,} cache hits."
