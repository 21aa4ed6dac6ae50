"""What the store's clients share for when it does not answer: one error, bounded waits, one log line per change.

Decides nothing about retries or breakers: each client has its own patience.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from llmproxy_site.store import StoreAddress

PROBE_INTERVAL_S = 0.25
GRACE_S = 0.05

log = structlog.get_logger(__name__)


class StoreUnavailable(ConnectionError):
    """The store did not answer in time, or has not answered lately. The message names a class of trouble only."""


class StoreNews:
    """Says in the log that the store went away, and that it is back: once, however many clients notice."""

    def __init__(self, address: StoreAddress) -> None:
        self._store = str(address)
        self._missed_by: set[object] = set()

    def lost(self, client: object, error: BaseException) -> None:
        if not self._missed_by:
            log.warning("store unavailable", store=self._store, reason=reason(error))
        self._missed_by.add(client)

    def found(self, client: object) -> None:
        if client in self._missed_by:
            self.forget(client)
            if not self._missed_by:
                log.info("store back", store=self._store)

    def forget(self, client: object) -> None:
        """It is closed: whether it reached the store does not matter any more."""
        self._missed_by.discard(client)


@asynccontextmanager
async def within(seconds: float | None) -> AsyncIterator[None]:
    """Like asyncio.timeout, but blames nobody for a time in which this process itself stood still: if the loop comes
    to the deadline late, what has arrived meanwhile is read first."""
    if seconds is None:
        yield
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with asyncio.timeout(None) as limit:

        def decide() -> None:
            late = loop.time() - deadline
            limit.reschedule(loop.time() + (GRACE_S if late > GRACE_S else 0.0))

        timer = loop.call_at(deadline, decide)
        try:
            yield
        finally:
            timer.cancel()


def reason(error: BaseException) -> str:
    """A class of trouble, never the text: that may quote an address with a password, or what the other end said."""
    if isinstance(error, StoreUnavailable):
        return str(error)
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__
