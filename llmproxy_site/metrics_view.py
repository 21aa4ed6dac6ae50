"""What `/metrics` says of this worker and the counters of all: gathered here, put into words by `stats.metrics`."""

import asyncio
from contextlib import suppress

from llmproxy_site.gateway_parts import GatewayParts
from routing.balancing.status import status_of
from stats.metrics_series import stale
from stats.queries import Numbers, forget, read_numbers


async def metrics_view(parts: GatewayParts, accept: str) -> tuple[bytes, str]:
    """`GET /metrics`: the text, and its content type."""
    table = parts.live.table
    numbers = await read_numbers(parts.store, parts.recorder, table.endpoints, parts.in_flight(), series=True)
    if numbers.shared:
        await _forget_stale(parts, numbers)
    now = parts.board.clock()
    endpoints = []
    for endpoint in table.endpoints.values():
        in_flight = numbers.in_flight.get(endpoint.id, 0)
        state = status_of(endpoint, parts.board.of(endpoint), in_flight, now)
        endpoints.append((endpoint.name, state, in_flight))
    refused = parts.revisions.refused if parts.revisions else None
    revisions = (table.revision, refused.revision if refused else 0)
    # In a thread: the import takes 80 ms the first time, and many groups and endpoints make a long text.
    return await asyncio.to_thread(_rendered, numbers, endpoints, revisions, accept)


def _rendered(
    numbers: Numbers, endpoints: list[tuple[str, str, int]], revisions: tuple[int, int], accept: str
) -> tuple[bytes, str]:
    from stats.metrics import EndpointNow, Scrape, rendered  # with prometheus_client, for those who are ever scraped

    now = tuple(EndpointNow(*endpoint) for endpoint in endpoints)
    return rendered(Scrape(numbers.counts, numbers.shared, now, *revisions), accept)


async def _forget_stale(parts: GatewayParts, numbers: Numbers) -> None:
    """A configuration that changes its names for ever must not make the answer longer for ever."""
    table = parts.live.table
    names = [endpoint.name for endpoint in table.endpoints.values()]
    old = stale(numbers.counts.series.fields(), table.groups, names)
    if old:
        numbers.counts.series.drop(old)
        with suppress(ConnectionError):
            await forget(parts.store, old)
