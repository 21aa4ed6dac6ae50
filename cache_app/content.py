"""Whether an answer says something: one that is empty, or was cut short by a fault, is not kept. Pure.

Strict: every choice must say something, and have ended in a way that OpenAI names; other words ("error", "abort") are
how upstreams tell of a fault. Reasoning alone says nothing, nor does white space. What cannot be read is not kept.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

_ABSENT = msgspec.Raw(b"null")
_HOLLOW = re.compile(rb'null|""|\[\s*\]|\{\s*\}|"(?:[ ]|\\[nrt])*+"')
_ENDINGS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# -- chat completions and completions


class _Part(msgspec.Struct):
    text: msgspec.Raw = _ABSENT
    refusal: msgspec.Raw = _ABSENT


class _Said(msgspec.Struct, gc=False):
    """A message, or a piece of it."""

    content: msgspec.Raw = _ABSENT
    refusal: msgspec.Raw = _ABSENT
    tool_calls: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT
    audio: msgspec.Raw = _ABSENT


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    message: _Said | None = None
    delta: _Said | None = None
    text: msgspec.Raw = _ABSENT
    finish_reason: str | None = None


class _Choices(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None


def _filled(value: msgspec.Raw) -> bool:
    return value is not _ABSENT and _HOLLOW.fullmatch(bytes(value)) is None


def _has_words(content: msgspec.Raw) -> bool:
    """content: a text, or a list of parts of which some may be reasoning."""
    if content is _ABSENT:
        return False
    text = bytes(content)
    if text[:1] == b'"' and text[1:2].isalnum():  # most of them
        return True
    if _HOLLOW.fullmatch(text) is not None:
        return False
    return text[:1] != b"[" or any(_filled(part.text) or _filled(part.refusal) for part in _parts_decoder.decode(text))


def _speaks(choice: _Choice) -> bool:
    said = choice.delta or choice.message
    if said is None:
        return _filled(choice.text)
    return (
        _has_words(said.content)
        or _filled(said.tool_calls)
        or _filled(said.refusal)
        or _filled(said.function_call)
        or _filled(said.audio)
    )


def _choices_say(body: bytes) -> bool:
    choices = _choices_decoder.decode(body).choices or []
    for choice in choices:  # a generator for all() takes twice as long
        if choice.finish_reason not in _ENDINGS or not _speaks(choice):
            return False
    return bool(choices)


class _ChatStream:
    """Chunks with choices: 1.5 us for one that is read, 0.4 for one after every choice has said something."""

    __slots__ = ("_all_speak", "_choices", "_finished", "_spoken")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._spoken: set[int | None] = set()
        self._finished: set[int | None] = set()
        self._all_speak = False

    @property
    def yes(self) -> bool:
        return self._all_speak and len(self._finished) >= self._choices

    def see(self, payload: bytes) -> None:
        if self._all_speak and _ends_nothing(payload):
            return
        try:
            choices = _choices_decoder.decode(payload).choices
            for choice in choices or ():
                if _speaks(choice):
                    self._spoken.add(choice.index)
                if choice.finish_reason in _ENDINGS:
                    self._finished.add(choice.index)
        except _UNREADABLE:  # [DONE] too
            return
        self._all_speak = len(self._spoken) >= self._choices


def _ends_nothing(payload: bytes) -> bool:
    """No choice has a `finish_reason` in this chunk. In the text that a model says, quotes are escaped."""
    marks = payload.count(b'"finish_reason"')
    return marks == payload.count(b'"finish_reason":null') or marks == payload.count(b'"finish_reason": null')


# -- responses


class _Item(msgspec.Struct):
    type: str = ""
    content: list[_Part] | None = None


class _Response(msgspec.Struct):
    status: str = ""
    output: list[_Item] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    item: _Item | None = None
    response: _Response | None = None


class _Heard(NamedTuple):
    """words: in a message; acts: anything else that is more than reasoning, such as a function call."""

    words: bool = False
    acts: bool = False

    def is_answer(self, status: str) -> bool:
        """An act that is not complete cannot be acted upon."""
        return (status == "completed" and (self.words or self.acts)) or (status == "incomplete" and self.words)


def _hear(items: Iterable[_Item], heard: _Heard) -> _Heard:
    words, acts = heard
    for item in items:
        if item.type == "message":
            words = words or any(_filled(part.text) or _filled(part.refusal) for part in item.content or ())
        elif item.type not in ("", "reasoning"):
            acts = True
    return _Heard(words, acts)


def _response_says(body: bytes) -> bool:
    response = _response_decoder.decode(body)
    return _hear(response.output or (), _Heard()).is_answer(response.status)


class _ResponsesStream:
    """The last event holds the whole answer; where an upstream leaves it empty, the items that came before it do."""

    __slots__ = ("_heard", "yes")
    _READ = (b'"response.output_item.done"', b'"response.completed"', b'"response.incomplete"')

    def __init__(self) -> None:
        self._heard = _Heard()
        self.yes = False

    def see(self, payload: bytes) -> None:
        item_done, completed, incomplete = self._READ
        if item_done not in payload and completed not in payload and incomplete not in payload:
            return
        try:
            event = _event_decoder.decode(payload)
        except _UNREADABLE:
            return
        if event.type == "response.output_item.done" and event.item is not None:
            self._heard = _hear((event.item,), self._heard)
        elif event.type in ("response.completed", "response.incomplete") and event.response is not None:
            status = event.response.status or event.type.removeprefix("response.")
            self.yes = _hear(event.response.output or (), self._heard).is_answer(status)


# -- embeddings and moderations


class _Embedding(msgspec.Struct):
    embedding: msgspec.Raw = _ABSENT


class _Embeddings(msgspec.Struct):
    data: list[_Embedding] = []


class _Moderations(msgspec.Struct):
    results: list[msgspec.Raw] = []


def _embeddings_say(body: bytes) -> bool:
    data = _embeddings_decoder.decode(body).data
    return bool(data) and all(_filled(row.embedding) for row in data)


def _moderations_say(body: bytes) -> bool:
    results = _moderations_decoder.decode(body).results
    return bool(results) and all(_filled(result) for result in results)


# -- all


_parts_decoder = msgspec.json.Decoder(list[_Part])
_choices_decoder = msgspec.json.Decoder(_Choices)
_event_decoder = msgspec.json.Decoder(_Event)
_response_decoder = msgspec.json.Decoder(_Response)
_embeddings_decoder = msgspec.json.Decoder(_Embeddings)
_moderations_decoder = msgspec.json.Decoder(_Moderations)
_BY_OPERATION: dict[str, Callable[[bytes], bool]] = {
    "chat/completions": _choices_say,
    "completions": _choices_say,
    "responses": _response_says,
    "embeddings": _embeddings_say,
    "moderations": _moderations_say,
}


def says_something(operation: str, body: bytes) -> bool:
    """Of a whole JSON answer with status 200."""
    says = _BY_OPERATION.get(operation)
    try:
        return says is not None and says(body)
    except _UNREADABLE:
        return False


class SaysSomething:
    """The same of a stream. It is told of every event's data, in order, and parses few of them."""

    __slots__ = ("_stream", "see")

    def __init__(self, operation: str, choices: int = 1) -> None:
        """choices: how many must say something (chat)."""
        self._stream = _ResponsesStream() if operation == "responses" else _ChatStream(choices)
        self.see: Callable[[bytes], None] = self._stream.see

    @property
    def yes(self) -> bool:
        """Not before the end is seen; what comes behind it does not matter."""
        return self._stream.yes
