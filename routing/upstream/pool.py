"""The connections to one origin, the last used first. Bounds their number; opens them through `dial`."""

import asyncio
import collections

from routing.upstream.dial import Dialer
from routing.upstream.errors import CONNECT_TIMEOUT, ConnectFailed, PoolFull, UpstreamTimeout
from routing.upstream.http1 import Connection
from routing.upstream.sweeper import Sweeper
from routing.upstream.transport import Limits, Origin

READ_BYTES = 64 * 1024  # of one read of a socket


class Pool:
    """One origin's connections: idle, in use, and being opened."""

    __slots__ = ("_closed", "_connecting", "_dialer", "connections", "idle", "loop", "origin", "read_buffer", "sweeper")

    def __init__(self, origin: Origin, dialer: Dialer, sweeper: Sweeper) -> None:
        self.origin = origin
        self.loop = sweeper.loop
        self.connections: set[Connection] = set()  # idle ones too: no set changes while requests come and go
        self.idle: collections.deque[Connection] = collections.deque()
        self.read_buffer = memoryview(bytearray(READ_BYTES))
        self._connecting = 0
        self._dialer = dialer
        self.sweeper = sweeper
        self._closed = False

    def __repr__(self) -> str:
        origin, idle = self.origin, len(self.idle)
        return (
            f"<Pool {origin.scheme}://{origin.authority} idle={idle} in_use={len(self.connections) - idle}"
            f" connecting={self._connecting}>"
        )

    async def connect(self, limits: Limits) -> Connection:
        """A new connection. Raises PoolFull, ConnectFailed, UpstreamTimeout("head")."""
        self._make_room(limits.max_connections)
        now = self.loop.time()
        give_up_at = min(now + limits.connect_timeout_s, limits.deadline)
        self._connecting += 1
        try:
            async with asyncio.timeout_at(give_up_at):
                connection = await self._dialer.open(self.origin, lambda: Connection(self))
        except TimeoutError as error:
            if give_up_at == limits.deadline:
                raise UpstreamTimeout("head") from error
            raise ConnectFailed(CONNECT_TIMEOUT) from error
        finally:
            self._connecting -= 1
        if not connection.is_open:
            raise ConnectFailed("closed as soon as it was open")
        self.connections.add(connection)
        return connection

    def _make_room(self, max_connections: int) -> None:
        if len(self.connections) + self._connecting < max_connections:
            return
        if not self.idle:  # idle ones are left over only when a new connection is asked for
            raise PoolFull("all connections are in use")
        self.idle[0].retire()

    def take_back(self, connection: Connection) -> None:
        """Its answer is whole, and it may be used again."""
        if self._closed:
            connection.retire()
            return
        connection.idle_since = self.sweeper.now
        self.idle.append(connection)

    def withdraw(self, connection: Connection) -> None:
        """It must not be used again; what is being read from it goes on."""
        if connection.reply is None and connection in self.idle:
            self.idle.remove(connection)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self.withdraw(connection)
        self.connections.discard(connection)

    def retire_idle(self, since: float) -> None:
        """Closes what has not been used after `since`."""
        while self.idle and self.idle[0].idle_since <= since:
            self.idle[0].retire()

    def close(self) -> None:
        self._closed = True
        self.retire_idle(float("inf"))
