"""Remembers which endpoint made a response, a conversation or an encrypted item: what refers to it goes back there.

Kept in the store for all workers, and the newest in memory, so that a follow-up is served without the store. Keys carry
the client scope: another client's id is unknown. Never fails a request.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

_PREFIX = "llmproxy:affinity:"
_REMEMBERED = 10_000
_LOOKUP_S = 0.05
_REFRESHED_AFTER = 0.25  # of its time to live, where what is known already is told again


class Store(Protocol):
    """The part of the store's client that is used here. Raises ConnectionError when the store does not answer."""

    async def run(self, *commands: tuple[str | bytes | int | float, ...]) -> list[Any]: ...


class _Made(NamedTuple):
    """What is remembered of one pin; times of the clock."""

    endpoint_id: str
    stale_at: float  # the store is told again from then on
    until: float


class Affinity:
    """Maps pins (ids that a request names) to endpoint ids."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._recent: OrderedDict[str, _Made] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    async def makers(self, scope: str, pins: Iterable[str]) -> list[str | None]:
        """The endpoint id for each pin, None where nobody remembers. Waits at most 50 ms."""
        keys = [_key(scope, pin) for pin in pins]
        now = self._clock()
        known = {key: made.endpoint_id for key in keys if (made := self._recent.get(key)) and now < made.until}
        missing = [key for key in keys if key not in known]
        found: dict[str, str] = {}
        if missing:
            try:
                async with asyncio.timeout(_LOOKUP_S):
                    replies = await self._store.run(("MGET", *missing))
                values = replies[0] if isinstance(replies[0], list) else []
                found = {key: value.decode() for key, value in zip(missing, values, strict=False) if value}
            except (ConnectionError, TimeoutError):
                found = {}
        return [known.get(key) or found.get(key) for key in keys]

    def keep(self, scope: str, pins: Iterable[str], endpoint_id: str, ttl_s: int) -> None:
        """Returns at once; the store is told in the background."""
        keys = [_key(scope, pin) for pin in pins]
        now = self._clock()
        fresh = [key for key in keys if not self._is_known(key, endpoint_id, now)]
        for key in fresh:
            self._recent[key] = _Made(endpoint_id, now + ttl_s * _REFRESHED_AFTER, now + ttl_s)
            self._recent.move_to_end(key)
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        if fresh:
            task = asyncio.get_running_loop().create_task(self._write(fresh, endpoint_id, ttl_s))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    def _is_known(self, key: str, endpoint_id: str, now: float) -> bool:
        made = self._recent.get(key)
        return made is not None and made.endpoint_id == endpoint_id and now < made.stale_at

    async def _write(self, keys: list[str], endpoint_id: str, ttl_s: int) -> None:
        try:
            await self._store.run(*(("SET", key, endpoint_id, "EX", ttl_s) for key in keys))
        except ConnectionError:
            return  # the store's own log line says so; asking around serves meanwhile


def _key(scope: str, pin: str) -> str:
    """Ids are clients' text: a digest keeps keys short and of one alphabet."""
    digest = hashlib.blake2s(f"{scope}\0{pin}".encode(errors="surrogatepass"), digest_size=16)
    return _PREFIX + digest.hexdigest()
