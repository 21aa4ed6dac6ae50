"""Tells other workers and instances of cooldowns, failures and recoveries, and hears theirs; off the request path.

Times travel as durations (how long ago, how much longer), so that clocks of different machines need not agree. The
store also keeps running cooldowns, for workers that start or were cut off.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from routing.balancing.board import HealthBoard
from routing.balancing.health import Cooldown, Reason

CHANNEL = "llmproxy:health"
_COOLDOWN = "llmproxy:health:cooldown:"
_PROBE = "llmproxy:health:probe:"
_CLAIM_S = 3.0  # a granted probe that finds no request in this time may be claimed by another worker
_RENEW_EVERY_S = 1.0
_MOST_WAITING = 10_000

Command = tuple[str | bytes | int | float, ...]


class Store(Protocol):
    """The part of the store's client that is used here. Raises ConnectionError when the store does not answer."""

    @property
    def available(self) -> bool: ...
    async def run(self, *commands: Command) -> list[Any]: ...
    async def listen(
        self, channel: str, on_message: Callable[[bytes], None], on_connected: Callable[[], Awaitable[None]]
    ) -> None: ...


class _News(msgspec.Struct, array_like=True):
    """One message: cooldowns carry three times, recoveries one."""

    sender: str
    kind: str  # cooled | failed | healed | reset
    endpoint_id: str
    ago_s: float = 0.0  # cooled: since it began; healed: since the successful attempt began
    left_s: float = 0.0
    reason: str = Reason.FAILURE.value


_REASONS = frozenset(reason.value for reason in Reason)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_News)


class SharedHealth:
    """The board's announcer. Everything it is told waits in a bounded queue for one sending task."""

    def __init__(self, board: HealthBoard, store: Store) -> None:
        self._board = board
        self._store = store
        self._me = uuid.uuid4().hex
        self._waiting: asyncio.Queue[Command | str] = asyncio.Queue(_MOST_WAITING)
        self._known: Callable[[], list[str]] = list
        self._mine: set[str] = set()  # endpoints that this worker has cooled, and has not yet seen healed
        self._untold = False  # the store was away: news are lost

    async def run(self, endpoint_ids: Callable[[], list[str]]) -> None:
        """Until cancelled. endpoint_ids: those of the table that is served now."""
        self._known = endpoint_ids
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store.listen(CHANNEL, self._hear, self.catch_up))
            tasks.create_task(self._send_forever())
            tasks.create_task(self._renew_forever())

    # -- announcer

    def cooled(self, endpoint_id: str, cooldown: Cooldown, now: float) -> None:
        self._mine.add(endpoint_id)
        self._put(("DEL", _PROBE + endpoint_id))
        self._tell_cooldown(endpoint_id, cooldown, now)

    def failed(self, endpoint_id: str) -> None:
        self._tell(_News(self._me, "failed", endpoint_id))

    def healed(self, endpoint_id: str, began: float, now: float) -> None:
        self._mine.discard(endpoint_id)
        self._put(("DEL", _COOLDOWN + endpoint_id, _PROBE + endpoint_id))
        self._tell(_News(self._me, "healed", endpoint_id, now - began))

    def claim_probe(self, endpoint_id: str) -> None:
        """Asks for the one probe; without a store there is nobody to share it with."""
        if not self._store.available:
            self._board.grant_probe(endpoint_id, _CLAIM_S)
            return
        self._put(endpoint_id)

    async def reset(self, endpoint_ids: list[str]) -> None:
        """An operator ends all cooldowns of these endpoints, in every worker. Raises ConnectionError."""
        commands: list[Command] = []
        for endpoint_id in endpoint_ids:
            self._board.reset(endpoint_id)
            commands.append(("DEL", _COOLDOWN + endpoint_id, _PROBE + endpoint_id))
            commands.append(("PUBLISH", CHANNEL, _encode(_News(self._me, "reset", endpoint_id))))
        await self._store.run(*commands)

    def _tell_cooldown(self, endpoint_id: str, cooldown: Cooldown, now: float) -> None:
        left = cooldown.until - now
        news = _News(self._me, "cooled", endpoint_id, now - cooldown.began, left, cooldown.reason.value)
        self._put(("SET", _COOLDOWN + endpoint_id, _encode(news), "PX", max(1, int(left * 1000))))
        self._tell(news)

    def _tell_again(self) -> None:
        """Cooldowns of this worker that still run: while the store was away, nobody else could hear of them."""
        self._untold = False
        now = self._board.clock()
        for endpoint_id in list(self._mine):
            health = self._board.by_id(endpoint_id)
            if health.until > now:
                self._tell_cooldown(endpoint_id, Cooldown(health.began, health.until, health.reason), now)
            else:
                self._mine.discard(endpoint_id)

    def _tell(self, news: _News) -> None:
        self._put(("PUBLISH", CHANNEL, _encode(news)))

    def _put(self, item: Command | str) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()  # the oldest news matter least
        self._waiting.put_nowait(item)

    # -- sending

    async def _send_forever(self) -> None:
        while True:
            items = [await self._waiting.get()]
            while not self._waiting.empty():
                items.append(self._waiting.get_nowait())
            claims = list(dict.fromkeys(item for item in items if isinstance(item, str)))
            commands = [item for item in items if not isinstance(item, str)]
            commands += [("SET", _PROBE + i, self._me, "NX", "PX", int(_CLAIM_S * 1000)) for i in claims]
            try:
                replies = await self._store.run(*commands)
            except ConnectionError:
                self._untold = True
                replies = [b"OK"] * len(commands)  # cut off: each worker decides for itself
            for endpoint_id, reply in zip(claims, replies[len(replies) - len(claims) :], strict=True):
                if reply is not None:  # an error too: a store that is full or read-only must not keep endpoints out
                    self._board.grant_probe(endpoint_id, _CLAIM_S)

    async def _renew_forever(self) -> None:
        """A probe may take minutes; until it is answered no other worker sends one."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            if self._untold and self._store.available:
                self._tell_again()
            for endpoint_id in self._board.probing_ids():
                self._put(("SET", _PROBE + endpoint_id, self._me, "PX", int(_CLAIM_S * 1000)))

    # -- hearing

    def _hear(self, message: bytes) -> None:
        try:
            news = _decoder.decode(message)
        except _UNREADABLE:
            return  # of another version; what it says is in the store too
        if news.sender != self._me:
            self._merge(news)

    def _merge(self, news: _News) -> None:
        now = self._board.clock()
        if news.kind == "cooled" and news.reason in _REASONS:
            cooldown = Cooldown(now - news.ago_s, now + news.left_s, Reason(news.reason))
            self._board.merge_cooldown(news.endpoint_id, cooldown)
        elif news.kind == "failed":
            self._board.merge_failure(news.endpoint_id)
        elif news.kind == "healed":
            self._board.merge_healed(news.endpoint_id, now - news.ago_s)
        elif news.kind == "reset":
            self._board.reset(news.endpoint_id)

    async def catch_up(self, endpoint_ids: list[str] | None = None) -> None:
        """After (re)connecting: hears of cooldowns that run now, wherever they began, then tells its own once more.

        What was heard before stays. Raises ConnectionError.
        """
        ids = self._known() if endpoint_ids is None else endpoint_ids
        if not ids:
            return
        commands: list[Command] = [("GET", _COOLDOWN + endpoint_id) for endpoint_id in ids]
        commands += [("PTTL", _COOLDOWN + endpoint_id) for endpoint_id in ids]
        replies = await self._store.run(*commands)
        for value, left_ms in zip(replies[: len(ids)], replies[len(ids) :], strict=True):
            if not isinstance(value, bytes) or not isinstance(left_ms, int) or left_ms <= 0:
                continue
            try:
                news = _decoder.decode(value)
            except _UNREADABLE:
                continue
            if news.sender == self._me:
                continue
            passed = max(0.0, news.left_s - left_ms / 1000)
            self._merge(msgspec.structs.replace(news, ago_s=news.ago_s + passed, left_s=left_ms / 1000))
        self._tell_again()
