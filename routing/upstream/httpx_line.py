"""httpx's connections to one origin, directly or through a proxy, and the replies that are read from them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from routing.upstream.errors import AnswerBroken, AnswerTooLarge, UpstreamTimeout
from routing.upstream.sweeper import IDLE_EXPIRY_S
from routing.upstream.transport import Headers, Limits

MAX_IDLE = 100


@dataclass(frozen=True, slots=True)
class Way:
    """How an origin is reached; holds the TLS contexts, which are slow to build."""

    tls: ssl.SSLContext | None
    proxy: httpx.Proxy | None

    def transport(self) -> httpx.AsyncHTTPTransport:
        """Raises ValueError or ImportError for a proxy of a kind that cannot be used."""
        return httpx.AsyncHTTPTransport(
            verify=False if self.tls is None else self.tls,
            proxy=self.proxy,
            trust_env=False,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_EXPIRY_S
            ),
        )


@dataclass(slots=True)
class Line:
    """The transport to one origin, and how many replies hold a connection of it."""

    way: Way
    transport: httpx.AsyncHTTPTransport
    in_use: int = 0
    _closed: bool = False
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    def close_later(self, response: httpx.Response, own: httpx.AsyncHTTPTransport | None) -> None:
        """httpx closes asynchronously only; the task is kept until it is done, and `aclose` waits for it."""
        closing = asyncio.get_running_loop().create_task(self.release(response, own))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def release(self, response: httpx.Response, own: httpx.AsyncHTTPTransport | None) -> None:
        """`own`: the transport that was made for this response alone."""
        try:
            await response.aclose()
        except httpx.TransportError:
            pass  # it is closed all the same
        finally:
            self.in_use -= 1
        if own is not None:
            await own.aclose()
        if self._closed and not self.in_use:
            await self.transport.aclose()

    async def aclose(self) -> None:
        """Closes the idle connections; the last reply in use closes the rest."""
        self._closed = True
        await asyncio.gather(*self._closing)
        if not self.in_use:
            await self.transport.aclose()


class HttpxReply:
    """A reply read from httpx's stream, without its decoding."""

    def __init__(
        self, response: httpx.Response, line: Line, limits: Limits, own: httpx.AsyncHTTPTransport | None
    ) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self.deadline = limits.deadline
        self.idle_timeout_s: float | None = None
        self._response = response
        self._pieces: AsyncIterator[bytes] = aiter(response.stream)
        self._line = line
        self._own = own
        self._max_body_bytes = limits.max_body_bytes
        self._received = 0
        self._freed = False

    async def read(self) -> bytes:
        pieces = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes | None:
        while not self._freed:
            piece = await self._next()
            if piece is None:
                self._freed = True
                await self._line.release(self._response, self._own)
            elif piece:
                return self._counted(piece)
        return None

    def _counted(self, piece: bytes) -> bytes:
        self._received += len(piece)
        if self._received > self._max_body_bytes:
            self.close()
            raise AnswerTooLarge("the answer is larger than max_response_bytes")
        return piece

    async def _next(self) -> bytes | None:
        give_up_at, phase = self.deadline, "total"
        if self.idle_timeout_s is not None:
            idle_at = asyncio.get_running_loop().time() + self.idle_timeout_s
            if idle_at < give_up_at:
                give_up_at, phase = idle_at, "idle"
        try:
            async with asyncio.timeout_at(give_up_at):
                return await anext(self._pieces, None)
        except TimeoutError as error:
            raise UpstreamTimeout(phase) from error
        except httpx.TransportError as error:
            raise AnswerBroken("the answer was cut short or is not HTTP") from error

    def close(self) -> None:
        if not self._freed:
            self._freed = True
            self._line.close_later(self._response, self._own)
