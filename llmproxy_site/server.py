"""uvicorn as we run it: one process that serves on a socket it was given, and drains when told to stop.

Draining: the listening socket closes at once, so that new connections are refused; what is in flight is finished.
"""

import asyncio
import gc
import ipaddress
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from llmproxy_site.spared_imports import spared

with spared("watchfiles"):  # for its reloader; 1 MB in every worker
    import uvicorn

    from llmproxy_site.joined_writes import JoinedWritesProtocol

APPLICATION = "llmproxy_site.asgi:application"
BACKLOG = 4096

# With the balancing by the kernel, connections spread evenly: of 64 connections to two workers the emptier worker got
# 26 to 31 in six runs; from one shared socket it got 3 to 32. Elsewhere than on Linux the option does not balance.
ONE_SOCKET_PER_WORKER = sys.platform == "linux"

_YOUNG_OBJECTS = 50_000  # collections on the request path cost p99; reference counts free nearly everything anyway


class BindProblem(Exception):
    """The address cannot be used; the message says why and what to do."""


def addresses_of(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """What the host name stands for, IPv4 first."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise BindProblem(f"bind address {host!r} is not known here; write an address of this machine") from error
    return sorted(((family, str(place[0])) for family, _, _, _, place in found), key=lambda one: one[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a server bound to the host."""
    return all(ipaddress.ip_address(place.partition("%")[0]).is_loopback for _, place in addresses_of(host, 0))


def bound_socket(host: str, port: int, *, shared_port: bool = False) -> socket.socket:
    """A bound socket that does not listen yet. `shared_port`: others of ours may listen on the same port."""
    family, place = addresses_of(host, port)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((place, port))
    except OSError as error:
        bound.close()
        remedy = "choose another --port, or stop what uses it" if port else "choose another --host"
        raise BindProblem(f"cannot listen on {host}:{port}: {error.strerror}; {remedy}") from error
    return bound


class DrainingServer(uvicorn.Server):
    """uvicorn's server with our rules for signals: the first one drains, the second one ends; then exit code 0."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._signalled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not recorded for uvicorn, which would raise the signal again at the end and so spoil the exit code."""
        if self._signalled:  # not: if it drains already, which the supervisor may have told it just before
            self.force_exit = True
        self._signalled = True
        self.drain()

    def drain(self) -> None:
        """Ends when everything in flight is finished."""
        self.should_exit = True
        lifespan = getattr(self, "lifespan", None)  # not there before the server starts
        if lifespan is not None and (gateway := lifespan.state.get("gateway")) is not None:
            gateway.draining = True  # /health/ready says so on connections that are still open

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _settle_garbage_collection()
        if not self.should_exit:
            self._on_ready()


def serve_on(
    listening: socket.socket, on_ready: Callable[[], None] = lambda: None, application: str = APPLICATION
) -> DrainingServer:
    """A server for the socket; `run([socket])` it. `application`: module:name. Times in seconds."""
    config = uvicorn.Config(
        application,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http=JoinedWritesProtocol,
        ws=_websocket_protocol,  # type: ignore[arg-type]  # called like the class
        ws_max_size=4096,  # browsers send the name of a span
        ws_per_message_deflate=False,  # memory and time for each browser
        lifespan="on",
        log_config=None,  # Django's settings have set up logging
        access_log=False,
        proxy_headers=False,  # nothing of ours reads the client's address, and the wrapper costs every request
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
    )
    listening.listen(BACKLOG)
    return DrainingServer(config, on_ready)


def _websocket_protocol(**parts: Any) -> asyncio.Protocol:
    """uvicorn's, with the first websocket: 2.5 MB that a worker without a watched dashboard need not hold."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**parts)


def _settle_garbage_collection() -> None:
    """What start-up made lives as long as the process: never look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)
