"""Counts what happens in this worker and carries the increments to the store, off the request path.

Exactly once: batches have numbers, and the store knows the last one of each worker, so a batch whose reply was lost is
sent again.
While the store is away, counting goes on here.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from stats.counters import Counts
from stats.metrics_series import written
from stats.prices import Price
from stats.record import AttemptRecord, RequestRecord

FLUSH_EVERY_S = 0.2
STOP_WITHIN_S = 3.0
_AGAIN_S = 0.1  # while stopping
_TOGETHER = 128  # attempts, or records, that are counted at a time: in a row each takes less
_GAUGE_EVERY_S = 1.0
PREFIX = "llmproxy:stats:"
METRICS = f"{PREFIX}metrics"  # what only `/metrics` tells
GAUGES = f"{PREFIX}gauges"  # worker -> "Unix time endpoint=in flight …"

# KEYS: the worker's own key, the hashes of requests, cache and metrics, then one hash per endpoint that changed.
# ARGV: the batch's number; for each hash after the first key: number of increments, (field, n)…, number of latest
# values, (field, value)…
# What somebody else put in the place of a counter makes way: it must not take the rest of the batch with it.
_APPLY = """
local function grow(key, field, by)
  local reply = redis.pcall('HINCRBY', key, field, by)
  if type(reply) ~= 'table' or not reply.err then return end
  if redis.call('TYPE', key).ok == 'hash' then redis.call('HDEL', key, field) else redis.call('DEL', key) end
  redis.pcall('HINCRBY', key, field, by)
end
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 2592000)
local at = 2
for index = 2, #KEYS do
  local count = tonumber(ARGV[at]); at = at + 1
  for _ = 1, count do grow(KEYS[index], ARGV[at], ARGV[at + 1]); at = at + 2 end
  count = tonumber(ARGV[at]); at = at + 1
  for _ = 1, count do redis.pcall('HSET', KEYS[index], ARGV[at], ARGV[at + 1]); at = at + 2 end
end
return 1
"""


class Store(Protocol):
    """The part of the store's client that is used here. Raises ConnectionError when the store does not answer."""

    async def run(self, *commands: tuple[str | bytes | int | float, ...]) -> list[Any]: ...


class Recorder:
    """The counts of one worker. `worker` names it among all that share a store."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.worker = uuid.uuid4().hex
        self.prices: Mapping[str, Price] = {}  # by endpoint id
        self.dropped_records: Callable[[], int] = lambda: 0  # ever, by this worker
        self._told_dropped = 0
        self._store = store
        self._clock = clock
        self._pending = Counts()  # but for what is noted only
        self._noted_attempts: list[tuple[AttemptRecord, int, int, float]] = []
        self._noted_records: list[RequestRecord] = []
        self._batched = Counts()  # all that ever left `_pending`
        self._batch: tuple[int, Counts] | None = None  # sent, but not known to have arrived
        self._number = 0
        self._sending = asyncio.Lock()  # one batch at a time: the reply to an older one must not pass for a newer one's

    # -- the hot path

    def attempt_ended(self, attempt: AttemptRecord, input_tokens: int = 0, output_tokens: int = 0) -> None:
        self._noted_attempts.append((attempt, input_tokens, output_tokens, self._clock()))
        if len(self._noted_attempts) >= _TOGETHER:
            self._count()

    def request_ended(self, outcome: str, *, hit: bool = False) -> None:
        """outcome: one of counters.OUTCOMES. hit: it was answered from the cache."""
        requests = self._pending.requests
        setattr(requests, outcome, getattr(requests, outcome) + 1)
        if hit and outcome == "success":
            requests.cache_hits += 1

    def add(self, record: RequestRecord) -> None:
        """What is only told by `/metrics`, of a request that has ended."""
        self._noted_records.append(record)
        if len(self._noted_records) >= _TOGETHER:
            self._count()

    def _count(self) -> None:
        """What was noted."""
        attempts, self._noted_attempts = self._noted_attempts, []
        records, self._noted_records = self._noted_records, []
        endpoint, series = self._pending.endpoint, self._pending.series
        for attempt, input_tokens, output_tokens, at in attempts:
            endpoint(attempt.endpoint_id).count(attempt, input_tokens, output_tokens, at)
            series.attempt(attempt.endpoint, attempt.outcome)
        for record in records:
            series.take(record)

    # -- the cache; every request that comes to it is a hit, a miss or bypasses it

    def hit(self, where: str, input_tokens: int = 0, output_tokens: int = 0, cost: int | None = None) -> None:
        """where: `process`, `store` or `flight`. Tokens, and billionths of a US dollar, that were not spent again."""
        cache = self._pending.cache
        cache["hit:" + where] += 1
        if input_tokens or output_tokens:
            cache["saved:input_tokens"] += input_tokens
            cache["saved:output_tokens"] += output_tokens
        if cost:
            cache["saved:nano_usd"] += cost

    def missed(self) -> None:
        self._pending.cache["miss"] += 1

    def bypassed(self, reason: str) -> None:
        self._pending.cache["bypassed:" + reason] += 1

    def not_kept(self, reason: str) -> None:
        """An answer that had come."""
        self._pending.cache["not_kept:" + reason] += 1

    def written(self, size: int) -> None:
        """One entry, of so many bytes in the store."""
        self._pending.cache["written:entries"] += 1
        self._pending.cache["written:bytes"] += size

    def trouble(self, what: str, reason: str) -> None:
        """what: `read` or `write`. reason: a class such as `OOM` or `away`."""
        self._pending.cache[f"{what}_trouble:{reason}"] += 1

    # -- the store

    def unsent(self) -> Counts:
        """What the store has not been told, or may not have heard."""
        unsent = Counts()
        if self._batch is not None:
            unsent.add(self._batch[1])
        self._count()
        unsent.add(self._pending)
        return unsent

    def own(self) -> Counts:
        """Everything that this worker has counted since it began."""
        own = Counts()
        own.add(self._batched)
        self._count()
        own.add(self._pending)
        return own

    async def flush(self) -> None:
        """One round trip; what could not be told is kept and told again. Raises ConnectionError."""
        async with self._sending:
            await self._send()

    async def stop(self, within_s: float = STOP_WITHIN_S) -> bool:
        """Tells what is left, also what was counted while the last batch was under way. False: the store did not take
        it in time, and it is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.unsent().empty():
                    try:
                        await self.flush()
                    except ConnectionError:
                        await asyncio.sleep(_AGAIN_S)
        return self.unsent().empty()

    async def added_to(self, read: Callable[[], Awaitable[Counts]]) -> Counts:
        """What `read` finds in the store, and what the store does not know yet: no batch leaves in between."""
        async with self._sending:
            await self._send()
            counts = await read()
            counts.add(self.unsent())
            return counts

    async def _send(self) -> None:
        if self._batch is None:
            self._count_dropped()
            self._count()
            if self._pending.empty():
                return
            self._number += 1
            self._batch, self._pending = (self._number, self._pending), Counts()
            self._batched.add(self._batch[1])
        replies = await self._store.run(_apply_command(self.worker, *self._batch))
        if isinstance(replies[0], Exception):
            raise ConnectionError("the store refused the counters")
        self._batch = None

    def _count_dropped(self) -> None:
        dropped = self.dropped_records()
        if dropped > self._told_dropped:
            self._pending.series.more(dropped - self._told_dropped, "records_dropped")
            self._told_dropped = dropped

    async def flush_forever(self, in_flight: Callable[[], dict[str, int]]) -> None:
        """in_flight: endpoint id -> attempts under way, for the gauges of this worker."""
        told_at, failed = 0.0, 0
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
                if time.monotonic() - told_at >= _GAUGE_EVERY_S:
                    told_at = time.monotonic()
                    await self._tell_gauges(in_flight())
            except ConnectionError:  # kept; the store's own log line says that it is away
                failed += 1
                continue
            if failed:
                self._pending.series.more(failed, "store_errors", "counters")
                failed = 0

    async def _tell_gauges(self, in_flight: dict[str, int]) -> None:
        told = " ".join(f"{endpoint_id}={count}" for endpoint_id, count in in_flight.items() if count)
        await self._store.run(("HSET", GAUGES, self.worker, f"{self._clock():.3f} {told}"))


def _apply_command(worker: str, number: int, counts: Counts) -> tuple[str | bytes | int | float, ...]:
    keys = [f"{PREFIX}batch:{worker}", f"{PREFIX}requests", f"{PREFIX}cache", METRICS]
    words: list[str | int] = [number]
    for fields in (counts.requests.increments(), counts.cache, written(counts.series.fields())):
        words += [*_increment_words(fields), 0]
    for endpoint_id, of_endpoint in counts.endpoints.items():
        keys.append(f"{PREFIX}endpoint:{endpoint_id}")
        latest = of_endpoint.latest()
        words += _increment_words(of_endpoint.increments())
        words += [len(latest), *(word for pair in latest.items() for word in pair)]
    return ("EVAL", _APPLY, len(keys), *keys, *words)


def _increment_words(fields: dict[str, int]) -> list[str | int]:
    return [len(fields), *(word for pair in fields.items() for word in pair)]
