"""Requests that were answered from this worker's memory, by their very bytes: asked again, they need not be read again.

Holds what reading and the cache's key come to, 15 us of CPU; the answers are the cache's.
"""

from typing import NamedTuple

from cache_app.store import Place
from routing.config.table import Group, RoutingTable
from routing.openai.routes import Route

MOST_BYTES = 4 << 20  # of bodies
_LARGEST_BODY = 32 << 10
_OVERHEAD = 512  # bytes of an entry beside the body


class Recalled(NamedTuple):
    """Where the answer is kept. table: with which that is so."""

    table: RoutingTable
    group: Group
    place: Place


class Recall:
    """The newest requests of one worker, bounded by bytes; the first ones go first.

    A request is its operation, its client's scope and its body. Headers that mean something to the cache are no part of
    it: requests that have them are neither kept nor looked for.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._known: dict[tuple[str, str, bytes], Recalled] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, route: Route, scope: str, body: bytes) -> Recalled | None:
        if not self._known or len(body) > _LARGEST_BODY:  # to look for 1 MB takes 200 us
            return None
        return self._known.get((route.operation, scope, body))

    def keep(self, route: Route, scope: str, body: bytes, recalled: Recalled) -> None:
        """body: as it came, less what it says about caching: without that it is the same request."""
        if len(body) > _LARGEST_BODY:
            return
        self._forget((route.operation, scope, body))
        self._known[route.operation, scope, body] = recalled
        self._held_bytes += len(body) + _OVERHEAD
        while self._held_bytes > self._most_bytes:
            self._forget(next(iter(self._known)))

    def clear(self) -> None:
        self._known.clear()
        self._held_bytes = 0

    def _forget(self, key: tuple[str, str, bytes]) -> None:
        if self._known.pop(key, None) is not None:
            self._held_bytes -= len(key[2]) + _OVERHEAD
