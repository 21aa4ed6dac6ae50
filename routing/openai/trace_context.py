"""W3C trace context: of which trace a request is a part (https://www.w3.org/TR/trace-context/). Pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
_SAMPLED = 1


class TraceParent(NamedTuple):
    """The span that caused this request."""

    trace_id: int
    span_id: int
    flags: int


def parent_of(headers: Mapping[bytes, bytes]) -> TraceParent | None:
    """What the client says. None: nothing that can be used; then its `tracestate` means nothing either."""
    found = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return TraceParent(trace_id, span_id, int(found[4], 16)) if trace_id and span_id else None


def traceparent(parent: TraceParent) -> bytes:
    """The header that tells the next one."""
    return b"00-%032x-%016x-%02x" % (parent.trace_id, parent.span_id, parent.flags & _SAMPLED)
