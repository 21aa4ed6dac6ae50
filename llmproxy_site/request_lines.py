"""How the line of a request looks: a JSON object for machines, aligned and coloured text for people. Pure."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec

from stats.record import RequestRecord

_LOGGER = "llmproxy.requests"
_NANO = 1_000_000_000
_DIM, _RED, _GREEN, _YELLOW, _PLAIN = (f"\x1b[{code}m" for code in (2, 31, 32, 33, 0))
_encode = msgspec.json.Encoder().encode


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """What a line says, in this order; every field always."""

    timestamp: datetime  # when it ended
    level: str
    logger: str
    event: str
    request_id: str
    key: str
    operation: str
    model_group: str
    endpoint: str
    status: int
    outcome: str
    error: str
    stream: bool
    cache: str
    attempts: int
    causes: list[str]  # of attempts that did not succeed
    duration_ms: float
    ttft_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    revision: int


def as_json(record: RequestRecord, request_id: str) -> bytes:
    """With the line break."""
    cost = record.cost_nano_usd
    line = RequestLine(
        datetime.fromtimestamp(record.ended_at, UTC),
        level_of(record),
        _LOGGER,
        "request",
        request_id,
        record.key,
        record.operation,
        record.model_group,
        record.endpoint,
        record.status,
        record.outcome,
        record.error,
        record.stream,
        record.cache,
        len(record.attempts),
        _causes(record),
        round(record.duration_ms, 1),
        None if record.ttft_ms is None else round(record.ttft_ms, 1),
        record.input_tokens,
        record.output_tokens,
        None if cost is None else cost / _NANO,
        record.revision,
    )
    return _encode(line) + b"\n"


def left_out_as_json(count: int) -> bytes:
    """The line that says how many are missing."""
    return _encode({"timestamp": datetime.now(UTC), "level": "warning", "logger": _LOGGER, **_left_out(count)}) + b"\n"


def as_text(record: RequestRecord, request_id: str) -> bytes:
    """Like `22:03:52 200 chat/completions  gpt-4o → east  1.24 s  first 120 ms  12+340 tokens  $0.0021  hit  req_…`."""
    ended = datetime.fromtimestamp(record.ended_at).astimezone()
    where = f"{record.model_group or '?'} → {record.endpoint}" if record.endpoint else record.model_group or "?"
    told = [
        f"{_DIM}{ended:%H:%M:%S}{_PLAIN} {_colour(record)}{record.status or '---'}{_PLAIN}",
        f"{record.operation:<16}",
        f"{where:<32}",
        f"{_duration(record.duration_ms):>8}",
        *_details(record),
        f"{_DIM}{request_id}{_PLAIN}",
    ]
    return ("  ".join(told) + "\n").encode(errors="replace")


def left_out_as_text(count: int) -> bytes:
    """The same for people."""
    return f"{_YELLOW}{count} lines of requests left out: there were more than could be written{_PLAIN}\n".encode()


def level_of(record: RequestRecord) -> str:
    """A request that failed deserves a warning; what a client did wrong, or gave up, does not."""
    return "warning" if record.outcome == "failure" else "info"


def _left_out(count: int) -> dict[str, Any]:
    return {"event": "lines of requests left out: there were more than could be written", "left_out": count}


def _causes(record: RequestRecord) -> list[str]:
    if record.outcome == "success" and len(record.attempts) < 2:
        return []
    return [f"{attempt.endpoint}: {attempt.cause}" for attempt in record.attempts if attempt.cause]


def _colour(record: RequestRecord) -> str:
    if record.outcome == "failure":
        return _RED
    if record.outcome == "success":
        return _GREEN
    return _YELLOW


def _details(record: RequestRecord) -> list[str]:
    """What there is to tell of this request beyond what every one has."""
    told = []
    if record.ttft_ms is not None:
        told.append(f"first {_duration(record.ttft_ms)}")
    if record.input_tokens is not None or record.output_tokens is not None:
        told.append(f"{record.input_tokens or 0}+{record.output_tokens or 0} tokens")
    if record.cost_nano_usd:
        told.append(f"${record.cost_nano_usd / _NANO:.6f}")
    if record.cache == "hit":
        told.append(f"{_GREEN}hit{_PLAIN}")
    if record.outcome == "cancelled":
        told.append("the client left")
    if record.error:
        told.append(f"{_colour(record)}{record.error}{_PLAIN}")
    if causes := _causes(record):
        times = (f"{cause} ×{count}" if count > 1 else cause for cause, count in Counter(causes).items())  # noqa: RUF001
        told.append(f"{_YELLOW}{'; '.join(times)}{_PLAIN}")
    if record.key:
        told.append(record.key)
    return told


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"
