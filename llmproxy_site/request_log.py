"""One line for each request of a client, written in the background: all of the last 200 ms at a time.

JSON, or aligned text on a terminal. Rendered as requests end, some at a time; a thread writes, so that a reader of
standard error who stops reading holds nobody up. Then lines are left out, and counted.
"""

import asyncio
import contextlib
import logging
import os
import queue
import select
import stat
import threading
from collections.abc import Callable, Iterable, Iterator

from llmproxy_site.log_redaction import known_secrets
from llmproxy_site.request_lines import as_json, as_text, left_out_as_json, left_out_as_text
from routing.openai.doorstep import made_here
from stats.record import RequestRecord

WRITE_EVERY_S = 0.2
MOST_WAITING = 10_000
STOP_WITHIN_S = 1.0
# Records that are rendered at a time, in a fifth of a millisecond: few enough that they lie in the processor's cache
# still, many enough that the code does. All of 200 ms at a time took 3 to 5 us a line longer on a busy machine.
_TOGETHER = 64
_SLICE = 100  # lines that the thread is given at a time
_MOST_BEHIND = 100  # slices that it has not written yet
# Up to so many bytes a write to a pipe is never torn apart by those of other workers (POSIX, PIPE_BUF). A write to a
# local file is not either, and can be larger: each costs a worker that is busy two changes of threads.
_WHOLE = 4096
_WHOLE_IN_FILE = 64 << 10

Write = Callable[[bytes], object]


class RequestLog:
    """The lines of one worker. `add` and all coroutines belong to the event loop's thread.

    write: takes whole lines, and may block; it is called on a thread of its own. whole: bytes, more than which it is
    not given at a time, but for a single line.
    """

    def __init__(self, write: Write, *, terminal: bool, whole: int = _WHOLE) -> None:
        self._render, self._left_out = (as_text, left_out_as_text) if terminal else (as_json, left_out_as_json)
        self._logger = logging.getLogger("llmproxy.requests")  # for its level only
        self._ended: list[RequestRecord] = []
        self._lines: list[bytes] = []
        self._dropped = 0
        self._writer = _Writer(write, whole)

    def add(self, record: RequestRecord) -> None:
        """A request has ended."""
        self._ended.append(record)
        if len(self._ended) >= _TOGETHER:
            self._render_all()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            self._hand_over()

    async def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Writes what is left, unless nobody reads it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                self._hand_over()
                await self._writer.finished()
        self._writer.stop()

    def _render_all(self) -> None:
        records, self._ended = self._ended, []
        fits = max(MOST_WAITING - len(self._lines), 0)
        self._dropped += len(records[fits:])
        self._lines += self._rendered(self._wanted(records[:fits]))

    def _hand_over(self) -> None:
        self._render_all()
        while self._lines:
            if self._writer.behind >= _MOST_BEHIND:
                return
            self._writer.write(self._lines[:_SLICE])
            del self._lines[:_SLICE]
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            if self._logger.isEnabledFor(logging.WARNING):
                self._writer.write([self._left_out(dropped)])

    def _wanted(self, records: list[RequestRecord]) -> list[RequestRecord]:
        if self._logger.isEnabledFor(logging.INFO):
            return records
        if self._logger.isEnabledFor(logging.WARNING):
            return [record for record in records if record.outcome == "failure"]
        return []

    def _rendered(self, records: list[RequestRecord]) -> Iterator[bytes]:
        # All else in a record comes from the configuration; a client may call its request whatever it likes.
        foreign = [record.request_id for record in records if not made_here(record.request_id)]
        if foreign and known_secrets.struck_out("\n".join(foreign)) != "\n".join(foreign):
            return (self._render(record, known_secrets.struck_out(record.request_id)) for record in records)
        return (self._render(record, record.request_id) for record in records)


class _Writer:
    """Writes on a thread of its own. A daemon: a reader that has stopped must not keep the process alive."""

    def __init__(self, write: Write, whole: int) -> None:
        self._write, self._whole = write, whole
        self._given: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._count_given = 0  # by the event loop alone
        self._count_written = 0  # by the thread alone
        self._thread: threading.Thread | None = None

    @property
    def behind(self) -> int:
        """How much of what was given is not written yet."""
        return self._count_given - self._count_written

    def write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
            self._thread.start()
        self._count_given += 1
        self._given.put(lines)

    async def finished(self) -> None:
        """When everything is written."""
        while self.behind:  # noqa: ASYNC110 - what ends it happens on a thread
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """After what it has been given."""
        self._given.put(None)

    def _run(self) -> None:
        while (lines := self._given.get()) is not None:
            with contextlib.suppress(OSError):  # nobody reads any more
                for text in together(lines, self._whole):
                    self._write(text)
            self._count_written += 1


def together(lines: Iterable[bytes], most: int) -> Iterator[bytes]:
    """As many whole lines at a time as have `most` bytes together; a longer line alone."""
    texts: list[bytes] = []
    size = 0
    for line in lines:
        if texts and size + len(line) > most:
            yield b"".join(texts)
            texts, size = [], 0
        texts.append(line)
        size += len(line)
    if texts:
        yield b"".join(texts)


def whole_at(descriptor: int) -> int:
    """How many bytes a write there may have that other processes' writes shall not tear apart."""
    return _WHOLE_IN_FILE if stat.S_ISREG(os.fstat(descriptor).st_mode) else _WHOLE


def to_descriptor(descriptor: int) -> Write:
    """Writes all of it, in one go where the system takes it so."""

    def write(text: bytes) -> None:
        while text:
            try:
                text = text[os.write(descriptor, text) :]
            except BlockingIOError:  # who started us made it so, for himself
                select.select([], [descriptor], [])

    return write
