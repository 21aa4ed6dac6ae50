"""What an upstream's result means: may the request go on to another endpoint, and does it count against this one.

Pure. The decision table of one attempt; whether a failure starts a cooldown is for `course`, which knows the request.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from routing.upstream.answer_facts import read_error
from routing.upstream.errors import (
    AnswerTooLarge,
    ConnectFailed,
    ConnectionReset,
    PoolFull,
    UpstreamError,
    UpstreamTimeout,
)
from routing.upstream.transport import Headers

_LONGEST_RETRY_AFTER_S = 300.0
_SHORTEST_RETRY_AFTER_S = 1.0
_UNKNOWN_MODEL = frozenset({"model_not_found", "DeploymentNotFound"})
_UNKNOWN_ID = frozenset({"previous_response_not_found", "invalid_encrypted_content", "conversation_not_found"})
_TOO_LARGE = re.compile(r"request too large|reduce the (length|size)|maximum context", re.IGNORECASE)
_LIMIT_AND_REQUESTED = re.compile(r"limit:?\s*(\d+).{0,40}?requested:?\s*(\d+)", re.IGNORECASE | re.DOTALL)


class Outcome(StrEnum):
    """How an attempt is counted."""

    SUCCESS = "success"
    FAILURE = "failure"
    REJECTED = "rejected"  # the upstream refused the request: 4xx, 429 included
    CANCELLED = "cancelled"  # the client left
    UNCOUNTED = "uncounted"  # never reached the endpoint: its pool was full


class Cause(StrEnum):
    """What kind of trouble; the rules for cooldowns and retries differ by it."""

    NONE = "none"
    CONNECT = "connect"  # nothing was sent
    RESET = "reset"  # the connection ended before the head: the request may have been read
    RATE_LIMIT = "rate_limit"
    STATUS = "status"  # a failing or unusable answer
    TIMEOUT = "timeout"
    REQUEST = "request"  # the request itself is to blame
    UNKNOWN_ID = "unknown_id"  # a response, conversation or encrypted item that this endpoint did not make
    POOL_FULL = "pool_full"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of one attempt's result."""

    outcome: Outcome
    retry: bool  # may another attempt be made
    cause: Cause = Cause.NONE
    error: str = ""  # class and status, for operators; never an upstream's text
    retry_after_s: float | None = None  # as the upstream said, clamped
    cools_s: float | None = None  # for a rate limit: how long; None: the endpoint's cooldown_time


SUCCESS = Verdict(Outcome.SUCCESS, retry=False)
CANCELLED = Verdict(Outcome.CANCELLED, retry=False, error="client left")


def unusable(what: str, retry_after_s: float | None = None) -> Verdict:
    """An answer that came but cannot be passed on as a success."""
    return Verdict(Outcome.FAILURE, retry=True, cause=Cause.STATUS, error=what, retry_after_s=retry_after_s)


def of_error(error: UpstreamError) -> Verdict:
    """No usable answer came."""
    if isinstance(error, PoolFull):
        return Verdict(Outcome.UNCOUNTED, retry=True, cause=Cause.POOL_FULL, error="all connections in use")
    if isinstance(error, UpstreamTimeout):
        return Verdict(Outcome.FAILURE, retry=True, cause=Cause.TIMEOUT, error=f"{error.phase} timeout")
    if isinstance(error, ConnectFailed):
        return Verdict(Outcome.FAILURE, retry=True, cause=Cause.CONNECT, error=str(error) or "connect error")
    if isinstance(error, ConnectionReset):
        return Verdict(Outcome.FAILURE, retry=True, cause=Cause.RESET, error="connection reset")
    if isinstance(error, AnswerTooLarge):
        return unusable("answer too large")
    return unusable("broken answer")


def of_status(status: int, headers: Headers, body: bytes, now: datetime | None = None) -> Verdict:
    """An answer with a status outside 200..299. body: as much of it as was read; now: for dates in Retry-After."""
    if status == 429:
        return _of_429(headers, body, now)
    if status in (401, 408) or status >= 500 or status < 400:
        return unusable(f"status {status}", retry_after(headers, now))
    error = read_error(body)
    if error is not None and error.code in _UNKNOWN_ID:
        return Verdict(Outcome.REJECTED, retry=False, cause=Cause.UNKNOWN_ID, error=f"status {status}")
    if status in (403, 404):
        if error is None or error.code in _UNKNOWN_MODEL:
            return unusable(f"status {status}")
        return Verdict(Outcome.REJECTED, retry=True, cause=Cause.REQUEST, error=f"status {status}")
    return Verdict(Outcome.REJECTED, retry=False, cause=Cause.REQUEST, error=f"status {status}")


def refuses_usage(status: int, body: bytes) -> bool:
    """A refusal that names the wish for a stream's usage: without it the request may be a good one."""
    return status in (400, 422) and (b"stream_options" in body or b"include_usage" in body)


def _of_429(headers: Headers, body: bytes, now: datetime | None) -> Verdict:
    if _blames_size(body):
        return Verdict(Outcome.REJECTED, retry=True, cause=Cause.REQUEST, error="status 429, request too large")
    seconds = retry_after(headers, now)
    return Verdict(
        Outcome.REJECTED,
        retry=True,
        cause=Cause.RATE_LIMIT,
        error="status 429",
        retry_after_s=seconds,
        cools_s=seconds,
    )


def _blames_size(body: bytes) -> bool:
    """A 429 for a request that is larger than the limit itself: waiting does not help, nor is the endpoint at fault."""
    error = read_error(body)
    if error is None:
        return False
    if _TOO_LARGE.search(error.message):
        return True
    numbers = _LIMIT_AND_REQUESTED.search(error.message)
    return numbers is not None and int(numbers[2]) > int(numbers[1])


def retry_after(headers: Headers, now: datetime | None = None) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After` (RFC 9110, 10.2.3), clamped to 1..300; None: none or nonsense."""
    fields = dict(headers)
    if (milliseconds := _number(fields.get(b"retry-after-ms"))) is not None:
        return _clamp(milliseconds / 1000)
    value = fields.get(b"retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return _clamp(seconds)
    try:
        at = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, TypeError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return _clamp((at - (now or datetime.now(UTC))).total_seconds())


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value.decode("ascii")) if value is not None else None
    except (ValueError, UnicodeDecodeError):
        return None
    return number if number is None or number == number else None  # not a NaN


def _clamp(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_RETRY_AFTER_S), _LONGEST_RETRY_AFTER_S)
