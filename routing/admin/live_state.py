"""What the pages show beside endpoints and groups: state, cooldown, requests in flight, success, latency.

One reading of the store serves a whole page. Times are durations, so that the browser's clock does not matter.
"""

from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest

from routing.admin.running import RunningGateway, running_gateway
from routing.balancing.health import Health
from routing.balancing.status import status_of
from routing.config.table import Endpoint
from stats.counters import EndpointCounts, RequestCounts, quantile_ms
from stats.queries import read_numbers

_AVAILABLE = ("healthy", "probing")


@dataclass(frozen=True, slots=True)
class _Reading:
    health: Health
    counts: EndpointCounts
    in_flight: int
    now: float


def live_state(request: HttpRequest) -> dict[str, Any]:
    """Of the whole gateway, as JSON; {} where none runs in this process."""
    gateway = running_gateway(request)
    return {} if gateway is None else async_to_sync(read_live_state)(gateway)


async def read_live_state(gateway: RunningGateway) -> dict[str, Any]:
    """In the event loop of the gateway."""
    table, board, now = gateway.live.table, gateway.board, gateway.board.clock()
    numbers = await read_numbers(gateway.store, gateway.recorder, table.endpoints, gateway.in_flight())
    endpoints: dict[str, dict[str, Any]] = {}
    for endpoint in table.endpoints.values():
        counts = numbers.counts.endpoints.get(endpoint.id, EndpointCounts())
        reading = _Reading(board.of(endpoint), counts, numbers.in_flight.get(endpoint.id, 0), now)
        endpoints[endpoint.name] = _endpoint(endpoint, reading)
    refused = gateway.revisions.refused if gateway.revisions else None
    return {
        "revision": table.revision,
        "refused": {"revision": refused.revision, "reason": refused.reason} if refused else None,
        "store": numbers.shared,
        "requests": _requests(numbers.counts.requests),
        "groups": {
            group.name: _group([endpoints[endpoint.name] for endpoint in group.endpoints])
            for group in table.groups.values()
        },
        "endpoints": endpoints,
    }


def _endpoint(endpoint: Endpoint, reading: _Reading) -> dict[str, Any]:
    counts, health = reading.counts, reading.health
    status = status_of(endpoint, health, reading.in_flight, reading.now)
    cooling = status == "cooling_down"
    return {
        "status": status,
        "cooldown_s": round(health.until - reading.now, 1) if cooling else None,
        "reason": health.reason.value if cooling else None,
        "trouble": endpoint.trouble,
        "in_flight": reading.in_flight,
        "success_rate": _share(counts.success, counts.failure),
        "total": counts.success + counts.failure + counts.rejected + counts.cancelled,
        "p50_ms": quantile_ms(counts.buckets, 0.5),
        "p95_ms": quantile_ms(counts.buckets, 0.95),
        "last_error": counts.last_error or None,
    }


def _group(endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "available": sum(endpoint["status"] in _AVAILABLE for endpoint in endpoints),
        "endpoints": len(endpoints),
        "in_flight": sum(endpoint["in_flight"] for endpoint in endpoints),
    }


def _requests(requests: RequestCounts) -> dict[str, Any]:
    total = requests.success + requests.failure + requests.rejected + requests.cancelled
    return {
        "total": total,
        "succeeded": requests.success,
        "failed": requests.failure,
        "rejected": requests.rejected,
        "cancelled": requests.cancelled,
        "cache_hits": requests.cache_hits,
        "success_rate": _share(requests.success, requests.failure),
    }


def _share(success: int, failure: int) -> float | None:
    """Percent; None before the first one."""
    return round(100 * success / (success + failure), 2) if success + failure else None
