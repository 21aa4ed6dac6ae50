"""Upstreams in memory: each endpoint answers what its script says, on the event loop's clock."""

import asyncio
from dataclasses import dataclass, field

from routing.upstream.errors import UpstreamError, UpstreamTimeout
from routing.upstream.transport import Headers, Limits, Reply, Target

GOOD = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
CHUNK = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
)
LAST = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = (b"content-type", b"text/event-stream")
NEVER = 1e9


@dataclass(frozen=True)
class Says:
    """One answer. head_after_s: until its head; pieces: (seconds since the one before, bytes or an error)."""

    status: int = 200
    body: bytes = GOOD
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    head_after_s: float = 0.0
    pieces: tuple[tuple[float, bytes | UpstreamError], ...] | None = None
    error: UpstreamError | None = None

    def parts(self) -> list[tuple[float, bytes | UpstreamError]]:
        return list(self.pieces) if self.pieces is not None else [(0.0, self.body)] if self.body else []


def status(number: int, *headers: tuple[bytes, bytes], code: str = "some_code", message: str = "no") -> Says:
    body = f'{{"error":{{"message":"{message}","type":"t","param":null,"code":"{code}"}}}}'.encode()
    return Says(number, body, headers)


def fails(error: UpstreamError) -> Says:
    return Says(error=error)


def streams(*pieces: bytes | UpstreamError | tuple[float, bytes | UpstreamError]) -> Says:
    timed = tuple(piece if isinstance(piece, tuple) else (0.0, piece) for piece in pieces)
    return Says(headers=(SSE,), pieces=timed)


GOOD_STREAM = streams(CHUNK, LAST, DONE)


class MemoryReply:
    """Implements transport.Reply."""

    def __init__(self, says: Says, deadline: float) -> None:
        self.status = says.status
        self.headers: Headers = list(says.headers)
        self.deadline = deadline
        self.idle_timeout_s: float | None = None
        self.closed = False
        self._parts = says.parts()

    async def read(self) -> bytes:
        pieces = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def piece(self) -> bytes | None:
        if not self._parts:
            return None
        after, what = self._parts.pop(0)
        await self._wait(after)
        if isinstance(what, UpstreamError):
            raise what
        return what

    async def _wait(self, seconds: float) -> None:
        left = self.deadline - asyncio.get_running_loop().time()
        idle = self.idle_timeout_s if self.idle_timeout_s is not None else float("inf")
        if seconds > min(left, idle):
            await asyncio.sleep(max(0.0, min(left, idle)))
            raise UpstreamTimeout("idle" if idle < left else "total")
        if seconds:
            await asyncio.sleep(seconds)

    def close(self) -> None:
        self.closed = True


@dataclass
class Asked:
    """One request that arrived at an endpoint."""

    at: float
    target: Target
    body: bytes
    limits: Limits
    fresh: bool
    reply: MemoryReply | None = None


@dataclass
class MemoryUpstream:
    """Implements transport.Upstream for one endpoint: `script` first, then `always`."""

    always: Says = field(default_factory=Says)
    script: list[Says] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    cancelled: int = 0

    async def send(
        self, target: Target, body: bytes, limits: Limits, extra: Headers | None = None, *, fresh: bool = False
    ) -> Reply:
        loop = asyncio.get_running_loop()
        asked = Asked(loop.time(), target, body, limits, fresh)
        self.asked.append(asked)
        says = self.script.pop(0) if self.script else self.always
        try:
            await self._until_head(says, limits)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        asked.reply = MemoryReply(says, limits.deadline)
        return asked.reply

    async def _until_head(self, says: Says, limits: Limits) -> None:
        left = limits.deadline - asyncio.get_running_loop().time()
        if says.head_after_s > left:
            await asyncio.sleep(max(0.0, left))
            raise UpstreamTimeout("head")
        await asyncio.sleep(says.head_after_s)
        if says.error is not None:
            raise says.error

    async def aclose(self) -> None: ...
