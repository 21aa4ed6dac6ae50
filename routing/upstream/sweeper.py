"""One clock for all deadlines of a client: a look at every connection each 50 ms while a request is in flight.

A timer per request costs more than its whole book-keeping. When nothing is in flight it sleeps until the next idle
connection expires, and when there is none it does not run.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.upstream.pool import Pool

TICK_S = 0.05
IDLE_EXPIRY_S = 55.0  # below the 60 s after which most servers and load balancers close


class Sweeper:
    """Ends replies that are overdue and closes connections that were idle for too long."""

    __slots__ = ("_idle_expiry_s", "_pools", "_timer", "loop", "now", "ticking")

    def __init__(
        self,
        pools: Iterable["Pool"],
        idle_expiry_s: float = IDLE_EXPIRY_S,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.now = self.loop.time()  # of the last look: good enough for what lives seconds
        self.ticking = False  # whether it looks each TICK_S
        self._pools = pools
        self._idle_expiry_s = idle_expiry_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Called by whoever sends while it is not ticking."""
        self.stop()
        self.now = self.loop.time()
        self.ticking = True
        self._timer = self.loop.call_later(TICK_S, self._look)

    def stop(self) -> None:
        self.ticking = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.now = now = self.loop.time()
        in_flight = False
        next_expiry = None
        for pool in self._pools:
            pool.retire_idle(now - self._idle_expiry_s)
            if pool.idle:
                expiry = pool.idle[0].idle_since + self._idle_expiry_s
                next_expiry = expiry if next_expiry is None else min(expiry, next_expiry)
            in_flight |= self._look_at(pool, now)
        self.ticking = in_flight
        self._timer = None
        if in_flight:
            self._timer = self.loop.call_later(TICK_S, self._look)
        elif next_expiry is not None:
            self._timer = self.loop.call_at(next_expiry, self._look)

    def _look_at(self, pool: "Pool", now: float) -> bool:
        in_flight = False
        for connection in tuple(pool.connections):
            reply = connection.reply
            if reply is None:
                continue
            in_flight = True
            error = reply.overdue(now, connection.heard)
            connection.heard = False
            if error is not None:
                connection.fail(error)
        return in_flight
