"""The store's client for the hot path: one connection for all requests of a worker, little patience, and a breaker.

For short, quick commands: whoever writes or reads large values, subscribes or runs what takes long uses the link, since
everybody else's replies queue behind. It never retries a command: whether that is right only the caller knows.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError

from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink, Word, connection_maker
from llmproxy_site.store_trouble import GRACE_S, PROBE_INTERVAL_S, StoreNews, StoreUnavailable, reason, within
from llmproxy_site.store_wire import MAX_QUEUED_BYTES, Reply, Waiter, Wire, error_class, pack, refuse, unpacked

_MOST_TASKS = 10_000


class StoreLine:
    """Use it within one event loop. Connects by itself when first used, and again whenever the connection is lost.

    Times in seconds; `reply_timeout_s` bounds the wait of every call, also while there is no connection yet. Since all
    share the connection: no blocking commands, no SELECT, MULTI, SUBSCRIBE or CLIENT REPLY; the command's name is one
    word. A value whose size is not known is best read with GETRANGE, up to what is still welcome.
    """

    def __init__(
        self,
        address: StoreAddress,
        *,
        connect_timeout_s: float = 0.25,
        reply_timeout_s: float = 0.05,
        news: StoreNews | None = None,
    ) -> None:
        self.address = address
        self.available = True  # until something shows otherwise
        self.refused: Counter[str] = Counter()  # posted commands by the class of the store's error: OOM, READONLY...
        self._news = news or StoreNews(address)
        self._new_plan = connection_maker(address)
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._wire: Wire | None = None  # once logged in
        self._early: list[tuple[bytes, Waiter | None]] = []  # commands that wait for it
        self._early_bytes = 0
        self._early_since = 0.0
        self._early_timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._attempted_at = float("-inf")
        self._closed = False

    def ask(self, *words: Word) -> Reply:
        """Sends one command; the future gets the reply, bytes undecoded, or a redis.exceptions.ResponseError, or
        StoreUnavailable: the command may or may not have run then. A cancelled one's reply goes to nobody."""
        return self.ask_packed(pack(words))

    def ask_packed(self, command: bytes) -> Reply:
        """The same of a command as it goes over the wire."""
        wire = self._wire
        if wire is not None:
            return wire.ask_packed(command)
        reply: Reply = asyncio.get_running_loop().create_future()
        self._ask_early(reply, command)
        return reply

    def ask_for(self, waiter: Waiter, command: bytes) -> None:
        """The same, and the waiter is told when the reply is read, not in the next turn of the loop. It must be quick
        and not fail; it costs less than a future with a callback."""
        wire = self._wire
        if wire is None:
            self._ask_early(waiter, command)
        else:
            wire.ask_for(waiter, command)

    def ask_once(self, words: tuple[Word, ...]) -> Reply:
        """The same as `ask`, for all who ask it before it is sent: one future, which nobody may cancel."""
        wire = self._wire
        return wire.ask_once(words) if wire is not None else self.ask(*words)

    def post(self, *words: Word) -> bool:
        """Sends one command whose reply nobody waits for; an error counts into `refused`. False: it was not sent."""
        wire = self._wire
        return wire.send(pack(words), None) if wire is not None else self._queue_early(pack(words), None)

    async def run(self, *commands: tuple[Word, ...], timeout_s: float | None = None) -> list[Any]:
        """Sends the commands together (no MULTI) and returns their replies in order, bytes undecoded.

        `timeout_s` where the line's own patience is too long. A command's own error stands in the list as a
        redis.exceptions.ResponseError. Raises StoreUnavailable; the commands may or may not have run then.
        """
        waiters = [self.ask(*words) for words in commands]
        try:
            async with within(timeout_s):
                replies = await asyncio.gather(*waiters, return_exceptions=True)
        except TimeoutError as error:
            raise StoreUnavailable(reason(error)) from error  # whether the store is away, the line's patience decides
        for reply in replies:
            if isinstance(reply, StoreUnavailable):
                raise reply
        return replies

    def connect(self) -> None:
        """Begins to connect, if it is not: the first request need not wait for it then."""
        if self._wire is None and not self._closed and (self._opening is None or self._opening.done()):
            self._opening = asyncio.get_running_loop().create_task(self._open_until_it_works())

    async def aclose(self) -> None:
        """Gives what was posted the time of one reply to arrive, and closes."""
        if self._wire is not None or self._early:
            with suppress(StoreUnavailable, ResponseError):
                await self.ask("PING")
        self._closed = True
        self._news.forget(self)
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        self._refuse_early("closed")
        if self._wire is not None:
            self._wire.end(None)
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn

    # before there is a connection

    def _ask_early(self, waiter: Waiter, packed: bytes) -> None:
        if not self._queue_early(packed, waiter):
            refuse(waiter, "the line to the store is closed" if self._closed else "the store does not answer")

    def _queue_early(self, packed: bytes, waiter: Waiter | None) -> bool:
        if not self.available or self._closed or self._early_bytes > MAX_QUEUED_BYTES:
            return False
        self._early.append((packed, waiter))
        self._early_bytes += len(packed)
        if self._early_timer is None:
            loop = asyncio.get_running_loop()
            self._early_since = loop.time()
            self._early_timer = loop.call_later(self._reply_timeout_s, self._lose_patience, loop)
        self.connect()
        return True

    def _lose_patience(self, loop: asyncio.AbstractEventLoop, pardoned: bool = False) -> None:
        if pardoned:
            self._failed(TimeoutError())
        else:  # if this process stood still, that is not the store's fault
            late = loop.time() - self._early_since - self._reply_timeout_s
            self._early_timer = loop.call_later(min(late, GRACE_S), self._lose_patience, loop, True)

    def _refuse_early(self, trouble: str) -> None:
        for _, waiter in self._take_early():
            if waiter is not None:
                refuse(waiter, trouble)

    def _take_early(self) -> list[tuple[bytes, Waiter | None]]:
        if self._early_timer is not None:
            self._early_timer.cancel()
            self._early_timer = None
        early, self._early = self._early, []
        self._early_bytes = 0
        return early

    # the connection's life

    async def _open_until_it_works(self) -> None:
        """Four attempts a second at most, also if connections do not live long."""
        loop = asyncio.get_running_loop()
        while self._wire is None:
            await asyncio.sleep(self._attempted_at + PROBE_INTERVAL_S - loop.time())
            self._attempted_at = loop.time()
            try:
                async with within(self._connect_timeout_s):
                    await self._open()
            except (OSError, RedisError, UnicodeError, TypeError) as error:
                self._failed(error)  # the last two: a host's name, an option in the URL that redis-py does not know

    async def _open(self) -> None:
        plan = self._new_plan()  # redis-py's reading of the address; its connection is never opened
        wire = await _dial(plan, lambda: Wire(self._reply_timeout_s, self.refused, self._ended))
        try:
            await asyncio.gather(*[wire.ask(words) for words in _greeting(plan)])
            if not wire.is_open:
                raise ConnectionResetError
        except BaseException as error:
            wire.end(error)
            raise
        self._wire = wire
        self.available = True
        self._news.found(self)
        begun = self._early_since
        for packed, waiter in self._take_early():
            if waiter is None or not waiter.done():
                wire.send(packed, waiter)
        wire.flush(begun)

    def _ended(self, wire: Wire, error: BaseException | None) -> None:
        if wire is not self._wire:
            return  # it never came to be used
        self._wire = None
        if error is not None:
            self._failed(error)
        self.connect()

    def _failed(self, error: BaseException) -> None:
        if not self._closed:
            self.available = False
            self._news.lost(self, error)
        self._refuse_early(reason(error))


class LineInProcess:
    """StoreLine's interface where the store is in this process: tasks over a link, since there is no connection."""

    def __init__(self, address: StoreAddress, *, news: StoreNews | None = None) -> None:
        self.address = address
        self.refused: Counter[str] = Counter()
        # One connection keeps the order; it cannot hang, but many commands may wait for their turn.
        self._link = StoreLink(address, reply_timeout_s=10.0, max_connections=1, news=news)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def available(self) -> bool:
        return self._link.available

    def ask(self, *words: Word) -> Reply:
        return self._begin(self._reply(words))

    def ask_packed(self, command: bytes) -> Reply:
        return self.ask(*unpacked(command))

    def ask_for(self, waiter: Waiter, command: bytes) -> None:
        self.ask_packed(command).add_done_callback(partial(_hand_over, waiter))

    def ask_once(self, words: tuple[Word, ...]) -> Reply:
        """For each who asks: nothing is sent that could be spared."""
        return self.ask(*words)

    def post(self, *words: Word) -> bool:
        if self._closed or not self.available or len(self._tasks) > _MOST_TASKS:
            return False
        self._begin(self._counted(words))
        return True

    async def run(self, *commands: tuple[Word, ...], timeout_s: float | None = None) -> list[Any]:
        return await self._link.run(*commands, timeout_s=timeout_s)

    def connect(self) -> None:
        """There is nothing to connect to."""

    async def aclose(self) -> None:
        self._closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.aclose()

    def _begin(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it counts as seen: who asked may have left without awaiting it

    async def _reply(self, words: tuple[Word, ...]) -> Any:
        [reply] = await self._link.run(words)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def _counted(self, words: tuple[Word, ...]) -> None:
        try:
            await self._reply(words)
        except ResponseError as error:
            self.refused[error_class(error)] += 1


def _hand_over(waiter: Waiter, reply: Reply) -> None:
    error = ConnectionError("cancelled") if reply.cancelled() else reply.exception()
    if isinstance(error, Exception):
        waiter.set_exception(error)
    else:
        waiter.set_result(reply.result())


def store_line(
    address: StoreAddress, *, reply_timeout_s: float = 0.05, news: StoreNews | None = None
) -> StoreLine | LineInProcess:
    """The line to this store. Clients that share `news` share the log lines about it."""
    if address.kind == "in_process":
        return LineInProcess(address, news=news)
    return StoreLine(address, reply_timeout_s=reply_timeout_s, news=news)


async def _dial(plan: AbstractConnection, new_wire: Callable[[], Wire]) -> Wire:
    loop = asyncio.get_running_loop()
    if isinstance(plan, UnixDomainSocketConnection):
        _, wire = await loop.create_unix_connection(new_wire, plan.path)
        return wire
    assert isinstance(plan, Connection)  # noqa: S101 - there is no third kind
    tls = await asyncio.to_thread(plan.ssl_context.get) if isinstance(plan, SSLConnection) else None
    transport, wire = await loop.create_connection(new_wire, plan.host, plan.port, ssl=tls)
    if plan.socket_keepalive:  # else a firewall may forget an idle line, and a request would be the first to notice
        connected = transport.get_extra_info("socket")
        with suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in cast(dict[int, int], plan.socket_keepalive_options).items():
                connected.setsockopt(socket.IPPROTO_TCP, option, value)
    return wire


def _greeting(plan: AbstractConnection) -> Iterator[tuple[Word, ...]]:
    """What comes first on a connection; it is in use once all of it is answered well."""
    if plan.username or plan.password:
        yield ("AUTH", plan.username, plan.password or "") if plan.username else ("AUTH", plan.password or "")
    if plan.client_name:
        yield "CLIENT", "SETNAME", plan.client_name
    if plan.db:
        yield "SELECT", plan.db
    yield ("PING",)
