"""The answer to one request over HTTP/1.1: what has come of it, and the one who waits for the rest.

Keeps pieces and wakes; that they are a right answer is `http1`'s to know.
"""

import asyncio
from typing import TYPE_CHECKING

from routing.upstream.errors import ConnectionReset, UpstreamError, UpstreamTimeout
from routing.upstream.transport import Headers, Limits

if TYPE_CHECKING:
    from routing.upstream.http1 import Connection

HIGH_WATER = 64 * 1024  # bytes waiting for the reader; above it the socket is not read
MANY_PIECES = 16


class Http1Reply:
    """The answer to one request. Not the connection itself: that serves the next request once the answer is whole."""

    __slots__ = (
        "_compacted",
        "_connection",
        "_pause_at",
        "deadline",
        "done",
        "error",
        "headers",
        "idle_timeout_s",
        "max_body_bytes",
        "pieces",
        "quiet_since",
        "received",
        "status",
        "waiter",
    )

    def __init__(self, connection: "Connection", limits: Limits) -> None:
        self._connection = connection
        self._compacted = 0
        self._pause_at = HIGH_WATER if limits.max_body_bytes > HIGH_WATER else limits.max_body_bytes
        self.status = 0  # until the head has come
        self.headers: Headers = []
        self.deadline = limits.deadline
        self.idle_timeout_s: float | None = None
        self.max_body_bytes = limits.max_body_bytes
        self.pieces: list[bytes] = []
        self.received = 0
        self.done = False
        self.error: UpstreamError | None = None
        self.quiet_since = 0.0
        self.waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        if not self.done:
            self._pause_at = self.max_body_bytes
            while not self.done:
                await self.more()
        pieces = self.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.pieces = []
        return body

    async def piece(self) -> bytes | None:
        while not self.pieces:
            if self.done:
                return None
            await self.more()
        pieces = self.pieces
        self.pieces = []
        self._compacted = 0
        if not self.done:
            self._pause_at = min(self.received + HIGH_WATER, self.max_body_bytes)
            self._connection.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        if not self.done and self.error is None:
            self._connection.fail(ConnectionReset("closed by the reader"))

    def more(self) -> "asyncio.Future[None]":
        """Awaited, returns after the next read of the socket (one wake-up per read, however many pieces it held)."""
        if self.error is not None:
            raise self.error
        connection = self._connection
        connection.resume()
        self.waiter = waiter = connection.pool.loop.create_future()
        return waiter

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():  # cancelled
                waiter.set_result(None)

    def overdue(self, now: float, heard: bool) -> UpstreamTimeout | None:
        """Asked by the sweeper. `heard`: a byte came since it last asked. Silence counts only while somebody waits."""
        if now >= self.deadline:
            return UpstreamTimeout("total" if self.status else "head")
        if heard or self.waiter is None:
            self.quiet_since = now
        elif self.status and self.idle_timeout_s is not None and now - self.quiet_since >= self.idle_timeout_s:
            return UpstreamTimeout("idle")
        return None

    def take_in(self, piece: bytes) -> bool:
        """Keeps a piece of body; True when enough is waiting."""
        self.pieces.append(piece)
        self.received += len(piece)
        return self.received > self._pause_at

    def compact(self) -> None:
        """Joins what came in many pieces: in chunks of one byte they would cost fifty times the body's size."""
        if len(self.pieces) - self._compacted > MANY_PIECES:
            self.pieces[self._compacted :] = [b"".join(self.pieces[self._compacted :])]
            self._compacted = len(self.pieces)
