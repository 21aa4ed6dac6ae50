"""One open connection to the store that many share: commands of a turn of the loop leave in one write, replies come
back in order and wake their waiters. When anything is wrong with it, it ends, and all its waiters with it.

Knows nothing of addresses, breakers or reconnecting: the line does.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from llmproxy_site.store_link import Word
from llmproxy_site.store_trouble import GRACE_S, StoreUnavailable, reason


class Waiter(Protocol):
    """Gets a reply when it is read, once, or why there is none. As much of a future as is needed here."""

    def done(self) -> bool:
        """Nobody waits any more."""
        ...

    def set_result(self, reply: Any, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...

    def exception(self) -> BaseException | None: ...


Reply = asyncio.Future[Any]
pack = cast(Callable[[tuple[Word, ...]], bytes], hiredis.pack_command)

MAX_QUEUED_BYTES = 2 << 20  # not yet written; what comes then is refused
MAX_REPLY_BYTES = 16 << 20  # of one reply, or of several that came together
_READ_BYTES = 256 << 10
_NOTHING = object()  # hiredis's own sign for "no whole reply yet" is False, which RESP3 can say, too
_ERROR_CLASSES = {
    *("BUSY", "CLUSTERDOWN", "CROSSSLOT", "EXECABORT", "MASTERDOWN", "MISCONF", "MOVED", "NOPERM", "NOREPLICAS"),
    *("NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "WRONGTYPE"),
}


class Wire(asyncio.BufferedProtocol):
    """`on_end` is told once, with None if the connection was lost while nothing was outstanding."""

    __slots__ = (
        "_answered",
        "_buffer",
        "_flush_due",
        "_loop",
        "_new_reply",
        "_noted",
        "_on_end",
        "_once",
        "_outgoing",
        "_pardoned",
        "_paused",
        "_queued_bytes",
        "_reader",
        "_refused",
        "_reply_timeout_s",
        "_timer",
        "_transport",
        "_turns",
        "_waiting",
    )

    def __init__(
        self, reply_timeout_s: float, refused: Counter[str], on_end: Callable[["Wire", BaseException | None], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._new_reply: Callable[[], Reply] = self._loop.create_future
        self._reply_timeout_s = reply_timeout_s
        self._refused = refused
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        # A view, since asyncio's TLS writes into slices of it, and a slice of a bytearray is a copy.
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_NOTHING
        )
        self._outgoing: list[bytes] = []
        self._once: dict[tuple[Word, ...], Reply] = {}  # of those
        self._queued_bytes = 0
        self._flush_due = False
        self._paused = False
        self._waiting: deque[Waiter | None] = deque()  # None: nobody waits for that reply
        self._answered = 0  # replies so far
        # For the deadline: the number of the first command of each turn, and when it was to be written. A time for each
        # turn, and one timer for all of them, cost a tenth of a timer for each command.
        self._turns: deque[tuple[int, float]] = deque()
        self._noted = 0
        self._pardoned = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def ask(self, words: tuple[Word, ...]) -> Reply:
        return self.ask_packed(pack(words))

    def ask_packed(self, command: bytes) -> Reply:
        reply = self._new_reply()
        if not self.send(command, reply):
            refuse(reply, "too many bytes wait to be sent")
        return reply

    def ask_for(self, waiter: Waiter, command: bytes) -> None:
        """A waiter that is no future is told while replies are read: it must be quick and not fail."""
        if not self.send(command, waiter):
            refuse(waiter, "too many bytes wait to be sent")

    def ask_once(self, words: tuple[Word, ...]) -> Reply:
        """One reply for all who ask it before it is written."""
        reply = self._once.get(words)
        if reply is None:
            reply = self._once[words] = self.ask(words)
        return reply

    def send(self, packed: bytes, waiter: Waiter | None) -> bool:
        """False if too much is queued already. Only on an open connection."""
        if self._queued_bytes > MAX_QUEUED_BYTES:
            return False
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        self._queued_bytes += len(packed)
        self._outgoing.append(packed)
        self._waiting.append(waiter)
        return True

    def flush(self, begun: float) -> None:
        """Writes what is queued now. Its time limit counts from `begun`."""
        self._once.clear()
        asked = self._answered + len(self._waiting)
        if asked > self._noted:
            self._turns.append((self._noted, begun))
            self._noted = asked
            if self._timer is None:
                self._timer = self._loop.call_at(begun + self._reply_timeout_s, self._judge)
        if self._outgoing and not self._paused and self._transport is not None:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self._queued_bytes = 0
            self._transport.write(data)

    def end(self, error: BaseException | None) -> None:
        """At once: what is outstanding gets no reply."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(self, error)
        for waiter in self._waiting:
            if waiter is not None:
                refuse(waiter, reason(error) if error else "closed")
        self._waiting.clear()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type] # any buffer will do
        try:
            while (reply := reader.gets()) is not _NOTHING:
                waiter = waiting.popleft()
                self._answered += 1
                if isinstance(reply, RedisError):
                    self._take_error(waiter, reply)
                elif waiter is not None and not waiter.done():  # a cancelled one is skipped
                    waiter.set_result(reply)
        except RedisError as error:
            self.end(error)
        except IndexError:
            self.end(InvalidResponse("a reply that nobody asked for"))
        if reader.len() > MAX_REPLY_BYTES:
            self.end(StoreUnavailable("a reply is too large"))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.end((error or ConnectionResetError()) if self._waiting else None)

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is not None:
            self.flush(self._loop.time())

    # rarer steps

    def _judge(self) -> None:
        """Ends the connection if the oldest outstanding command is overdue; looks again when it would be, else."""
        self._timer = None
        turns = self._turns
        while turns and (turns[1][0] if len(turns) > 1 else self._noted) <= self._answered:
            turns.popleft()
        if not turns:
            return
        first, begun = turns[0]
        now = self._loop.time()
        late = now - begun - self._reply_timeout_s
        if late < 0:
            self._timer = self._loop.call_at(begun + self._reply_timeout_s, self._judge)
        elif first >= self._pardoned:
            # We come late because this process stood still, if only for a blink: so long may the store need to answer,
            # and what has arrived is read first. Once for each command, or a store that is away would be waited for.
            self._pardoned = self._noted
            self._timer = self._loop.call_later(min(late, GRACE_S), self._judge)
        else:
            self.end(TimeoutError())

    def _take_error(self, waiter: Waiter | None, error: RedisError) -> None:
        if not isinstance(error, ResponseError):  # the store as a whole: loading, not logged in
            self._waiting.appendleft(waiter)
            self._answered -= 1
            raise error
        if waiter is None:
            self._refused[error_class(error)] += 1
        elif not waiter.done():
            waiter.set_exception(error)
            waiter.exception()  # as in `refuse`


def unpacked(command: bytes) -> list[bytes]:
    """Its words."""
    reader = hiredis.Reader()
    reader.feed(command)
    return cast(list[bytes], reader.gets())


def error_class(error: ResponseError) -> str:
    """OOM, READONLY and the like: one of a few words, so that they can be counted."""
    code = error.status_code or str(error).partition(" ")[0]
    return code if code in _ERROR_CLASSES else "ERR"


def refuse(waiter: Waiter, trouble: str) -> None:
    if not waiter.done():
        waiter.set_exception(StoreUnavailable(trouble))
        waiter.exception()  # it counts as seen: who asked may have left without awaiting it
