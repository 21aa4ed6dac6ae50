"""Notices clients that leave. One timer for the whole worker: most answers are sent before anybody looks.

A task for each request costs 11 us, a timer for each 4, this 1.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cache_app.flight import Holder

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_EVERY_S = 0.05


class Watched:
    """One request. `gone` tells why its task was cancelled."""

    __slots__ = ("_holder", "_looking", "_receive", "gone", "task")

    def __init__(self, receive: Receive, task: "asyncio.Task[Any]") -> None:
        self._receive = receive
        self.task = task
        self._looking: asyncio.Task[None] | None = None
        self._holder: Holder | None = None
        self.gone = False

    def look(self) -> None:
        """Waits for the next message; after a whole body that can only be the disconnect."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._wait())

    def stop(self) -> None:
        looking, self._looking = self._looking, None  # else the task, its traceback and we would hold each other
        if looking is not None:
            looking.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.let_go()

    # -- others may wait for the same answer

    def hold(self, holder: Holder) -> None:
        self._holder = holder

    def release(self, holder: Holder) -> None:
        if self._holder is holder:
            self._holder = None

    def let_go(self) -> None:
        """Gives the request up if its client has left and nobody else needs it."""
        if self.gone and (self._holder is None or not self._holder.needs(self)):
            self.task.cancel()


class DisconnectWatch:
    """All requests of a worker that are being answered."""

    def __init__(self) -> None:
        self._young: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, receive: Receive) -> Watched:
        """Of the task that calls; `remove` it when the answer is sent."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered in a task")
        watched = Watched(receive, task)
        self._young.add(watched)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._tick)
        return watched

    def remove(self, watched: Watched) -> None:
        self._young.discard(watched)
        watched.stop()

    def _tick(self) -> None:
        self._timer = None
        young, self._young = self._young, set()
        for watched in young:
            watched.look()
