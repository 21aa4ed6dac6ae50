"""Reads the numbers of the dashboard once for all browsers that show it, and not at all while none does.

A browser that is slow to take them misses some; it holds up nobody else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from channels.db import database_sync_to_async
from django.db import DatabaseError

from routing.admin.dashboard_figures import SPANS, Pace, failure_view, series_columns
from routing.admin.live_state import read_live_state
from routing.admin.running import RunningGateway
from stats.history import History, Span

LIVE_EVERY_S = 1.0
_LOOK_EVERY_S = 0.25  # whether the sums of some span are due
_FAILURES = 6
_LIVE = "live"

log = structlog.get_logger(__name__)


class Watcher:
    """One browser. What it was not told yet is replaced by what is newer."""

    def __init__(self, span: str) -> None:
        self.span = span
        self._due: dict[str, str] = {}
        self._told = asyncio.Event()

    def tell(self, what: str, text: str) -> None:
        self._due[what] = text
        self._told.set()

    async def next(self) -> list[str]:
        """Waits until there is something to tell."""
        await self._told.wait()
        self._told.clear()
        due, self._due = self._due, {}
        return list(due.values())


class Readings:
    """Of one worker, for all its watchers."""

    def __init__(self, gateway: RunningGateway, history: History) -> None:
        self._gateway = gateway
        self._history = history
        self._watchers: set[Watcher] = set()
        self._read: dict[str, tuple[float, str]] = {}  # what -> when, and what was said
        self._pace = Pace()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def reading(self) -> bool:
        """Whether anything runs."""
        return bool(self._tasks)

    def join(self, span: str) -> Watcher:
        """The first one begins the reading."""
        watcher = Watcher(span)
        self._watchers.add(watcher)
        if not self._tasks:
            self._read.clear()
            self._pace = Pace()
            self._tasks = [self._run(self._read_live), self._run(self._read_due)]
        self.repeat(watcher, _LIVE)
        self.repeat(watcher, span)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """The last one ends the reading."""
        self._watchers.discard(watcher)
        if not self._watchers:
            for task in self._tasks:
                task.cancel()
            self._tasks = []

    def repeat(self, watcher: Watcher, what: str) -> None:
        """What was said last, at once."""
        if what in self._read:
            watcher.tell(what, self._read[what][1])

    def _run(self, read: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(_again_and_again(read), name="dashboard readings")

    async def _read_live(self) -> None:
        began = time.monotonic()
        live = await read_live_state(self._gateway)
        live["pace"] = self._pace.at(began, live["requests"]["total"], live["store"])
        self._say(_LIVE, {"live": live}, list(self._watchers))
        await asyncio.sleep(max(0.0, began + LIVE_EVERY_S - time.monotonic()))

    async def _read_due(self) -> None:
        for name in sorted({watcher.span for watcher in self._watchers}):
            read_at = self._read.get(name, (0.0, ""))[0]
            if not read_at or time.monotonic() - read_at >= SPANS[name].every_s:
                told = await self._past(name)
                self._say(name, told, [watcher for watcher in self._watchers if watcher.span == name])
        await asyncio.sleep(_LOOK_EVERY_S)

    async def _past(self, name: str) -> dict[str, Any]:
        try:
            return {"past": await database_sync_to_async(past)(self._history, name, time.time())}
        except DatabaseError:
            return {"away": name}  # the last numbers stay; why, stands in the writer's log line

    def _say(self, what: str, told: dict[str, Any], watchers: list[Watcher]) -> None:
        """Encodes once for all."""
        text = msgspec.json.encode(told).decode()
        self._read[what] = (time.monotonic(), text)
        for watcher in watchers:
            watcher.tell(what, text)


async def _again_and_again(read: Callable[[], Awaitable[None]]) -> None:
    """A mistake must not leave the page with old numbers for ever."""
    while True:
        try:
            await read()
        except Exception:
            log.exception("the dashboard's numbers could not be read")
            await asyncio.sleep(LIVE_EVERY_S)


def past(history: History, name: str, now: float) -> dict[str, Any]:
    """What happened in the span of this name. Blocks. Raises django.db.DatabaseError."""
    seconds, step, _ = SPANS[name]
    span = Span.last(seconds, now, step)
    return {
        "span": name,
        "totals": history.totals(span)[""].as_json(),
        "groups": {group: totals.as_json() for group, totals in history.totals(span, "model_group").items()},
        "endpoints": {endpoint: totals.as_json() for endpoint, totals in history.totals(span, "endpoint").items()},
        "series": series_columns(history.series(span, step)[""], span.start, step),
        "failures": [failure_view(record, now) for record in history.recent_failures(_FAILURES, rescued=True)],
    }
