"""Why a request would go where it goes: every candidate in order, and for each that is out the reason. Pure.

Says what `selection.assess` says, which routes live requests too.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from routing.balancing.health import Availability, Health, Reason
from routing.balancing.selection import Assessment, HealthOf, SmoothTurns, assess
from routing.config.table import Endpoint, Group, RoutingTable
from routing.errors import NotFound

Standing = Literal["next", "candidate", "reserve", "out"]


@dataclass(frozen=True, slots=True)
class Explained:
    """One endpoint as a candidate. standing: "next" is asked first; "reserve" only when no candidate is left."""

    group: str
    endpoint: str
    standing: Standing
    reason: str
    weight: int
    deadlines: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(table: RoutingTable, model: str, health_of: HealthOf, now: float, *, stream: bool) -> list[Explained]:
    """For a request that names `model`, from a worker whose turns begin anew. Raises NotFound."""
    group = table.groups.get(model)
    if group is None:
        known = ", ".join(sorted(table.groups)) or "none"
        raise NotFound(f"There is no model group {model!r}. There are: {known}.", code="model_not_found")
    explained: list[Explained] = []
    for position, one in enumerate(table.chain(group)):
        explained += _explain_group(one, health_of, now, stream=stream, fallback=position > 0)
    return _with_next(explained)


def _explain_group(group: Group, health_of: HealthOf, now: float, *, stream: bool, fallback: bool) -> list[Explained]:
    assessment = assess(group.endpoints, health_of, now)
    after = f", fallback group {group.name}" if fallback else ""
    rows: list[tuple[Endpoint, Standing, str]] = []
    rows += [
        (endpoint, "candidate", "its cooldown is over: the next request is its probe") for endpoint in assessment.probes
    ]
    rows += [
        (endpoint, "candidate", _share(endpoint, assessment)) for endpoint in _in_order(group, assessment, health_of)
    ]
    rows += [
        (endpoint, "reserve", "weight 0 while weighted endpoints are available") for endpoint in assessment.reserve
    ]
    shown = {row[0] for row in rows}
    rows += [
        (candidate.endpoint, "out", _why_out(candidate.endpoint, candidate.availability, health_of, now))
        for candidate in assessment.candidates
        if candidate.endpoint not in shown
    ]
    return [
        Explained(
            group.name, endpoint.name, standing, reason + after, endpoint.weight, _deadlines(endpoint, stream=stream)
        )
        for endpoint, standing, reason in rows
    ]


def _with_next(explained: list[Explained]) -> list[Explained]:
    first = next((one for one in explained if one.standing == "candidate"), None)
    if first is None:
        return explained
    chosen = Explained(first.group, first.endpoint, "next", first.reason, first.weight, first.deadlines)
    return [chosen if one is first else one for one in explained]


def _in_order(group: Group, assessment: Assessment, health_of: HealthOf) -> list[Endpoint]:
    """Those that take turns, the next one first."""
    turn = assessment.turn
    if group.strategy == "least_busy":
        return sorted(turn, key=lambda endpoint: health_of(endpoint).in_flight / max(endpoint.weight, 1))
    if group.strategy == "lowest_latency":
        return sorted(turn, key=lambda endpoint: health_of(endpoint).latency_s or 0.0)
    turns = SmoothTurns(turn)
    order: dict[Endpoint, None] = {}
    for _ in range(sum(endpoint.weight for endpoint in turn) or len(turn)):
        if len(order) == len(turn):
            break
        order[turns.next()] = None
    return list(order)


def _share(endpoint: Endpoint, assessment: Assessment) -> str:
    total = sum(one.weight for one in assessment.turn)
    if not total:
        return "weight 0, and no weighted endpoint is available"
    return f"{endpoint.weight} of {total} first attempts ({100 * endpoint.weight / total:.0f} %)"


def _why_out(endpoint: Endpoint, state: Availability, health_of: HealthOf, now: float) -> str:
    if state is Availability.DISABLED:
        return "disabled"
    if state is Availability.MISCONFIGURED:
        return f"misconfigured: {endpoint.trouble}"
    health = health_of(endpoint)
    if state is Availability.COOLING:
        return f"cooling for {max(1, round(health.until - now))} s ({_cause(health)})"
    return "its cooldown is over; one probe must succeed first"


def _cause(health: Health) -> str:
    return "rate limit" if health.reason is Reason.RATE_LIMIT else "failures"


def _deadlines(endpoint: Endpoint, *, stream: bool) -> str:
    times = endpoint.timeouts
    if not stream:
        return f"connect {times.connect_s:g} s, answer {times.http_s:g} s"
    events = f"first event {times.first_event_s:g} s, idle {times.idle_s:g} s"
    return f"connect {times.connect_s:g} s, {events}, all {times.stream_s:g} s"
