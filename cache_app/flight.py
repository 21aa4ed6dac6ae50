"""One call for many equal requests: the first leads, the others wait for its answer. Within one process; no I/O.

A leader whose client leaves goes on while others wait for it. When a leader fails, the first of those who wait takes
over: they are woken in their order, and nothing is awaited between waking and leading.
"""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Presence(Protocol):
    """A client that may leave while its request is worked on."""

    gone: bool

    def hold(self, holder: "Holder") -> None:
        """From now on its request is not given up as long as `holder` needs it."""
        ...

    def release(self, holder: "Holder") -> None:
        """If it was the last that held it."""
        ...

    def let_go(self) -> None:
        """Gives the request up if the client has left."""
        ...


class Holder(Protocol):
    """Who may need the work of a client that has left."""

    def needs(self, presence: Presence) -> bool: ...


class Flight(Generic[Result]):
    """A call under way."""

    __slots__ = ("_leader", "_waiters")

    def __init__(self, leader: Presence) -> None:
        self._leader = leader
        self._waiters: deque[asyncio.Future[Result | None]] = deque()
        leader.hold(self)

    def needs(self, presence: Presence) -> bool:
        return bool(self._waiters)

    async def wait(self) -> Result | None:
        """What the leader brought; None: nothing that can be shared."""
        waiter: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # it has been seen
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if not self._waiters:
                self._leader.let_go()
            raise

    def land(self, result: Result | None, failure: BaseException | None = None) -> bool:
        """Whether anybody waited; they wake in the next turn of the loop. failure: of all of them."""
        self._leader.release(self)
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if waiter.done():
                continue
            if failure is not None:
                waiter.set_exception(failure)
            else:
                waiter.set_result(result)
        return bool(waiters)


class Flights(Generic[Result]):
    """Those of one process, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight[Result]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: bytes) -> Flight[Result] | None:
        return self._flights.get(key)

    def begin(self, key: bytes, leader: Presence) -> Flight[Result]:
        """There must be none yet. Whoever begins it lands it, however it ends."""
        flight = self._flights[key] = Flight(leader)
        return flight

    def land(self, key: bytes, result: Result | None, failure: BaseException | None = None) -> bool:
        """result: None if it failed. failure: one that nobody need try again. Returns whether anybody waited."""
        return self._flights.pop(key).land(result, failure)
