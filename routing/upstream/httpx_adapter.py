"""Our client behind httpx's transport interface, for whoever holds an `httpx.AsyncClient` (probes, SDKs, commands).

The gateway calls `FastUpstream` directly: httpx's objects cost twice what the exchange does.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx

from routing.upstream.errors import (
    CONNECT_TIMEOUT,
    AnswerBroken,
    AnswerTooLarge,
    ConnectFailed,
    ConnectionReset,
    PoolFull,
    UpstreamError,
    UpstreamTimeout,
)
from routing.upstream.fast import FastUpstream
from routing.upstream.transport import Limits, Origin, Reply, Target, Upstream

FOREVER_S = 24 * 3600.0
_PORTS = {"http": 80, "https": 443}
_OURS_TO_SAY = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"accept-encoding"})


class FastTransport(httpx.AsyncBaseTransport):
    """Bodies of requests are read whole before they are sent; answers are streamed."""

    def __init__(
        self,
        upstream: Upstream | None = None,
        *,
        max_connections: int = 100,
        max_body_bytes: int = 268435456,
        ca_file: str | None = None,
    ) -> None:
        self._upstream = upstream or FastUpstream()
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._ca_file = ca_file

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeouts = request.extensions.get("timeout", {})
        wait_s = timeouts.get("read") or FOREVER_S
        limits = Limits(
            connect_timeout_s=timeouts.get("connect") or FOREVER_S,
            deadline=asyncio.get_running_loop().time() + wait_s,
            max_connections=self._max_connections,
            max_body_bytes=self._max_body_bytes,
        )
        body = await request.aread()
        try:
            reply = await self._upstream.send(self._target(request), body, limits)
        except UpstreamError as error:
            raise _theirs(error, request) from error
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from error
        reply.deadline = limits.deadline - wait_s + FOREVER_S
        reply.idle_timeout_s = timeouts.get("read")
        return httpx.Response(reply.status, headers=reply.headers, stream=_Pieces(reply, request), request=request)

    def _target(self, request: httpx.Request) -> Target:
        url = request.url
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"{url.scheme!r} is not http or https", request=request)
        origin = Origin(url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme], self._ca_file)
        headers = tuple(field for field in request.headers.raw if field[0].lower() not in _OURS_TO_SAY)
        path = url.raw_path.decode("ascii")
        return Target(request.method, origin, path, (*headers, (b"accept-encoding", b"identity")))

    async def aclose(self) -> None:
        await self._upstream.aclose()


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, reply: Reply, request: httpx.Request) -> None:
        self._reply = reply
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._reply.piece()) is not None:
                yield piece
        except UpstreamError as error:
            raise _theirs(error, self._request) from error

    async def aclose(self) -> None:
        self._reply.close()


_THEIRS: dict[type[UpstreamError], type[httpx.TransportError]] = {
    ConnectFailed: httpx.ConnectError,
    PoolFull: httpx.PoolTimeout,
    ConnectionReset: httpx.ReadError,
    AnswerBroken: httpx.RemoteProtocolError,
    AnswerTooLarge: httpx.RemoteProtocolError,
    UpstreamTimeout: httpx.ReadTimeout,
}


def _theirs(error: UpstreamError, request: httpx.Request) -> httpx.TransportError:
    if isinstance(error, ConnectFailed) and str(error) == CONNECT_TIMEOUT:
        return httpx.ConnectTimeout(str(error), request=request)
    theirs = next(theirs for ours, theirs in _THEIRS.items() if isinstance(error, ours))
    return theirs(str(error), request=request)
