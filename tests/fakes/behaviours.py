"""Ways of an upstream to answer: the honest one, and the fault catalogue's."""

import gzip
import json
import zlib
from email.utils import formatdate

from tests.fakes.scripted import Behaviour, Exchange
from tests.fakes.truth import EVENT_STREAM, events, json_body, tell

SECRET_TEXT = "upstream-secret-text"  # must never reach a client
_FLUSH = 0.02  # seconds; a RST sent at once would overtake what was written before it


def honest(*headers: str, delay: float = 0, interval: float = 0) -> Behaviour:
    """The right answer after `delay` seconds, a stream's events `interval` apart."""

    async def play(exchange: Exchange) -> None:
        if delay:
            await exchange.silence(delay)
        await tell(exchange, interval=interval, headers=headers)

    return Behaviour(play)


def error_body(message: str, code: str | None = None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def status(
    number: int, *headers: str, code: str | None = None, message: str = "told to", delay: float = 0
) -> Behaviour:
    """An error in OpenAI's shape."""
    return body(number, error_body(message, code), *headers, delay=delay)


def body(number: int, content: bytes, *headers: str, kind: str = "application/json", delay: float = 0) -> Behaviour:
    """Any status with any body and a right content-length."""

    async def play(exchange: Exchange) -> None:
        if delay:
            await exchange.silence(delay)
        await exchange.answer(number, content, *headers, kind=kind)

    return Behaviour(play)


def rate_limited(*headers: str) -> Behaviour:
    return status(429, *headers, code="rate_limit_exceeded", message="Rate limit reached for requests")


def retry_after_date(seconds: float, now: float) -> str:
    return f"retry-after: {formatdate(now + seconds, usegmt=True)}"


def raw(content: bytes, *, end: str = "close", wait: float = 0) -> Behaviour:
    """Exactly these bytes; `end`: close | reset | silence | keep."""

    async def play(exchange: Exchange) -> None:
        await exchange.write(content)
        await _end(exchange, end, wait or (_FLUSH if end == "reset" else 0))

    return Behaviour(play)


async def _end(exchange: Exchange, end: str, wait: float = 0) -> None:
    if wait:
        await exchange.silence(wait)
    if end == "silence":
        await exchange.silence()
    elif end == "reset":
        exchange.reset()
    elif end == "close":
        exchange.close()


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _close(exchange: Exchange) -> None:
    exchange.close()


async def _silence(exchange: Exchange) -> None:
    await exchange.silence()


reset_before_head = Behaviour(_reset)
reset_after_half_request = Behaviour(_reset, share=0.5)
close_before_head = Behaviour(_close)
silence = Behaviour(_silence)


# -- heads


async def _reset_after_head(exchange: Exchange) -> None:
    kind = EVENT_STREAM if exchange.request.stream else ("content-type: application/json", "content-length: 700")
    await exchange.head(200, *kind)
    await _end(exchange, "reset", _FLUSH)


async def _silence_after_head(exchange: Exchange) -> None:
    kind = EVENT_STREAM if exchange.request.stream else ("content-type: application/json", "content-length: 700")
    await exchange.head(200, *kind)
    await exchange.silence()


async def _hints_first(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n")
    await exchange.write(b"HTTP/1.1 102 Processing\r\n\r\n")
    await tell(exchange)


async def _bare_lf(exchange: Exchange) -> None:
    content = json_body(exchange.request, exchange.nonce, exchange.size)
    await exchange.write(b"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: %d\n\n" % len(content))
    await exchange.write(content)
    exchange.close()


def many_headers(count: int = 10_000) -> Behaviour:
    async def play(exchange: Exchange) -> None:
        await tell(exchange, headers=tuple(f"x-filler-{number}: {number}" for number in range(count)))

    return Behaviour(play)


def huge_header(size: int = 1_000_000) -> Behaviour:
    async def play(exchange: Exchange) -> None:
        await tell(exchange, headers=("x-filler: " + "y" * size,))

    return Behaviour(play)


reset_after_head = Behaviour(_reset_after_head)
silence_after_head = Behaviour(_silence_after_head)
hints_first = Behaviour(_hints_first)
bare_lf = Behaviour(_bare_lf)
malformed_status_line = raw(b"HTTP/1.1 abc what\r\ncontent-length: 2\r\n\r\n{}")
not_http = raw(b"SSH-2.0-OpenSSH_9.2p1\r\n")
redirect = body(301, b"", "location: http://127.0.0.1:9/v1/elsewhere")
no_content = raw(b"HTTP/1.1 204 No Content\r\n\r\n", end="keep")
empty = body(200, b"")
html = body(200, f"<html>{SECRET_TEXT}</html>".encode(), kind="text/html")


# -- JSON bodies


def _mangled(mangle: str) -> Behaviour:
    async def play(exchange: Exchange) -> None:
        content = json_body(exchange.request, exchange.nonce, exchange.size)
        match mangle:
            case "trailing":
                content += b'{"more":1}'
            case "utf-8":
                content = content.replace(b"|", b"|\xff\xfe", 1)
            case "nan":
                content = content.replace(b'"created": 1', b'"created": NaN', 1)
        await exchange.answer(200, content)

    return Behaviour(play)


async def _cut_short(exchange: Exchange) -> None:
    content = json_body(exchange.request, exchange.nonce, exchange.size)
    await exchange.head(200, "content-type: application/json", f"content-length: {len(content)}")
    await exchange.write(content[: len(content) // 2])
    exchange.close()


async def _gzip(exchange: Exchange) -> None:
    content = gzip.compress(json_body(exchange.request, exchange.nonce, exchange.size))
    await exchange.answer(200, content, "content-encoding: gzip")


def gzip_bomb(megabytes: int = 100) -> Behaviour:
    async def play(exchange: Exchange) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        content = b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()
        await exchange.answer(200, content, "content-encoding: gzip")

    return Behaviour(play)


async def _endless(exchange: Exchange) -> None:
    kind = "text/event-stream" if exchange.request.stream else "application/json"
    await exchange.head(200, f"content-type: {kind}", "transfer-encoding: chunked")
    await exchange.chunk(b": " if exchange.request.stream else b'{"x": "')
    while True:
        await exchange.chunk(b"y" * 65536)
        await exchange.silence(0.001)


def trickle(interval: float = 1.0) -> Behaviour:
    """The right answer, one byte at a time."""

    async def play(exchange: Exchange) -> None:
        content = json_body(exchange.request, exchange.nonce, exchange.size)
        if exchange.request.stream:
            content = b"".join(events(exchange.request, exchange.nonce, exchange.size))
        kind = "text/event-stream" if exchange.request.stream else "application/json"
        await exchange.head(200, f"content-type: {kind}", f"content-length: {len(content)}")
        for number in range(len(content)):
            await exchange.write(content[number : number + 1])
            await exchange.silence(interval)

    return Behaviour(play)


trailing_garbage = _mangled("trailing")
invalid_utf8 = _mangled("utf-8")
not_a_number = _mangled("nan")
cut_short = Behaviour(_cut_short)
gzip_unasked = Behaviour(_gzip)
endless = Behaviour(_endless)
error_inside_200 = body(200, error_body(SECRET_TEXT, kind="server_error"))


def honest_then_closed(*, delay: float = 0) -> Behaviour:
    """A right answer on a connection that claims to stay open and is closed by the upstream afterwards."""

    async def play(exchange: Exchange) -> None:
        await tell(exchange)
        await exchange.silence(delay)
        exchange.close()

    return Behaviour(play)


# -- streams


def stream(*parts: bytes, end: str = "whole", wait: float = 0) -> Behaviour:
    """These pieces as chunks of an event stream; `end`: whole (proper end) | close | reset | silence."""

    async def play(exchange: Exchange) -> None:
        await exchange.head(200, *EVENT_STREAM)
        for part in parts:
            await exchange.chunk(part)
        if end == "whole":
            await exchange.write(b"0\r\n\r\n")
            return
        await _end(exchange, end, wait or (_FLUSH if end == "reset" else 0))

    return Behaviour(play)


def interrupted(after: int, end: str = "reset", *more: bytes) -> Behaviour:
    """The first `after` events of the honest stream, then `more`, then the end as in `stream`."""

    async def play(exchange: Exchange) -> None:
        sent = events(exchange.request, exchange.nonce, exchange.size)[:after]
        await stream(*sent, *more, end=end).play(exchange)

    return Behaviour(play)


def comments_for_ever(interval: float = 0.05, *, after: int = 0) -> Behaviour:
    """The first `after` events, then a comment every `interval` seconds."""

    async def play(exchange: Exchange) -> None:
        await exchange.head(200, *EVENT_STREAM)
        for event in events(exchange.request, exchange.nonce, exchange.size)[:after]:
            await exchange.chunk(event)
        while True:
            await exchange.chunk(b": keep-alive\n\n")
            await exchange.silence(interval)

    return Behaviour(play)


ERROR_EVENT = b'data: {"error": {"message": "boom", "type": "server_error", "param": null, "code": "server_error"}}\n\n'
first_event_is_an_error = stream(
    b'data: {"error": {"message": "%b", "type": "server_error"}}\n\n' % SECRET_TEXT.encode()
)
no_events = stream()
only_done = stream(b"data: [DONE]\n\n")


def sliced(cut: int) -> Behaviour:
    """The honest stream in two reads, cut at this byte."""

    async def play(exchange: Exchange) -> None:
        content = b"".join(events(exchange.request, exchange.nonce, exchange.size))
        await exchange.head(200, *EVENT_STREAM)
        await exchange.chunk(content[:cut])
        await exchange.silence(_FLUSH)
        await exchange.chunk(content[cut:])
        await exchange.write(b"0\r\n\r\n")

    return Behaviour(play)
