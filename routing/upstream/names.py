"""From a host's name to its addresses: one look-up at a time for a name, kept for a moment, none for an IP address.

The resolver blocks a thread, for half a minute where a name server is silent. Without this, requests for one such name
would take all threads, and endpoints with other names would wait behind them.
"""

import asyncio
import ipaddress
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

KEPT_S = 5.0

Address = tuple[int, Any]  # family, what `connect` takes
Info = tuple[Any, ...]  # as `socket.getaddrinfo` gives it
Resolve = Callable[[str, int], Awaitable[list[Info]]]


class Names:
    """What is known of names; of one event loop."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._kept: dict[str, tuple[float, list[Address]]] = {}
        self._asking: dict[str, asyncio.Task[list[Address]]] = {}

    async def addresses(self, host: str, port: int) -> list[Address]:
        """In the order in which to try them. Raises OSError, UnicodeError."""
        literal = _literal(host)
        found = [literal] if literal is not None else await self._of_name(host, port)
        return [(family, (place[0], port, *place[2:])) for family, place in found]

    async def _of_name(self, host: str, port: int) -> list[Address]:
        until, found = self._kept.get(host, (0.0, []))
        if asyncio.get_running_loop().time() < until:
            return found
        asking = self._asking.get(host)
        if asking is None:
            asking = asyncio.get_running_loop().create_task(self._ask(host, port), name="DNS")
            self._asking[host] = asking
            asking.add_done_callback(_retrieved)
        return await asyncio.shield(asking)  # a request that gives up leaves the others their answer

    async def _ask(self, host: str, port: int) -> list[Address]:
        try:
            found = _in_turns(await self._resolve(host, port))
        finally:
            del self._asking[host]
        self._kept[host] = asyncio.get_running_loop().time() + KEPT_S, found
        return found


def _retrieved(asking: "asyncio.Task[list[Address]]") -> None:
    """Everybody who waited may have left."""
    if not asking.cancelled():
        asking.exception()


def _literal(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return socket.AF_INET, (host, 0)
    return None if "%" in host else (socket.AF_INET6, (host, 0, 0, 0))  # a zone has a number, which the resolver knows


def _in_turns(infos: list[Info]) -> list[Address]:
    """All addresses of a host, the families taking turns, in the resolver's order of preference (RFC 8305, 4)."""
    families: dict[int, list[Address]] = {}
    for family, _, _, _, address in infos:
        families.setdefault(family, []).append((family, address))
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]
