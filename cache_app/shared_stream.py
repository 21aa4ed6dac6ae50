"""One stream for many equal requests: everybody gets all of its bytes from the first one, as they come.

Whoever needs the next piece first reads it for all; a client that stands still holds up nobody else.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from cache_app.flight import Presence

MOST_LAG = 1 << 20  # bytes that a reader may be behind in a stream that is not held whole


class Source(Protocol):
    """The stream itself. A `piece` that is cancelled loses nothing: the next call goes on."""

    @property
    def complete(self) -> bool:
        """All has come that matters, though perhaps not its end."""
        ...

    async def piece(self) -> bytes | None: ...

    def close(self) -> None:
        """Called once, when nobody is left or it has ended."""
        ...


class Budget:
    """Bytes that the streams of a worker may hold together."""

    def __init__(self, left: int) -> None:
        self.left = left


class Lagging(Exception):
    """This reader is further behind than is kept."""


class SharedStream:
    """Keeps all pieces up to `most_bytes`; from then on only what its readers have not taken yet, and no one joins."""

    def __init__(
        self,
        source: Source,
        most_bytes: int,
        budget: Budget,
        on_end: "Callable[[SharedStream], None]",
        most_lag: int = MOST_LAG,
    ) -> None:
        self._on_end = on_end
        self._budget = budget
        self._most_lag = most_lag
        self.ended = False
        self.overflown = False
        self.too_large = False
        self._source = source
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._first = 0  # the number of the first piece that is kept
        self._readers: set[StreamReader] = set()
        self._reading: StreamReader | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def join(self, presence: Presence) -> "StreamReader":
        """A reader from the first byte on. Only while `joinable`."""
        reader = StreamReader(self, presence)
        self._readers.add(reader)
        presence.hold(self)
        return reader

    @property
    def joinable(self) -> bool:
        """Whether its first byte is still there."""
        return not self.overflown

    def whole(self) -> bytes | None:
        """All bytes; None: not ended, cut short, or too many."""
        return b"".join(self._pieces) if self.ended and not self.overflown else None

    def has_all(self, reader: "StreamReader") -> bool:
        """Clients that know the end when they see it do not wait for more."""
        return reader.at == self._first + len(self._pieces) and self._source.complete

    def needs(self, presence: Presence) -> bool:
        reading = self._reading
        return reading is not None and reading.presence is presence and len(self._readers) > 1

    async def next(self, reader: "StreamReader") -> bytes | None:
        """The reader's next piece, None at the end. Raises Lagging."""
        while True:
            at = reader.at - self._first
            if at < 0:
                raise Lagging
            if at < len(self._pieces):
                reader.at += 1
                return self._pieces[at]
            if self.ended:
                return None
            if self._reading is None:
                await self._read(reader)
            else:
                await self._wait()

    def leave(self, reader: "StreamReader") -> None:
        """The last one closes the source."""
        self._readers.discard(reader)
        reader.presence.release(self)
        if not self._readers:
            if not self.ended:
                self.overflown = self.overflown or not self._source.complete
                self._end()
            self._budget.left += self._bytes  # not before: a slow reader holds what it has not taken
            self._bytes = 0
        elif len(self._readers) == 1 and self._reading is not None:
            self._reading.presence.let_go()  # it may have left before, and read on for us

    def _end(self) -> None:
        self.ended = True
        self._source.close()
        self._on_end(self)

    async def _read(self, reader: "StreamReader") -> None:
        self._reading = reader
        try:
            piece = await self._source.piece()
        finally:
            self._reading = None
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if piece is None:
            self._end()
        else:
            self._add(piece)
        reader.presence.let_go()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._budget.left -= len(piece)
        if self._bytes > self._most_bytes or self._budget.left < 0:
            self.overflown = self.too_large = True
        if self.overflown:
            self._drop()

    def _drop(self) -> None:
        """What all have taken, and of the rest, but for the newest piece, what is too much to be held."""
        slowest = min(reader.at for reader in self._readers)
        drop = 0
        while drop < len(self._pieces) - 1 and (self._first + drop < slowest or self._bytes > self._most_lag):
            self._bytes -= len(self._pieces[drop])
            self._budget.left += len(self._pieces[drop])
            drop += 1
        del self._pieces[:drop]
        self._first += drop


class StreamReader:
    """One reader's place in the stream."""

    __slots__ = ("at", "presence", "stream")

    def __init__(self, stream: SharedStream, presence: Presence) -> None:
        self.stream = stream
        self.presence = presence
        self.at = 0

    async def piece(self) -> bytes | None:
        return await self.stream.next(self)

    @property
    def has_all(self) -> bool:
        return self.stream.has_all(self)

    def leave(self) -> None:
        self.stream.leave(self)
