"""Brings what was published last into a worker: told by the store, and looking for itself every second.

A revision that cannot be served is refused whole and the last good one stays. With the database away, serving goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from django.db import Error as DatabaseTrouble
from django.db import connections

from routing.config.live import LiveTable
from routing.config.snapshot import LoadedConfiguration, Published, load, published
from routing.config.table import RoutingTable
from routing.config.wording import ConfigurationInvalid

Answer = TypeVar("Answer")

CHANNEL = "llmproxy:revision"
_LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class Store(Protocol):
    """The part of the store's client that is used here."""

    async def listen(
        self, channel: str, on_message: Callable[[bytes], None], on_connected: Callable[[], Awaitable[None]]
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Refused:
    """A revision that this worker does not serve, and why."""

    revision: int
    reason: str
    digest: str = ""


class RevisionWatch:
    """Keeps one worker's table up to date."""

    def __init__(
        self, live: LiveTable, compile_loaded: Callable[[LoadedConfiguration], RoutingTable], store: Store
    ) -> None:
        self.refused: Refused | None = None
        self._live = live
        self._compile = compile_loaded
        self._store = store
        self._served: Published | None = None  # None: what is served came from elsewhere, its content is not known
        self._told = asyncio.Event()
        self._away = False

    async def run(self) -> None:
        """Until cancelled."""
        # A thread of its own: a slow page of the admin must not keep a worker on an old revision.
        with ThreadPoolExecutor(1, thread_name_prefix="revision-watch") as thread:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._store.listen(CHANNEL, self._hear, self._connected))
                tasks.create_task(self._look_forever(thread))

    def _hear(self, _: bytes) -> None:
        self._told.set()

    async def _connected(self) -> None:
        self._told.set()  # what was published while nobody listened

    async def _look_forever(self, thread: ThreadPoolExecutor) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._told.wait()
            except TimeoutError:
                pass
            self._told.clear()
            await self.look(thread)

    async def look(self, thread: ThreadPoolExecutor) -> None:
        """Takes over what is published last, if it is new. thread: where the database is asked."""
        loop = asyncio.get_running_loop()
        last = await loop.run_in_executor(thread, self._asked, published)
        if last is None:
            return
        if self._served is None and last.number == self._live.table.revision:
            self._served = last
        if last == self._served:
            self._forgive()
        elif self.refused is None or last != Published(self.refused.revision, self.refused.digest):
            found = await loop.run_in_executor(thread, self._asked, lambda: _loaded(last))
            if isinstance(found, LoadedConfiguration):
                self._serve(found)
            elif found is not None:
                self._refuse(found)

    def _asked(self, question: Callable[[], Answer]) -> Answer | None:
        """In the thread. None: the database does not answer."""
        try:
            answer = question()
        except DatabaseTrouble as error:
            self._gone(error)
            return None
        self._back()
        return answer

    def _gone(self, error: DatabaseTrouble) -> None:
        if not self._away:
            log.warning("the database does not answer; serving goes on as configured", reason=type(error).__name__)
        self._away = True
        connections.close_all()

    def _back(self) -> None:
        if self._away:
            log.info("the database is back")
        self._away = False

    def _serve(self, loaded: LoadedConfiguration) -> None:
        try:
            table = self._compile(loaded)
        except Exception as error:  # whatever it is, the last good table stays
            log.exception("a revision could not be compiled", revision=loaded.revision)
            self._refuse(Refused(loaded.revision, type(error).__name__, loaded.digest))
            return
        self.refused = None
        self._served = Published(loaded.revision, loaded.digest)
        self._live.swap(table)
        log.info("serving a new revision", revision=table.revision)

    def _forgive(self) -> None:
        """What is served is what is published last again."""
        if self.refused is not None:
            log.info("the refused revision is gone", revision=self.refused.revision)
        self.refused = None

    def _refuse(self, refused: Refused) -> None:
        self.refused = refused
        log.error("a revision was refused; the last good one stays", revision=refused.revision, reason=refused.reason)


def _loaded(last: Published) -> LoadedConfiguration | Refused:
    try:
        return load()
    except ConfigurationInvalid as invalid:
        return Refused(last.number, str(invalid), last.digest)
