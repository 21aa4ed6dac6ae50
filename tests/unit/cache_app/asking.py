"""Clients that ask for answers through the cache of a process, an upstream that counts them, and what they get."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cache_app.answers import AnswerCache, Found, Shared
from cache_app.deletion import delete_answers
from cache_app.entry import Entry
from cache_app.flight import Presence
from cache_app.shared_stream import Lagging
from cache_app.store import Place
from tests.unit.cache_app.clients import Client, PacedSource
from tests.unit.cache_app.entries import entry
from tests.unit.cache_app.memory_store import NAMESPACE, MemoryLine, MemoryStore, Process

UNIX_NOW = 2000.0


def place_of(key: bytes) -> Place:
    return Place("g1", key, key.ljust(32, b"-"))


class AskingFailed(Exception):
    """No upstream could answer."""


class FailsForAll(AskingFailed):
    """Nobody who waited need ask again."""


class Whole:
    """An answer that came whole."""

    is_stream = False
    complete = True

    def __init__(self, body: bytes, good: bool = True) -> None:
        self.body = body
        self.good = good

    async def piece(self) -> bytes | None:
        return None

    def close(self) -> None:
        """There is nothing to close."""


class Streamed(PacedSource):
    """An answer that comes in pieces."""

    good = True


@dataclass
class Upstream:
    """What it does is told by `plans`, in order; then it gives a good answer after a second."""

    plans: list[Callable[[bytes], Any]] = field(default_factory=list)
    after_s: float = 1.0
    streams: bool = False
    calls: Counter[bytes] = field(default_factory=Counter)
    under_way: Counter[bytes] = field(default_factory=Counter)
    most_at_a_time: int = 0
    too_large: int = 0  # streams
    given: list[Streamed] = field(default_factory=list)

    async def ask(self, key: bytes) -> Any:
        number = self.calls[key]
        self.calls[key] += 1
        self.under_way[key] += 1
        self.most_at_a_time = max(self.most_at_a_time, self.under_way[key])
        plan = self.plans.pop(0) if self.plans else self.good
        try:
            await asyncio.sleep(self.after_s)
            answer = plan(b"%b %d" % (key, number))
        finally:
            self.under_way[key] -= 1
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Streamed):
            self.given.append(answer)
        return answer

    def good(self, body: bytes) -> Any:
        return stream_of(body) if self.streams else Whole(body)


def stream_of(body: bytes) -> Streamed:
    """One byte a second."""
    return Streamed([body[i : i + 1] for i in range(len(body))])


def bad(body: bytes) -> Whole:
    """One that is nobody else's business."""
    return Whole(b"bad " + body, good=False)


def fails(body: bytes) -> AskingFailed:
    return AskingFailed(body.decode())


def fails_for_all(body: bytes) -> AskingFailed:
    return FailsForAll(body.decode())


@dataclass
class Wanted:
    """One cacheable request."""

    place: Place
    presence: Presence
    upstream: Upstream
    most_bytes: int = 1 << 20
    lasts_s: float = 3600.0

    async def ask(self) -> Any:
        return await self.upstream.ask(self.place.key)

    def fails_for_all(self, error: Exception) -> bool:
        return isinstance(error, FailsForAll)

    def was_too_large(self) -> None:
        self.upstream.too_large += 1

    def entry(self, answer: Any, body: bytes | None) -> Entry | None:
        if not answer.good:
            return None
        return entry(
            answer.body if body is None else body,
            digest=self.place.digest,
            made_at=UNIX_NOW,
            expires_at=UNIX_NOW + self.lasts_s,
        )


@dataclass
class Got:
    """What a client got. where: `process`, `store`, `flight`, `asked`, `failed`, `lagging`; `left` if it had left."""

    client: Client
    where: str = ""
    body: bytes = b""
    over_at: float = 0.0


class Worker:
    """A process with a cache of its own in front of the common store."""

    def __init__(self, store: MemoryStore, upstream: Upstream, delay_s: float = 0.001) -> None:
        self.process = Process(store, delay_s)
        self.upstream = upstream
        self.cache: AnswerCache[Any] = AnswerCache(self.process.answers, lambda: UNIX_NOW, most_lag=1)
        store.subscribers.append(lambda: asyncio.get_running_loop().call_later(delay_s, self.cache.tier.clear))

    def asks(self, key: bytes = b"k", pause_s: float = 0.0, **more: Any) -> Got:
        """A client that begins now, and takes its answer with a pause after each piece."""
        client = Client()
        got = Got(client)
        wanted = Wanted(place_of(key), client, self.upstream, **more)
        client.begin(self._serve(wanted, got, pause_s))
        return got

    def under_way(self) -> set[bytes]:
        """The keys that are asked for, or come, now: who wants one joins."""
        cache = self.cache
        return {*cache._flights._flights, *cache._stream_flights._flights, *cache._streams}

    async def _serve(self, wanted: Wanted, got: Got, pause_s: float) -> None:
        try:
            if self.upstream.streams:
                await self._stream(wanted, got, pause_s)
            else:
                result = await self.cache.answer(wanted)
                _take_whole(result, got)
        except AskingFailed:
            got.where = "failed"
        except asyncio.CancelledError:
            got.where = "left"
        finally:
            got.over_at = asyncio.get_running_loop().time()

    async def _stream(self, wanted: Wanted, got: Got, pause_s: float) -> None:
        result = await self.cache.stream(wanted)
        if not isinstance(result, Shared):
            await _take(result, got)
            return
        got.where = "asked" if result.leads else "flight"
        try:
            if got.client.gone:
                raise asyncio.CancelledError
            while (piece := await result.reader.piece()) is not None:
                got.body += piece
                await asyncio.sleep(pause_s)
        except Lagging:
            got.where = "lagging"
        finally:
            result.reader.leave()


def _take_whole(result: Found | Whole, got: Got) -> None:
    if got.client.gone:
        raise asyncio.CancelledError
    got.where = result.where if isinstance(result, Found) else "asked"
    got.body = result.entry.body if isinstance(result, Found) else result.body


async def _take(result: Any, got: Got) -> None:
    """Of an answer that is not shared."""
    if not isinstance(result, Streamed):
        _take_whole(result, got)
        return
    got.where = "asked"
    try:
        while (piece := await result.piece()) is not None:
            got.body += piece
    finally:
        result.close()


async def until_over(*gots: Got) -> None:
    await asyncio.gather(*(got.client.task for got in gots), return_exceptions=True)


async def delete(store: MemoryStore, group: str | None = None) -> int:
    return await delete_answers(MemoryLine(store), NAMESPACE, group)
