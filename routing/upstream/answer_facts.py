"""What the gateway needs to know of a JSON body that an upstream sent: is it whole, is it an error, its id, its usage.

Pure. One pass of a typed decoder over the bytes; nothing is kept of the text itself.
"""

from typing import Any

import msgspec

_MOST_TOKENS = 1 << 32  # of one answer; the store's counters are 64 bits wide and refuse to overflow


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the upstream counted them."""

    input: int
    output: int
    cached: int = 0  # among the input
    reasoning: int = 0  # among the output


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """Chat and completions say prompt and completion, responses say input and output, embeddings prompt only."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    def counted(self) -> Usage:
        received = self.prompt_tokens if self.input_tokens is None else self.input_tokens
        generated = self.completion_tokens if self.output_tokens is None else self.output_tokens
        of_input = self.prompt_tokens_details or self.input_tokens_details
        of_output = self.completion_tokens_details or self.output_tokens_details
        return Usage(
            _bounded(received),
            _bounded(generated),
            _bounded(of_input.cached_tokens) if of_input else 0,
            _bounded(of_output.reasoning_tokens) if of_output else 0,
        )


def _bounded(tokens: int | None) -> int:
    return min(max(tokens or 0, 0), _MOST_TOKENS)


class AnswerFacts(msgspec.Struct, frozen=True):
    """Of a 2xx JSON body. is_error: an object with a non-null `error` and no `object`."""

    id: str | None = None
    is_error: bool = False
    usage: Usage | None = None
    in_background: bool = False  # a response that was made after the request for it had been answered


class ErrorFacts(msgspec.Struct, frozen=True):
    """Of an error body in OpenAI's or Azure's shape, {"error": {"code", "type", "message"}}."""

    code: str
    message: str


class _Answer(msgspec.Struct):
    """As OpenAI describes it. `object` and `error` matter only for being there."""

    id: str | None = None
    object: Any = None
    error: Any = None
    usage: WireUsage | None = None
    background: bool | None = None


class _OddAnswer(msgspec.Struct):
    """The same from an upstream that fills some of these fields in a way of its own."""

    id: Any = None
    object: Any = None
    error: Any = None


class _ErrorBody(msgspec.Struct):
    error: Any


_answer_decoder = msgspec.json.Decoder(_Answer)
_odd_decoder = msgspec.json.Decoder(_OddAnswer)
_any_decoder = msgspec.json.Decoder(msgspec.Raw)
_error_decoder = msgspec.json.Decoder(_ErrorBody)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_answer(body: bytes) -> AnswerFacts | None:
    """None: not one whole JSON value in UTF-8."""
    try:
        if not body.isascii():
            body.decode()
        answer = _answer_decoder.decode(body)
    except msgspec.ValidationError:
        return _read_odd(body)
    except _UNREADABLE:
        return None
    usage = answer.usage.counted() if answer.usage is not None else None
    is_error = answer.error is not None and answer.object is None
    return AnswerFacts(answer.id, is_error, usage, answer.background is True)


def _read_odd(body: bytes) -> AnswerFacts | None:
    """Of an object with unusual fields, or of another JSON value, such as an array, of which nothing is known."""
    try:
        _any_decoder.decode(body)
        odd = _odd_decoder.decode(body)
    except msgspec.ValidationError:
        return AnswerFacts()
    except _UNREADABLE:
        return None
    known_id = odd.id if isinstance(odd.id, str) else None
    return AnswerFacts(known_id, odd.error is not None and odd.object is None)


def read_error(body: bytes) -> ErrorFacts | None:
    """None: not a JSON error body."""
    try:
        error = _error_decoder.decode(body).error
    except _UNREADABLE:
        return None
    if isinstance(error, str):
        return ErrorFacts("", error)
    if not isinstance(error, dict):
        return None
    message = error.get("message")
    return ErrorFacts(str(error.get("code") or error.get("type") or ""), message if isinstance(message, str) else "")
