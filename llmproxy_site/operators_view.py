"""What /health and /stats say, from the parts of this worker and the counters of all."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from llmproxy_site import __version__
from llmproxy_site.gateway_parts import GatewayParts
from routing.balancing.board import HealthBoard
from routing.balancing.health import Availability, Health
from routing.balancing.selection import availability
from routing.balancing.status import status_of
from routing.config.table import Endpoint, RoutingTable
from stats.counters import EndpointCounts, RequestCounts, quantile_ms
from stats.queries import Numbers, read_numbers


async def health_view(parts: GatewayParts) -> dict[str, Any]:
    """`GET /health`."""
    table = parts.live.table
    connected = await parts.store.ping()
    now = parts.board.clock()
    endpoints = table.endpoints.values()
    states = [availability(endpoint, parts.board.of(endpoint), now) for endpoint in endpoints]
    degraded = not connected or bool(parts.groups_without_endpoint()) or bool(_refused(parts))
    return {
        "status": "degraded" if degraded else "healthy",
        "timestamp": utc(datetime.now(UTC)),
        "version": __version__,
        "redis_connected": connected,
        "state_sharing_enabled": connected and parts.store.address.kind != "in_process",
        "endpoints_configured": len(table.endpoints),
        "endpoints_available": sum(state in (Availability.AVAILABLE, Availability.PROBE) for state in states),
        "model_groups": sorted(table.groups),
        "config_revision": table.revision,
        **_refused(parts),
    }


def _refused(parts: GatewayParts) -> dict[str, Any]:
    """Only where there is one: a later revision that this worker does not serve."""
    refused = parts.revisions.refused if parts.revisions else None
    return {"config_refused": {"revision": refused.revision, "reason": refused.reason}} if refused else {}


async def stats_view(parts: GatewayParts) -> dict[str, Any]:
    """`GET /stats`."""
    table = parts.live.table
    numbers = await read_numbers(parts.store, parts.recorder, table.endpoints, parts.in_flight())
    return stats_of(table, parts.board, numbers)


def stats_of(table: RoutingTable, board: HealthBoard, numbers: Numbers) -> dict[str, Any]:
    """Numbers that have been read, as `/stats` tells them."""
    groups = {
        group.name: [_endpoint_view(endpoint, board, numbers) for endpoint in group.endpoints]
        for group in table.groups.values()
    }
    return {
        "timestamp": utc(datetime.now(UTC)),
        "config_revision": table.revision,
        "total_model_groups": len(table.groups),
        "total_endpoints": len(table.endpoints),
        "requests": _requests_view(numbers.counts.requests),
        "model_groups": groups,
        "cache": _cache_view(numbers.counts.cache),
    }


def _cache_view(counts: Counter[str]) -> dict[str, Any]:
    """hits = those of all tiers; every request that was routed is a hit, a miss or bypassed the cache."""
    by_tier, bypassed = _part(counts, "hit:"), _part(counts, "bypassed:")
    return {
        "hits": sum(by_tier.values()),
        "misses": counts["miss"],
        "bypassed": sum(bypassed.values()),
        "entries_written": counts["written:entries"],
        "bytes_written": counts["written:bytes"],
        "hits_by_tier": {tier: by_tier.get(tier, 0) for tier in ("process", "store", "flight")},
        "bypassed_by_reason": bypassed,
        "not_kept": _part(counts, "not_kept:"),
        "store_trouble": {what: _part(counts, f"{what}_trouble:") for what in ("read", "write")},
        "tokens_saved": {"input": counts["saved:input_tokens"], "output": counts["saved:output_tokens"]},
        "usd_saved": counts["saved:nano_usd"] / 1e9,
    }


def _part(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sorted(counts.items()) if name.startswith(prefix)}


def _requests_view(requests: RequestCounts) -> dict[str, int]:
    return {
        "total": requests.success + requests.failure + requests.rejected + requests.cancelled,
        "succeeded": requests.success,
        "failed": requests.failure,
        "rejected": requests.rejected,
        "cancelled": requests.cancelled,
        "cache_hits": requests.cache_hits,
    }


def _endpoint_view(endpoint: Endpoint, board: HealthBoard, numbers: Numbers) -> dict[str, Any]:
    health = board.of(endpoint)
    counts = numbers.counts.endpoints.get(endpoint.id, EndpointCounts())
    in_flight = numbers.in_flight.get(endpoint.id, 0)
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "config": {
            "model": endpoint.model,
            "weight": endpoint.weight,
            "base_url": endpoint.base_url,
            "provider": endpoint.provider.kind if endpoint.provider else None,
            "allowed_fails": endpoint.allowed_fails,
        },
        "state": {
            "status": status_of(endpoint, health, in_flight, board.clock()),
            **_counts_view(counts),
            "in_flight": in_flight,
            "consecutive_failures": health.consecutive_failures,
            "cooldown_until": _cooldown_until(health, board.clock()),
        },
    }


def _counts_view(counts: EndpointCounts) -> dict[str, Any]:
    judged = counts.success + counts.failure
    return {
        "total_requests": judged + counts.rejected + counts.cancelled,
        "successful_requests": counts.success,
        "failed_requests": counts.failure,
        "rejected_requests": counts.rejected,
        "cancelled_requests": counts.cancelled,
        "success_rate": round(100 * counts.success / judged, 2) if judged else None,
        "last_error": counts.last_error or None,
        "last_error_time": _utc_of(counts.last_error_at),
        "last_success_time": _utc_of(counts.last_success_at),
        "latency_ms": {"p50": quantile_ms(counts.buckets, 0.5), "p95": quantile_ms(counts.buckets, 0.95)},
        "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
    }


def _cooldown_until(health: Health, now: float) -> str | None:
    """The monotonic deadline as a time of day."""
    if not health.cooled() or now >= health.until:
        return None
    return utc(datetime.now(UTC) + timedelta(seconds=health.until - now))


def _utc_of(unix_time: float) -> str | None:
    return utc(datetime.fromtimestamp(unix_time, UTC)) if unix_time else None


def utc(moment: datetime) -> str:
    """ISO 8601 with Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
