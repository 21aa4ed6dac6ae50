"""Builds what the client gets: head lines of good answers, and the JSON of errors. Nothing else makes error answers."""

import msgspec

from routing.errors import MethodNotAllowed, Refusal
from routing.upstream.transport import Headers

_PASSED_ON = frozenset({b"retry-after", b"retry-after-ms"})
_PASSED_ON_PREFIXES = (b"openai-", b"x-ratelimit-")
_REQUEST_IDS = frozenset({b"x-request-id", b"apim-request-id"})
_REPLAYED_PREFIXES = (b"openai-", b"x-llmproxy-")
JSON = (b"content-type", b"application/json")
NO_RETRY = (b"x-should-retry", b"false")
BYPASS = (b"x-llmproxy-cache", b"bypass")
MISS = (b"x-llmproxy-cache", b"miss")
HIT = (b"x-llmproxy-cache", b"hit")
STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def passed_on(upstream: Headers) -> Headers:
    """The headers of an upstream's answer that clients may see; never cookies, `server` or hop-by-hop ones."""
    kept: Headers = []
    identified = False  # Azure sends two ids, its own and OpenAI's
    for name, value in upstream:
        if name in _REQUEST_IDS:
            if not identified:
                kept.append((b"x-llmproxy-upstream-request-id", value))
            identified = True
        elif name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES):
            kept.append((name, value))
    return kept


def replayed(shown: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Those of `passed_on` that are true of a kept answer too: not the rate limits of another moment."""
    return tuple([line for line in shown if line[0].startswith(_REPLAYED_PREFIXES)])


def content_type(upstream: Headers) -> tuple[bytes, bytes]:
    for name, value in upstream:
        if name == b"content-type":
            return name, value
    return JSON


def cost_header(nano_usd: int) -> tuple[bytes, bytes]:
    """Billionths of a US dollar as a plain decimal of dollars."""
    dollars, rest = divmod(nano_usd, 1_000_000_000)
    return b"x-llmproxy-cost", (b"%d.%09d" % (dollars, rest)).rstrip(b"0") if rest else b"%d" % dollars


def error_body(refusal: Refusal) -> bytes:
    """OpenAI's shape, which SDKs turn into their own exceptions."""
    error = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
    return msgspec.json.encode({"error": error})


def error_headers(refusal: Refusal) -> Headers:
    headers: Headers = [JSON]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after))
    if isinstance(refusal, MethodNotAllowed):
        headers.append((b"allow", ", ".join(refusal.allowed).encode("ascii")))
    if refusal.after_attempt:
        headers.append(NO_RETRY)
    if refusal.attempts:
        headers += [(b"x-llmproxy-attempts", b"%d" % refusal.attempts), refusal.cache or BYPASS]
    if refusal.endpoint_header is not None:
        headers.append(refusal.endpoint_header)
    return headers
