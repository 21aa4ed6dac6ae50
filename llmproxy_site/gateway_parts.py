"""Builds everything that serves requests in one worker, and owns what runs in the background. No module state.

`llmproxy_site.asgi` builds one of these; tests build their own from a configuration of theirs.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from llmproxy_site.cache_parts import CacheParts
from llmproxy_site.log_redaction import known_secrets
from llmproxy_site.request_log import RequestLog
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink
from routing.affinity import Affinity
from routing.balancing.board import HealthBoard
from routing.balancing.selection import assess
from routing.balancing.shared_health import SharedHealth
from routing.carriers import Carriers
from routing.config.live import LiveTable
from routing.config.snapshot import LoadedConfiguration
from routing.config.table import Endpoint, RoutingTable, compile_table
from routing.config.watch import RevisionWatch
from routing.failover import Failover
from routing.gateway import Gateway
from routing.openai.doorstep import Neighbourhood
from routing.openai.entrance import Entrance
from routing.redaction import secrets_of
from stats.prices import Offer, PriceList
from stats.record_writer import RecordWriter
from stats.recorder import Recorder

if TYPE_CHECKING:  # it imports OpenTelemetry
    from llmproxy_site.traces_spans import Traces

_RESTART_AFTER_S = 1.0

log = structlog.get_logger(__name__)


def compile_loaded(loaded: LoadedConfiguration, variables: Mapping[str, str], secrets_dir: Path) -> RoutingTable:
    """What was loaded, with references resolved; the only place in a worker that sees secrets come in."""
    resolution = loaded.resolved(variables, secrets_dir)
    if resolution.all_missing:
        log.warning("references without a value: their endpoints stay out", missing=resolution.all_missing)
    table = compile_table(resolution, loaded.revision)
    known_secrets.learn(secrets_of(table))
    return table


class GatewayParts:
    """The collaborators of one worker, and its background tasks."""

    def __init__(
        self,
        table: RoutingTable,
        store: StoreLink,
        variables: Mapping[str, str],
        allowed_hosts: Iterable[str],
        cache_address: StoreAddress | None = None,
    ) -> None:
        """cache_address: None where the cache has no store of its own."""
        self.store = store
        self.live = LiveTable(table)
        self.board = HealthBoard()
        self.recorder = Recorder(store)
        self.draining = False
        self.revisions: RevisionWatch | None = None  # None: the table stays as it is
        self.records: RecordWriter | None = None  # None: none are kept
        self.request_log: RequestLog | None = None  # None: no lines
        self.traces: Traces | None = None  # None: none
        self._prices = PriceList()
        self._carriers = Carriers(variables)
        self.upstream_of = self._carriers.of
        self._shared_health = SharedHealth(self.board, store)
        self.board.announcer = self._shared_health
        self.affinity = Affinity(store)
        rng = random.Random()  # noqa: S311 - jitter and load, not secrets
        self.cache = CacheParts(store, cache_address or store.address, table.settings.cache_params, self.recorder)
        failover = Failover(self.board, self.upstream_of, self.recorder, rng)
        gateway = Gateway(self.live, self.board, failover, self.affinity, self.cache.caching, rng)
        self.entrance = Entrance(self.live, gateway, self.recorder, Neighbourhood(allowed_hosts))
        self.entrance.records.also(self.recorder)
        self.live.on_change(self._forget)
        self._priced()
        self._tasks: list[asyncio.Task[None]] = []

    def _forget(self, table: RoutingTable) -> None:
        """What is known of endpoints that are the same as before stays; the rest goes."""
        self._carriers.forget()
        self.cache.forget()
        self._priced()
        self._prices.refresh()
        self.board.keep_only(frozenset(table.endpoints))

    # -- life

    async def start(self) -> None:
        """Begins to follow the configuration, to share health and to flush counters."""
        if self.revisions is not None:
            self._run("revisions", self.revisions.run)
        self._run("shared health", lambda: self._shared_health.run(self.endpoint_ids))
        self._run("cache deletions", self.cache.listen)
        if self.records is not None:
            self._run("records", self.records.run)
            self._run("prices", lambda: self._prices.run(self._offers, self._priced))
        if self.request_log is not None:
            self._run("request log", self.request_log.run)
        if self.traces is not None:
            self._run("traces", self.traces.run)
        self._run("counters", lambda: self.recorder.flush_forever(self.in_flight))

    async def stop(self) -> None:
        """Tells the store what is left to tell, and closes all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Side by side: each of them may wait its seconds for who does not answer.
        for outcome in await asyncio.gather(*self._last_words(), return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("a part of the gateway did not stop in order", exc_info=outcome)
        await self.cache.aclose()
        await self.store.aclose()
        await self._carriers.aclose()

    def _last_words(self) -> Iterator[Coroutine[Any, Any, object]]:
        """What is left to tell; whatever does not arrive in time is lost, and a log line says so."""
        yield self._tell_counts()
        for background in (self.records, self.traces, self.request_log):
            if background is not None:
                yield background.stop()

    async def _tell_counts(self) -> None:
        if not await self.recorder.stop():
            log.warning("the store is away: the last counts of this worker are lost")

    def _run(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(_kept_running(name, work), name=name))

    def keep_records(self, records: RecordWriter) -> None:
        """Before the start."""
        self.records = records
        self.recorder.dropped_records = lambda: records.dropped
        self.entrance.records.also(records)

    def log_requests(self, request_log: RequestLog) -> None:
        """Before the start."""
        self.request_log = request_log
        self.entrance.records.also(request_log)

    def trace(self, traces: "Traces") -> None:
        """Before the start."""
        self.traces = self.entrance.tracing = traces

    def _offers(self) -> list[Offer]:
        return [_offer(endpoint) for endpoint in self.live.table.endpoints.values() if endpoint.price is None]

    def _priced(self) -> None:
        """Costs are computed from these on."""
        endpoints = self.live.table.endpoints.values()
        priced = ((endpoint.id, endpoint.price or self._prices.of(_offer(endpoint))) for endpoint in endpoints)
        self.recorder.prices = {endpoint_id: price for endpoint_id, price in priced if price is not None}

    # -- what operators ask

    def endpoint_ids(self) -> list[str]:
        return list(self.live.table.endpoints)

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """As it is configured now."""
        return self.live.table.endpoints.get(endpoint_id)

    async def end_cooldowns(self, endpoint_ids: list[str]) -> None:
        """In all workers. Raises ConnectionError when the others cannot be told; it has happened here all the same."""
        await self._shared_health.reset(endpoint_ids)

    async def delete_kept(self, group: str | None) -> int:
        """Kept answers of a model group (its `key`), or all; how many. In all workers. Raises ConnectionError."""
        return await self.cache.delete(group)

    def in_flight(self) -> dict[str, int]:
        """Attempts under way in this worker, by endpoint id."""
        endpoints = self.live.table.endpoints.values()
        return {endpoint.id: self.board.of(endpoint).in_flight for endpoint in endpoints}

    def groups_without_endpoint(self) -> list[str]:
        """Groups that nobody could serve now."""
        now = self.board.clock()
        groups = self.live.table.groups.values()
        return [g.name for g in groups if not assess(g.endpoints, self.board.of, now).any_available()]


def _offer(endpoint: Endpoint) -> Offer:
    azure = endpoint.provider is not None and endpoint.provider.kind == "azure"
    return Offer(endpoint.model, endpoint.base_url, azure)


async def _kept_running(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A mistake in the background must not leave a worker without news, numbers or configuration for ever."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a background task of the gateway failed; it starts again", task=name)
        await asyncio.sleep(_RESTART_AFTER_S)
