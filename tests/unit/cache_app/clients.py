"""Clients that may leave, streams that take their time, and answers that are nothing but bytes."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cache_app.flight import Holder


class Client:
    """As the door's watch of a client: it gives the request up, unless others need what it works on."""

    def __init__(self) -> None:
        self.gone = False
        self.holder: Holder | None = None
        self.task: asyncio.Task[Any] | None = None

    def begin(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        self.task = asyncio.get_running_loop().create_task(work)
        return self.task

    def leave(self) -> None:
        self.gone = True
        self.let_go()

    def hold(self, holder: Holder) -> None:
        self.holder = holder

    def release(self, holder: Holder) -> None:
        if self.holder is holder:
            self.holder = None

    def let_go(self) -> None:
        if self.gone and self.task and (self.holder is None or not self.holder.needs(self)):
            self.task.cancel()


class PacedSource:
    """A stream whose pieces are there at certain times; a `piece` that is cancelled loses nothing."""

    is_stream = True

    def __init__(
        self, pieces: Sequence[bytes], interval_s: float = 1.0, fails_at: int | None = None, says_its_end: bool = False
    ) -> None:
        """fails_at: from this piece on it raises. says_its_end: the last piece tells that it is the last."""
        self.says_its_end = says_its_end
        self.pieces = list(pieces)
        self.closed_at: list[float] = []
        self.taken = 0
        self.reads = 0  # at a time
        self._interval_s = interval_s
        self._fails_at = fails_at
        self._due = asyncio.get_running_loop().time() + interval_s

    @property
    def complete(self) -> bool:
        return self.says_its_end and self.taken == len(self.pieces)

    async def piece(self) -> bytes | None:
        assert not self.closed_at, "read after it was closed"
        assert self.reads == 0, "read by two at a time"
        loop = asyncio.get_running_loop()
        self.reads += 1
        try:
            await asyncio.sleep(max(self._due - loop.time(), 0))
        finally:
            self.reads -= 1
        self._due = loop.time() + self._interval_s
        if self.taken == self._fails_at:
            raise SourceFailed
        if self.taken == len(self.pieces):
            return None
        self.taken += 1
        return self.pieces[self.taken - 1]

    def close(self) -> None:
        self.closed_at.append(asyncio.get_running_loop().time())


class SourceFailed(Exception):
    """Of a stream."""


async def settle(turns: int = 5) -> None:
    """Lets everything run that need not wait."""
    for _ in range(turns):
        await asyncio.sleep(0)


def at(delay_s: float, act: Callable[[], Any]) -> None:
    asyncio.get_running_loop().call_later(delay_s, act)
