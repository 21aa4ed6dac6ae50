"""An answer of the mock before it goes to the wire, and the small pieces all routes share."""

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

CREATED = 1_750_000_000  # the mock's clock stands still: equal questions get equal answers
DONE = b"data: [DONE]\n\n"

encode = msgspec.json.encode
_WORD = re.compile(r"\s*\S+\s*?(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Answer:
    """Either one JSON body or a list of server-sent events, each ending in an empty line."""

    status: int = 200
    body: bytes = b""
    events: list[bytes] | None = None
    headers: bytes = field(default=b"")  # further header lines, each with CR LF


def refusal(status: int, message: str, param: str | None = None, code: str | None = None) -> Answer:
    """An error as OpenAI words it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return Answer(status, encode({"error": {"message": message, "type": kind, "param": param, "code": code}}))


def json_answer(value: Any) -> Answer:
    return Answer(body=encode(value))


def tokens(text: str) -> int:
    """About four characters a token, like the real tokenizers on English."""
    return len(text) // 4 + 1


def pieces(text: str, events: int) -> list[str]:
    """The text word by word; with `events` above 0, words repeat or stop so that exactly that many come."""
    words = _WORD.findall(text) or [text]
    if not events:
        return words
    rounds, rest = divmod(events, len(words))
    return words * rounds + words[:rest]
