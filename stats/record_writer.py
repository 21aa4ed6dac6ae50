"""Carries what is pending into the database once a second, on a thread of its own: the event loop never waits for it.

A batch that did not arrive is kept and tried again as it was. Meanwhile records beyond a bound are dropped; sums never.
"""

import asyncio
import queue
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import structlog
from django.db import InterfaceError, OperationalError, ProgrammingError

from stats.pending import Batch, Pending
from stats.record import RequestRecord
from stats.rollups import uncount

WRITE_EVERY_S = 1.0
PRUNE_EVERY_S = 60.0
STOP_WITHIN_S = 3.0
_AGAIN_S = 0.1  # while stopping
# Away, locked, full, or not migrated yet: it may be better the next time.
_PASSING = (OperationalError, InterfaceError, ProgrammingError)

log = structlog.get_logger(__name__)


class Tables(Protocol):
    """What is done in the database. All block, and raise django.db.Error."""

    def write(self, writer: str, batch: Batch) -> None: ...

    def prune(self, now: float) -> bool: ...

    def close(self) -> None: ...


class RecordWriter:
    """The records and sums of one worker. `add` and all coroutines belong to the event loop's thread."""

    def __init__(self, tables: Tables, write_every_s: float = WRITE_EVERY_S) -> None:
        self._tables = tables
        self._every_s = write_every_s
        self._name = uuid.uuid4().hex
        self._pending = Pending()
        self._batch: Batch | None = None  # handed over, but not known to have arrived
        self._thread = _Thread()
        self._away = False
        self._prune_at = time.monotonic()

    def add(self, record: RequestRecord) -> None:
        """A request has ended."""
        self._pending.add(record)

    @property
    def dropped(self) -> int:
        """Requests of this worker of which no record is kept; the sums have them."""
        return self._pending.dropped

    async def run(self) -> None:
        """Writes and prunes until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if await self._write() and time.monotonic() >= self._prune_at:
                await self._prune()

    async def stop(self, within_s: float = STOP_WITHIN_S) -> bool:
        """Writes what is left, and ends the thread. False: the database did not take it in time, and it is lost."""
        try:
            async with asyncio.timeout(within_s):
                await self._write_all()
                await self._thread.do(self._tables.close)
        except TimeoutError:
            log.warning("the database did not take the last records and sums of this worker")
            return False
        finally:
            self._thread.stop()
        return True

    async def _write_all(self) -> None:
        while self._batch is not None or self._pending.waits:
            if not await self._write():
                await asyncio.sleep(_AGAIN_S)

    async def _write(self) -> bool:
        """Whether the batch that waited, else what was pending, has arrived."""
        self._batch = self._batch or self._pending.take()
        if self._batch is None:
            return True
        batch = self._batch
        try:
            await self._thread.do(lambda: self._tables.write(self._name, batch))
        except _PASSING as error:
            self._tell(error)
            return False
        except Exception:
            log.exception("a batch of records was refused", records=len(batch.records), number=batch.number)
            self._give_up(batch)
            return False
        self._tell(None)
        self._batch = None
        return True

    def _give_up(self, batch: Batch) -> None:
        """What the database refuses for good must not hold up everything behind it."""
        self._pending.drop(len(batch.records))
        for record in batch.records:
            uncount(batch.cells, record)
        self._batch = Batch(batch.number, [], batch.cells) if batch.records else None

    async def _prune(self) -> None:
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        try:
            if await self._thread.do(lambda: self._tables.prune(time.time())):
                self._prune_at = 0.0  # there is more
        except _PASSING as error:
            self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        """One line when it begins and one when it ends."""
        if (error is not None) is self._away:
            return
        self._away = error is not None
        if error is not None:
            log.warning("the database takes no records; they are kept, and dropped when there are too many",
                        reason=type(error).__name__)  # fmt: skip
        else:
            log.info("the database takes records again")


class _Thread:
    """Does one thing after the other. A daemon: a database that never answers must not keep the process alive."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Future[object]] | None] = queue.SimpleQueue()
        self._running: threading.Thread | None = None

    async def do(self, job: Callable[[], object]) -> object:
        """What the job returns or raises. Cancelling does not stop a job that has begun."""
        if self._running is None:
            self._running = threading.Thread(target=self._run, name="records", daemon=True)
            self._running.start()
        future: Future[object] = Future()
        self._jobs.put((job, future))
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """After what it has been given."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (given := self._jobs.get()) is not None:
            job, future = given
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except Exception as error:  # noqa: BLE001 - it is raised where somebody waits for it
                future.set_exception(error)
