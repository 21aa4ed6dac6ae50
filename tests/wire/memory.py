"""A connection of the fast client without a socket: bytes in by hand, all that it does to its transport on record."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from routing.upstream.dial import Dialer
from routing.upstream.http1 import Connection
from routing.upstream.http1_reply import Http1Reply
from routing.upstream.pool import Pool
from routing.upstream.sweeper import Sweeper
from routing.upstream.transport import Limits, Origin

ORIGIN = Origin("http", "127.0.0.1", 80)


class Transport:
    """What a connection asks of its transport."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.aborted = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return None


class Memory:
    """A pool with one open connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pool = Pool(ORIGIN, Dialer(), Sweeper((), loop=loop))
        self.transport = Transport()
        self.connection = Connection(self.pool)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.pool.connections.add(self.connection)

    def ask(self, max_body_bytes: int = 1 << 28) -> Http1Reply:
        if self.connection in self.pool.idle:
            self.pool.idle.remove(self.connection)
        return self.connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"", Limits(1, 1e9, 1, max_body_bytes))

    def feed(self, pieces: Iterable[bytes], closes: bool = False) -> None:
        """As a socket would: nothing more comes after an abort."""
        for piece in pieces:
            if piece and not self.transport.aborted:
                self.connection.feed(piece)
        if closes and not self.transport.aborted:
            self.connection.eof_received()
            self.connection.connection_lost(None)

    @property
    def reusable(self) -> bool:
        return self.connection in self.pool.idle


@contextmanager
def memory() -> Iterator[Memory]:
    loop = asyncio.new_event_loop()
    try:
        yield Memory(loop)
    finally:
        loop.close()
