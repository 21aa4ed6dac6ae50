"""Which path gets which answer: OpenAI's paths with and without /v1, and Azure's with deployments."""

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qs, unquote

import msgspec

from routing.mock_upstream import vectors
from routing.mock_upstream.answer import Answer, refusal
from routing.mock_upstream.asked import ChatAsked, CompletionAsked, EmbeddingsAsked, ModerationAsked, ResponseAsked
from routing.mock_upstream.chat import chat, completion
from routing.mock_upstream.responses import Responses, input_tokens

_PREFIX = re.compile(r"^(?:/openai)?(?:/v1|/deployments/[^/]+)?/")
_RESPONSE = re.compile(r"^responses/(?P<identity>[^/]+)(?:/(?P<action>cancel|input_items))?$")

T = TypeVar("T")


def _typed(kind: type[T], answer: Callable[[T, bytes], Answer]) -> Callable[[bytes], Answer]:
    """A route that parses its body into `kind`; what does not fit is the client's mistake."""
    decode = msgspec.json.Decoder(kind).decode

    def answered(body: bytes) -> Answer:
        try:
            asked = decode(body)
        except msgspec.ValidationError as error:
            return refusal(400, f"Invalid request: {error}")
        except msgspec.DecodeError as error:
            return refusal(400, f"We could not parse the JSON body of your request: {error}")
        return answer(asked, body)

    return answered


class Routes:
    """All routes of one mock; `events` as in MockUpstream."""

    def __init__(self, name: str, events: int) -> None:
        self._responses = kept = Responses(name)
        self._posts: dict[str, Callable[[bytes], Answer]] = {
            "chat/completions": _typed(ChatAsked, lambda asked, body: chat(asked, body, name, events)),
            "completions": _typed(CompletionAsked, lambda asked, body: completion(asked, body, name, events)),
            "embeddings": _typed(EmbeddingsAsked, lambda asked, body: vectors.embeddings(asked)),
            "moderations": _typed(ModerationAsked, lambda asked, body: vectors.moderation(asked)),
            "responses": _typed(ResponseAsked, lambda asked, body: kept.create(asked, events)),
            "responses/compact": _typed(ResponseAsked, lambda asked, body: kept.compact(asked)),
            "responses/input_tokens": _typed(ResponseAsked, lambda asked, body: input_tokens(asked)),
        }
        self._hot = {b"/v1/" + path.encode(): route for path, route in self._posts.items()}

    def answer(self, method: bytes, target: bytes, body: bytes) -> Answer:
        """`target` as in the request line."""
        if method == b"POST" and (route := self._hot.get(target)) is not None:
            return route(body)
        path, _, query = target.decode("latin-1").partition("?")
        path = _PREFIX.sub("", unquote(path), count=1)
        if path in self._posts:
            return self._posts[path](body) if method == b"POST" else _wrong_method("POST")
        if path == "models" or path.startswith("models/"):
            return _models(method, path[7:])
        found = _RESPONSE.match(path)
        if found is None:
            return refusal(404, f"Invalid URL ({method.decode('latin-1')} /{path})", None, "unknown_url")
        return self._one_response(method, found["identity"], found["action"], query)

    def _one_response(self, method: bytes, identity: str, action: str | None, query: str) -> Answer:
        if action == "cancel":
            return self._responses.cancel(identity) if method == b"POST" else _wrong_method("POST")
        if method == b"DELETE" and action is None:
            return self._responses.delete(identity)
        if method != b"GET":
            return _wrong_method("GET" if action else "GET, DELETE")
        if action == "input_items":
            return self._responses.input_items(identity)
        asked = parse_qs(query)
        after = asked.get("starting_after", ["-1"])[0]
        stream = asked.get("stream", ["false"])[0] == "true"
        return self._responses.get(identity, stream=stream, after=int(after) if after.isdecimal() else -1)


def _models(method: bytes, identity: str) -> Answer:
    if method != b"GET":
        return _wrong_method("GET")
    return vectors.model(identity) if identity else vectors.models()


def _wrong_method(allowed: str) -> Answer:
    wrong = refusal(405, f"Not allowed; this path takes {allowed}.", None, "method_not_supported")
    return Answer(405, wrong.body, headers=f"allow: {allowed}\r\n".encode())
