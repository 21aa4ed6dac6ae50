"""Reads the events of a chat or responses stream for what matters: is each valid, is it an error, has the answer ended.

Pure. It never holds an event back. Rules: OpenAI API reference, "Streaming" of chat completions and of responses.
"""

from enum import Enum
from typing import Any, Protocol

import msgspec

from routing.upstream.answer_facts import Usage, WireUsage

DONE = b"[DONE]"


class Seen(Enum):
    """What one event means for the stream."""

    MORE = "more"  # the answer goes on
    USAGE = "usage"  # likewise; it tells the usage of the whole stream, and nothing else
    DONE = "done"  # the last event: nothing after it belongs to the answer
    ERROR = "error"  # the upstream's own error event
    MALFORMED = "malformed"


class StreamWatch(Protocol):
    """Told of every event's data, in order."""

    usage: Usage | None
    response_id: str | None

    def see(self, payload: bytes) -> Seen: ...

    def complete(self) -> bool:
        """The answer is whole even if the stream ends now."""
        ...


# gc=False: what is made anew for every event holds no cycles; telling the garbage collector of it takes time.
class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    error: Any = None
    usage: WireUsage | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    usage: WireUsage | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    response: _Response | None = None
    error: Any = None


class _OddChoice(msgspec.Struct):
    index: Any = 0
    finish_reason: Any = None


class _OddChunk(msgspec.Struct):
    """A chunk of an upstream that fills some fields in a way of its own, such as tokens as floats."""

    choices: list[_OddChoice] | None = None
    error: Any = None
    usage: Any = None


class _OddResponse(msgspec.Struct):
    id: str | None = None


class _OddEvent(msgspec.Struct):
    type: str = ""
    response: _OddResponse | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_odd_chunk_decoder = msgspec.json.Decoder(_OddChunk)
_odd_event_decoder = msgspec.json.Decoder(_OddEvent)
_UNTOLD = WireUsage()  # a usage that cannot be read
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _odd_chunk(payload: bytes) -> _Chunk | None:
    """None: malformed. What only numbers are taken from must not end a stream that clients can read."""
    try:
        odd = _odd_chunk_decoder.decode(payload)
    except _UNREADABLE:
        return None
    choices = [
        _Choice(choice.index if isinstance(choice.index, int) else place, str(choice.finish_reason or ""))
        for place, choice in enumerate(odd.choices or ())
    ]
    return _Chunk(choices, odd.error, None if odd.usage is None else _UNTOLD)


def _odd_event(payload: bytes) -> _Event | None:
    """None: malformed."""
    try:
        odd = _odd_event_decoder.decode(payload)
    except _UNREADABLE:
        return None
    return _Event(odd.type, _Response(odd.response.id) if odd.response else None, odd.error)


class ChatWatch:
    """Chat completions and legacy completions: chunks with choices, a `finish_reason` for each choice, then [DONE]."""

    __slots__ = ("_choices", "_finished", "_open", "response_id", "usage")

    def __init__(self, choices: int) -> None:
        """choices: how many the request asked for (`n`)."""
        self._choices = choices
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self.usage: Usage | None = None
        self.response_id: str | None = None

    def see(self, payload: bytes) -> Seen:
        if payload == DONE:
            return Seen.DONE
        chunk: _Chunk | None
        try:
            chunk = _decode_chunk(payload)
        except _UNREADABLE:
            chunk = _odd_chunk(payload)
        if chunk is None:
            return Seen.MALFORMED
        if chunk.error is not None:
            return Seen.ERROR
        for choice in chunk.choices or ():
            (self._finished if choice.finish_reason else self._open).add(choice.index)
        if chunk.usage is None:
            return Seen.MORE
        if chunk.usage is not _UNTOLD:
            self.usage = chunk.usage.counted()
        return Seen.MORE if chunk.choices else Seen.USAGE

    def complete(self) -> bool:
        return len(self._finished) >= self._choices and self._open <= self._finished


class ResponsesWatch:
    """Responses: typed events, the last one `response.completed`, `response.incomplete` or `response.failed`."""

    __slots__ = ("_complete", "response_id", "usage")

    def __init__(self) -> None:
        self._complete = False
        self.usage: Usage | None = None
        self.response_id: str | None = None

    def see(self, payload: bytes) -> Seen:
        if payload == DONE:
            return Seen.DONE
        event: _Event | None
        try:
            event = _decode_event(payload)
        except _UNREADABLE:
            event = _odd_event(payload)
        if event is None:
            return Seen.MALFORMED
        if event.response is not None:
            self.response_id = event.response.id or self.response_id
            if event.response.usage is not None:
                self.usage = event.response.usage.counted()
        if event.type in ("error", "response.failed") or (not event.type and event.error is not None):
            return Seen.ERROR
        if event.type in ("response.completed", "response.incomplete"):
            self._complete = True
        return Seen.MORE

    def complete(self) -> bool:
        return self._complete


def watch_for(events: str, choices: int) -> StreamWatch:
    """events: a route's kind of stream."""
    return ResponsesWatch() if events == "responses" else ChatWatch(choices)


def interruption(events: str) -> bytes:
    """The last event of a stream that broke after its first one: SDKs raise an error instead of ending quietly."""
    error = {
        "message": "The upstream's stream was interrupted before its end; what came so far is incomplete. Send the "
        "request again.",
        "type": "server_error",
        "param": None,
        "code": "upstream_stream_interrupted",
    }
    if events == "responses":
        return b"event: error\ndata: " + msgspec.json.encode({"type": "error", "error": error}) + b"\n\n"
    return b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"
