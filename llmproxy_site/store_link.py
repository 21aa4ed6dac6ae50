"""The asyncio client of the store: pipelines and one subscription, bounded waits, and a circuit breaker.

A caller waits at most once for a store that does not answer; from then on calls fail at once, until one PING in the
background gets through. It never retries a command: whether that is right only the caller knows.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, RedisSSLContext, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from llmproxy_site.store import StoreAddress
from llmproxy_site.store_trouble import PROBE_INTERVAL_S, StoreNews, StoreUnavailable, reason, within

Word = str | bytes | int | float

_HEARTBEAT_S = 1.0  # of a subscription, where silence is no sign of trouble


class StoreLink:
    """A process's link to the store. Use it within one event loop.

    Times in seconds. `reply_timeout_s` bounds the wait for a free connection, and for all replies of one call. Clients
    that share `news` share the log lines about the store.
    """

    def __init__(
        self,
        address: StoreAddress,
        *,
        connect_timeout_s: float = 0.25,
        reply_timeout_s: float = 0.25,
        max_connections: int = 16,
        news: StoreNews | None = None,
    ) -> None:
        self.address = address
        self.available = True  # until a call shows otherwise
        self.news = news or StoreNews(address)
        self._new_connection = connection_maker(address)
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[AbstractConnection] = []
        self._probe: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, *commands: tuple[Word, ...], timeout_s: float | None = None) -> list[Any]:
        """Sends the commands as one pipeline (no MULTI) and returns their replies in order, bytes undecoded.

        `timeout_s` bounds the whole call, connecting included, where the link's own timeouts are too long. A command's
        own error stands in the list as a redis.exceptions.ResponseError. Raises StoreUnavailable; the commands may or
        may not have run then.
        """
        self._refuse_while_unavailable()
        try:
            async with within(timeout_s), self._connection() as connection, within(self._reply_timeout_s):
                return await _exchange(connection, commands)
        except StoreUnavailable:
            raise
        except (OSError, RedisError) as error:  # TimeoutError is an OSError
            raise self._failed(error) from error

    async def ping(self) -> bool:
        """Whether the store answers now; tells the breaker."""
        try:
            await self.run(("PING",))
        except StoreUnavailable:
            return False
        return True

    async def listen(
        self, channel: str, on_message: Callable[[bytes], None], on_connected: Callable[[], Awaitable[None]]
    ) -> None:
        """Hands over the channel's messages until cancelled; reconnects by itself, at the latest a second after the
        store is back. `on_connected` runs after each subscription: what was published before is lost."""
        while True:
            try:
                async with aclosing(self._messages(channel)) as messages:
                    async for message in messages:
                        if message is None:
                            await on_connected()
                        else:
                            on_message(message)
            except (OSError, RedisError) as error:
                self._failed(error)
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def aclose(self) -> None:
        """Closes the idle connections and stops probing. Calls under way end on their own."""
        self._closed = True
        self.news.forget(self)
        if self._probe is not None:
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe
        while self._idle:
            await _discard(self._idle.pop())
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AbstractConnection]:
        """A connection to be used alone; it goes back only if everything that was asked has been answered."""
        async with self._slot():
            self._refuse_while_unavailable()  # it may have been found out while we waited for the slot
            connection = await self._idle_connection() or await self._connect()
            transport = getattr(connection._writer, "transport", None)  # fakeredis has none
            try:
                yield connection
            except BaseException:
                if transport is not None:  # redis-py would wait until all is written: with a frozen store, for ever
                    transport.abort()
                await _discard(connection)  # also when cancelled: its reply would be the next caller's
                raise
            if self._closed:
                await _discard(connection)
            else:
                self._idle.append(connection)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with within(self._reply_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable("all connections to the store are busy") from None
        try:
            yield
        finally:
            self._slots.release()

    async def _idle_connection(self) -> AbstractConnection | None:
        while self._idle:
            connection = self._idle.pop()
            with suppress(OSError, RedisError):
                if connection.is_connected and not await connection.can_read():
                    return connection
            await _discard(connection)  # closed by the store, or something unasked-for has come
        return None

    async def _connect(self) -> AbstractConnection:
        connection = self._new_connection()
        try:
            async with within(self._connect_timeout_s):
                await connection.connect()
        except BaseException:
            await _discard(connection)
            raise
        return connection

    async def _messages(self, channel: str) -> AsyncGenerator[bytes | None, None]:
        """None once subscribed, then the messages. A PING a second shows whether the other end still lives."""
        connection = await self._connect()
        try:
            await connection.send_command("SUBSCRIBE", channel)
            unanswered = True
            while True:
                wait = self._reply_timeout_s if unanswered else _HEARTBEAT_S
                reply = await connection.read_response(timeout=wait, disconnect_on_error=False)
                if reply is None and unanswered:
                    raise TimeoutError
                unanswered = reply is None
                if reply is None:
                    await connection.send_command("PING")
                elif reply[0] == b"subscribe":
                    self._answered()
                    yield None
                elif reply[0] == b"message":
                    yield reply[2]
        finally:
            await _discard(connection)

    def _refuse_while_unavailable(self) -> None:
        if not self.available:
            raise StoreUnavailable("the store does not answer")
        if self._closed:
            raise StoreUnavailable("the link to the store is closed")

    def _failed(self, error: BaseException) -> StoreUnavailable:
        if self.available and not self._closed:
            self.available = False
            self.news.lost(self, error)
            if self._probe is None or self._probe.done():
                self._probe = asyncio.get_running_loop().create_task(self._probe_until_back())
        return StoreUnavailable(reason(error))

    def _answered(self) -> None:
        self.available = True
        self.news.found(self)

    async def _probe_until_back(self) -> None:
        while self._idle:  # they broke together
            await _discard(self._idle.pop())
        while not self.available:
            with suppress(OSError, RedisError):
                connection = await self._connect()
                try:
                    async with within(self._reply_timeout_s):
                        await _exchange(connection, [("PING",)])
                    self._answered()
                finally:
                    await _discard(connection)
            if not self.available:
                await asyncio.sleep(PROBE_INTERVAL_S)


async def _exchange(connection: AbstractConnection, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


async def _discard(connection: AbstractConnection) -> None:
    with suppress(OSError, RedisError):
        await connection.disconnect(nowait=True)


def connection_maker(address: StoreAddress) -> Callable[[], AbstractConnection]:
    """Makes connections as the address says: not yet open, without timeouts and retries of redis-py's own."""
    options: dict[str, Any] = {
        # Our own timeouts stand around every call; redis-py's would make a task for each write.
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }
    if address.kind == "in_process":
        from fakeredis.aioredis import FakeAsyncRedisConnection  # slow to import, and the last resort

        server = _store_of_this_process()
        return lambda: FakeAsyncRedisConnection(server=server, **options)
    given: dict[str, Any] = dict(parse_url(address.url))
    for ours in options.keys() & given.keys():
        del given[ours]
    connection_class = given.pop("connection_class", Connection)

    @cache
    def tls() -> RedisSSLContext:
        return SSLConnection(**options, **given).ssl_context

    def make() -> AbstractConnection:
        made: AbstractConnection = connection_class(**options, **given)
        if isinstance(made, SSLConnection):
            made.ssl_context = tls()  # reading the trust store anew for each connection would block for 30 ms
        return made

    return make


@cache
def _store_of_this_process() -> Any:
    from fakeredis import FakeServer

    return FakeServer()
