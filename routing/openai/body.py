"""Reads a request's body: bounded in bytes and in time. A slow upload lives as long as it makes progress.

A body that does not is given up after 15 s of silence, or when its average falls below 1 KiB/s after the first 15 s.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from routing.errors import RequestTimedOut, TooLarge
from routing.openai.ready import Ready
from routing.openai.time_limits import TimeLimit, TimeLimits, TimeOver

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_SILENCE_S = 15.0
_TOO_SLOW = "The request body came too slowly. Send it again, at 1 KiB a second at least."
_SLOWEST = 1024  # bytes a second


class ClientLeft(Exception):
    """While its body was read."""


async def read_body(receive: Receive, limit: int, limits: TimeLimits, on_upload: Callable[[], None]) -> bytes:
    """limit: bytes; on_upload: called once if the body is not there at once, may refuse it.

    Raises ClientLeft, TooLarge, RequestTimedOut.
    """
    waiting = receive()
    if isinstance(waiting, Ready) and not waiting.value.get("more_body"):
        message = waiting.value
        body: bytes = message.get("body", b"")
    else:
        try:
            with limits.within(_SILENCE_S) as patience:
                message = await waiting
                body = message.get("body", b"")
                if message.get("more_body"):
                    on_upload()
                    return await _rest(body, receive, limit, patience)
        except TimeOver:
            raise RequestTimedOut(_TOO_SLOW) from None
    if message["type"] == "http.disconnect":
        raise ClientLeft
    if len(body) > limit:
        raise too_large(limit)
    return body


async def _rest(first: bytes, receive: Receive, limit: int, patience: TimeLimit) -> bytes:
    loop = asyncio.get_running_loop()
    began = loop.time()
    pieces, size, more = [first], len(first), True
    patience.deadline = began + _SILENCE_S
    while more:
        if size > limit:  # before the wait: the client may wait for our answer now
            raise too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            pieces.append(piece)
            size += len(piece)
            patience.deadline = min(loop.time() + _SILENCE_S, began + max(_SILENCE_S, size / _SLOWEST))
    if size > limit:
        raise too_large(limit)
    return b"".join(pieces)


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than {limit} bytes, the limit here (max_request_body_bytes).")
