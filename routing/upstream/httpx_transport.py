"""httpx's transport behind our protocol: for endpoints behind a proxy or set to it, probes, and as a reference.

Calls the transport itself, never `AsyncClient`: no redirects, no cookies, no decompression, no environment.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from routing.upstream.dial import tls_context
from routing.upstream.errors import (
    CONNECT_TIMEOUT,
    AnswerBroken,
    ConnectFailed,
    ConnectionReset,
    PoolFull,
    UpstreamError,
    UpstreamTimeout,
)
from routing.upstream.fields import field_lines, refuse_encodings
from routing.upstream.httpx_line import HttpxReply, Line, Way
from routing.upstream.proxies import proxy_for
from routing.upstream.transport import Headers, Limits, Origin, Target

_NOTHING_CAME = "Server disconnected without sending a response."  # httpcore's words; it has no error of its own for it


class HttpxUpstream:
    """Implements `Upstream`. `variables`: the environment, which may name proxies."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._lines: dict[Origin, Line] = {}
        self._opening = asyncio.Lock()

    async def send(
        self, target: Target, body: bytes, limits: Limits, extra: Headers | None = None, *, fresh: bool = False
    ) -> HttpxReply:
        field_lines(extra or ())
        line = await self._line(target.origin)
        call = _Call(target, body, limits, extra or [])
        if not fresh:
            try:
                return await call.over(line, None)
            except ConnectionReset:
                if call.connected:  # it was no connection from the pool
                    raise
        return await call.over(line, line.way.transport())

    async def _line(self, origin: Origin) -> Line:
        async with self._opening:
            line = self._lines.get(origin)
            if line is None:
                try:
                    way = await asyncio.to_thread(_way, origin, proxy_for(origin, self._variables))
                    line = self._lines[origin] = Line(way, way.transport())
                except (OSError, ValueError, ImportError) as error:
                    raise ConnectFailed("ca_file or proxy cannot be used") from error
        return line

    async def aclose(self) -> None:
        await asyncio.gather(*(line.aclose() for line in self._lines.values()))


def _way(origin: Origin, proxy: str | None) -> Way:
    """Blocks: it reads trust stores."""
    tls = tls_context(origin.ca_file) if origin.scheme == "https" else None
    if proxy is None:
        return Way(tls, None)
    return Way(tls, httpx.Proxy(proxy, ssl_context=tls_context(None) if proxy.startswith("https:") else None))


class _Call:
    """One request, which may be tried twice."""

    def __init__(self, target: Target, body: bytes, limits: Limits, extra: Headers) -> None:
        self._target = target
        self._body = body
        self._limits = limits
        self._extra = extra
        self.connected = False

    async def over(self, line: Line, own: httpx.AsyncHTTPTransport | None) -> HttpxReply:
        """`own`: a transport for this request alone, so that its connection is new."""
        if line.in_use >= self._limits.max_connections:
            raise PoolFull("all connections are in use")
        line.in_use += 1
        response = None
        try:
            response = await self._response(own or line.transport, self._request(direct=line.way.proxy is None))
            reply = HttpxReply(response, line, self._limits, own)
            refuse_encodings(reply.headers)
        except BaseException:
            if response is not None:
                line.close_later(response, own)
            else:
                line.in_use -= 1
                if own is not None:
                    await own.aclose()
            raise
        return reply

    async def _response(self, transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout_at(self._limits.deadline):
                return await transport.handle_async_request(request)
        except TimeoutError as error:
            raise UpstreamTimeout("head") from error
        except httpx.TransportError as error:
            raise _ours(error) from error

    def _request(self, direct: bool) -> httpx.Request:
        target = self._target
        origin = target.origin
        headers = [(b"host", origin.authority.encode("ascii")), *target.headers, *self._extra]
        if self._body or target.method == "POST":
            headers.append((b"content-length", b"%d" % len(self._body)))
        url = httpx.URL(scheme=origin.scheme, host=origin.host, port=origin.port, raw_path=target.path.encode("ascii"))
        extensions: dict[str, Any] = {
            "timeout": {"connect": self._limits.connect_timeout_s, "read": None, "write": None, "pool": None},
            "trace": self._trace,
        }
        if direct:  # as it is: httpx would encode some characters again; but a proxy's CONNECT would get it too
            extensions["target"] = target.path.encode("ascii")
        return httpx.Request(
            target.method,
            url,
            headers=headers,
            stream=httpx.ByteStream(self._body),
            extensions=extensions,
        )

    async def _trace(self, event: str, _: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.connected = True


_OURS: tuple[tuple[type[httpx.TransportError], Callable[[], UpstreamError]], ...] = (
    (httpx.ConnectTimeout, lambda: ConnectFailed(CONNECT_TIMEOUT)),
    (httpx.ConnectError, lambda: ConnectFailed("no connection")),
    (httpx.ProxyError, lambda: ConnectFailed("refused by the proxy")),
    (httpx.UnsupportedProtocol, lambda: ConnectFailed("unsupported protocol")),
    (httpx.ReadError, lambda: ConnectionReset("closed before the answer's head")),
    (httpx.WriteError, lambda: ConnectionReset("closed before the answer's head")),
)


def _ours(error: httpx.TransportError) -> UpstreamError:
    if str(error) == _NOTHING_CAME:
        return ConnectionReset("closed before the answer's head")
    for theirs, ours in _OURS:
        if isinstance(error, theirs):
            return ours()
    return AnswerBroken("the answer is not HTTP")
