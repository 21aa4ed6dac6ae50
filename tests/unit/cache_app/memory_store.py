"""A store in memory, in virtual time: what it does with the cache's commands, for processes each with its own line."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from cache_app.commands import RENEW, REPLACE
from cache_app.store import AnswerStore, Place
from llmproxy_site.store_wire import unpacked
from tests.unit.cache_app.entries import DIGEST

PLACE = Place("g1", b"0123456789abcdef", DIGEST)
NAMESPACE = "cache"
PATIENCE_S = 0.05


class MemoryStore:
    """`kept`: key -> (value, when it expires)."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[bytes, float]] = {}
        self.subscribers: list[Callable[[], None]] = []
        self.refuses_tokens: Exception | None = None

    def value(self, kind: bytes, place: Place = PLACE) -> bytes | None:
        return self._get(b"%b:%b:%b:%b" % (NAMESPACE.encode(), place.group.encode(), kind, place.key))

    def execute(self, words: tuple[Any, ...]) -> Any:
        name, *rest = words
        carried_out = {
            "GET": lambda key: self._get(key),
            "MGET": lambda *keys: [self._get(key) for key in keys],
            "SET": self._put,
            "EVAL": self._evaluate,
            "UNLINK": lambda *keys: sum(self.kept.pop(key, None) is not None for key in keys),
            "STRLEN": lambda key: len(self._get(key) or b""),
            "SCAN": lambda *_: [b"0", list(self.kept)],
            "PUBLISH": lambda *_: [tell() for tell in self.subscribers] and len(self.subscribers),
        }
        return carried_out[name](*rest)

    def _put(self, key: bytes, value: bytes, *options: Any) -> bytes | Exception | None:
        if "NX" in options and self.refuses_tokens is not None:
            return self.refuses_tokens
        lies = self._get(key)
        if lies is None or "NX" not in options:
            self._set(key, value, options[-1] if "PX" in options else 1 << 40)
        elif "GET" not in options:
            return None
        return lies if "GET" in options else b"OK"

    def _evaluate(self, script: str, count: int, *words: Any) -> int | None:
        keys, arguments = words[:count], words[count:]
        if script == RENEW:
            lease_ms, *tokens = arguments
            for key, token in zip(keys, tokens, strict=True):
                if self._get(key) == token:
                    self._set(key, token, lease_ms)
            return None
        assert script == REPLACE
        (key,), (lies, by, lease_ms) = keys, arguments
        if self._get(key) != lies:
            return 0
        if by:
            self._set(key, by, lease_ms)
        else:
            del self.kept[key]
        return 1

    def _get(self, key: bytes) -> bytes | None:
        value, until = self.kept.get(key, (None, 0.0))
        return value if asyncio.get_running_loop().time() < until else None

    def _set(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        self.kept[key] = value, asyncio.get_running_loop().time() + ttl_ms / 1000


class MemoryLine:
    """A line and a link of one process. `delay_s` each way; in order."""

    def __init__(self, store: MemoryStore, delay_s: float = 0.001) -> None:
        self.store = store
        self.delay_s = delay_s
        self.gone = False  # nothing arrives
        self.deaf = False  # what arrives is carried out, but nobody hears of it
        self.refusal: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        self._arriving: deque[tuple[tuple[Any, ...], asyncio.Future[Any]]] = deque()
        self._returning: deque[tuple[Any, asyncio.Future[Any]]] = deque()

    def ask(self, *words: Any) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self.asked.append(words)
        if self.gone:
            loop.call_later(PATIENCE_S, self._give_up, reply)
        else:
            self._arriving.append((words, reply))
            loop.call_later(self.delay_s, self._arrive)
        return reply

    def ask_packed(self, command: bytes) -> "asyncio.Future[Any]":
        name, key, value, *options = unpacked(command)
        return self.ask(name.decode(), key, value, *(one.decode() for one in options[:-1]), int(options[-1]))

    def ask_for(self, waiter: Any, command: bytes) -> None:
        def tell(reply: "asyncio.Future[Any]") -> None:
            if (error := reply.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(reply.result())

        self.ask_packed(command).add_done_callback(tell)

    def ask_once(self, words: tuple[Any, ...]) -> "asyncio.Future[Any]":
        return self.ask(*words)

    def post(self, *words: Any) -> bool:
        self.ask(*words)
        return not self.gone

    async def run(self, *commands: tuple[Any, ...], timeout_s: float | None = None) -> list[Any]:
        return list(await asyncio.gather(*(self._settled(words) for words in commands)))

    async def _settled(self, words: tuple[Any, ...]) -> Any:
        try:
            return await self.ask(*words)
        except RedisError as refusal:
            return refusal

    def _arrive(self) -> None:
        words, reply = self._arriving.popleft()
        if self.deaf:
            self.store.execute(words)
            asyncio.get_running_loop().call_later(PATIENCE_S - self.delay_s, self._give_up, reply)
            return
        self._returning.append((self.refusal or self.store.execute(words), reply))
        asyncio.get_running_loop().call_later(self.delay_s, self._answer)

    def _answer(self) -> None:
        outcome, reply = self._returning.popleft()
        if reply.done():
            return
        if isinstance(outcome, Exception):
            reply.set_exception(outcome)
            reply.exception()
        else:
            reply.set_result(outcome)

    def _give_up(self, reply: "asyncio.Future[Any]") -> None:
        if not reply.done():
            reply.set_exception(ConnectionError("away"))
            reply.exception()


class Tally:
    """A ledger."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.troubles: Counter[tuple[str, str]] = Counter()

    def written(self, size: int) -> None:
        self.sizes.append(size)

    def trouble(self, what: str, reason: str) -> None:
        self.troubles[what, reason] += 1


class Process:
    """One process's access to the store."""

    def __init__(self, store: MemoryStore, delay_s: float = 0.001) -> None:
        self.line = MemoryLine(store, delay_s)
        self.link = MemoryLine(store, delay_s)
        self.tally = Tally()
        self.answers = AnswerStore(self.line, self.link, NAMESPACE, self.tally)
