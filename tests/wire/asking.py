"""One request to a server of the test, and what came of it."""

import asyncio
from typing import Any

from routing.upstream.errors import UpstreamError
from routing.upstream.transport import Limits, Origin, Reply, Target, Upstream

BODY = b'{"model": "m"}'


def limits(**changes: Any) -> Limits:
    """`within`: seconds until the deadline."""
    within = changes.pop("within", 5.0)
    values = {"connect_timeout_s": 5.0, "max_connections": 100, "max_body_bytes": 1 << 28, **changes}
    return Limits(deadline=asyncio.get_running_loop().time() + within, **values)


def post(origin: Origin, path: str = "/v1/chat/completions") -> Target:
    return Target("POST", origin, path, ((b"content-type", b"application/json"), (b"accept-encoding", b"identity")))


async def ask(upstream: Upstream, origin: Origin, body: bytes = BODY, *, fresh: bool = False, **changes: Any) -> Reply:
    return await upstream.send(post(origin), body, limits(**changes), fresh=fresh)


async def fetch(upstream: Upstream, origin: Origin, **changes: Any) -> bytes:
    """The body of one whole answer."""
    reply = await ask(upstream, origin, **changes)
    try:
        return await reply.read()
    finally:
        reply.close()


async def outcome(upstream: Upstream, origin: Origin) -> tuple[int, list[tuple[bytes, bytes]], bytes] | UpstreamError:
    """Status, headers and body over a connection of its own, or the error."""
    try:
        reply = await ask(upstream, origin, fresh=True, within=2)
        try:
            pieces = []
            while (piece := await reply.piece()) is not None:
                pieces.append(piece)
            return reply.status, reply.headers, b"".join(pieces)
        finally:
            reply.close()
    except UpstreamError as error:
        return error
