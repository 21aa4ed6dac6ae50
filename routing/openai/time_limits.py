"""How long a worker waits for clients. One timer for all requests: nearly none ever waits for its client.

`asyncio.timeout` costs 4 us each time, this 1. Limits are kept to the second.
"""

import asyncio
from types import TracebackType
from typing import Any, Self

_EVERY_S = 1.0


class TimeOver(Exception):
    """The client took longer than it may."""


class TimeLimit:
    """For one block of the current task, which is left with TimeOver when the time is over."""

    __slots__ = ("_limits", "_passed", "_task", "deadline", "seconds")

    def __init__(self, limits: "TimeLimits", seconds: float, task: "asyncio.Task[Any]") -> None:
        self.seconds = seconds
        self.deadline: float | None = None  # loop time; may be moved at any time. None: not looked at yet
        self._limits = limits
        self._passed = False
        self._task = task

    def __enter__(self) -> Self:
        limits = self._limits
        limits.running.add(self)
        if limits.timer is None:
            limits.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.running.discard(self)
        if self._passed and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeOver from error

    def look(self, now: float) -> bool:
        """Ends the block if its time is over; returns whether it has."""
        if self.deadline is None:
            self.deadline = now + self.seconds
        if now < self.deadline:
            return False
        self._passed = True
        self._task.cancel()
        return True


class TimeLimits:
    """All limits of a worker."""

    def __init__(self) -> None:
        self.running: set[TimeLimit] = set()
        self.timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float, task: "asyncio.Task[Any] | None" = None) -> TimeLimit:
        """`with limits.within(15) as limit:` task: the current one, where it is at hand; else it takes 1 us to find."""
        task = task or asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is of a task")
        return TimeLimit(self, seconds, task)

    def start(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(_EVERY_S, self._tick)

    def _tick(self) -> None:
        self.timer = None
        now = asyncio.get_running_loop().time()
        self.running.difference_update([limit for limit in self.running if limit.look(now)])
        if self.running:
            self.start()
