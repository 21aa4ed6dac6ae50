"""From an origin to an open connection: DNS, IPv4 and IPv6 raced, TLS with verification. Knows nothing of HTTP."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from routing.upstream.errors import ConnectFailed
from routing.upstream.names import Address, Names
from routing.upstream.transport import Origin

STAGGER_S = 0.25  # before the next address is tried beside the last one (RFC 8305, 5)
KEEP_ALIVE_S = 60  # between TCP probes: a model may think for ten minutes, and a NAT forgets after five

SomeProtocol = TypeVar("SomeProtocol", bound=asyncio.BaseProtocol)


class Dialer:
    """Opens connections; keeps the TLS contexts, since building one reads the whole trust store (10 to 50 ms)."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._building = asyncio.Lock()
        self._names = Names(lambda host, port: resolve(host, port))

    async def open(self, origin: Origin, protocol: Callable[[], SomeProtocol]) -> SomeProtocol:
        """Raises ConnectFailed. Cancelled, it leaves no socket open."""
        try:
            context = await self._context(origin) if origin.scheme == "https" else None
            connected = await _race(await self._names.addresses(origin.host, origin.port))
        except (OSError, UnicodeError) as error:  # ssl.SSLError and gaierror are OSErrors; IDNA raises the other
            raise ConnectFailed(_reason(error)) from error
        try:
            loop = asyncio.get_running_loop()
            name = origin.host if context is not None else None
            _, made = await loop.create_connection(protocol, sock=connected, ssl=context, server_hostname=name)
        except OSError as error:
            connected.close()
            raise ConnectFailed(_reason(error)) from error
        except BaseException:
            connected.close()
            raise
        return made

    async def _context(self, origin: Origin) -> ssl.SSLContext:
        async with self._building:
            context = self._contexts.get(origin.ca_file)
            if context is None:
                context = await asyncio.to_thread(tls_context, origin.ca_file)
                self._contexts[origin.ca_file] = context
        return context


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verifies against `ca_file`, else SSL_CERT_FILE or the system's store. Slow, and blocks."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """As `socket.getaddrinfo` does, in a thread."""
    return list(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _race(addresses: list[Address]) -> socket.socket:
    """The first socket that connects; each address gets a head start on the next. The others are closed."""
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: OSError = OSError("no address")
    waiting = list(reversed(addresses))
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.ensure_future(_connect(waiting.pop())))
            ended, attempts = await asyncio.wait(
                attempts, timeout=STAGGER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner, lost = _outcome(ended)
            if winner is not None:
                return winner
            failure = lost or failure
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close_late_winner)
    raise failure


def _outcome(ended: set[asyncio.Task[socket.socket]]) -> tuple[socket.socket | None, OSError | None]:
    winner, failure = None, None
    for attempt in ended:
        error = attempt.exception()
        if error is None:
            if winner is not None:
                winner.close()
            winner = attempt.result()
        elif isinstance(error, OSError):
            failure = error
        else:
            raise error
    return winner, failure


def _close_late_winner(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(to: Address) -> socket.socket:
    family, address = to
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_S)
        await asyncio.get_running_loop().sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened


def _reason(error: Exception) -> str:
    """A class of trouble: the error's own text may hold the host."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate not accepted ({error.verify_message.partition(',')[0]})"  # the rest names the host
    if isinstance(error, ssl.SSLError):
        return "TLS: handshake failed"
    if isinstance(error, socket.gaierror):
        return "DNS: name not resolved"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, FileNotFoundError | PermissionError):
        return "TLS: ca_file cannot be read"
    return "no connection"
