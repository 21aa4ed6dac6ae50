"""Parses a request once, into what routing needs to know. Pure; everything else in the body passes as it came.

The body is never re-serialised: the model's name is replaced in the original bytes, so that big integers, the spelling
of floats and the order of keys reach the upstream as the client wrote them.
"""

import hashlib
import re

import msgspec

from cache_app.policy import Directives, read_directives
from routing.errors import BadRequest
from routing.openai.members import DoubleKey, cut, find_members, put
from routing.openai.routes import CHAT, Route
from routing.trail import Trail
from routing.upstream.transport import Headers

NO_SCOPE = ""  # of a client without a key: of all, while there are none
_MOST_KEYS = 1000  # top-level keys; OpenAI's largest request has fewer than 50
_LONGEST_MODEL = 500
_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SURROGATE = re.compile(rb"\\u[dD]")  # 1.4 us for 4 KB; two searches for its spellings take 5.6
_WISH = b'"include_usage":true'
_ENCRYPTED = re.compile(rb'"encrypted_content"\s*:\s*"((?:[^"\\]|\\.)+)"')


class LLMRequest(msgspec.Struct, frozen=True):
    """One request of a client, as the gateway sees it. A Struct is made in 0.4 us, a frozen dataclass in 3."""

    route: Route
    method: str
    body: bytes
    model: str = ""  # the model group's name; empty for routes that name a stored response
    model_span: tuple[int, int] | None = None  # where the model's JSON string stands in the body
    stream: bool = False
    choices: int = 1  # chat: how many choices a stream must finish
    once_only: bool = False  # must not run twice: background responses and conversations
    pins: tuple[str, ...] = ()  # response, conversation or encrypted item ids whose maker must be asked
    operation: str = ""  # path below the provider's base
    query: str = ""
    headers: Headers | None = None  # of the client, to pass upstream
    scope: str = NO_SCOPE  # of the client key
    trail: Trail = msgspec.field(default_factory=Trail)
    values: dict[str, msgspec.Raw] = {}  # the top level of the body; for routes that name a model
    directives: Directives | None = None  # what the client says about caching; no part of the body

    def body_for(self, model_json: bytes) -> bytes:
        """The body with the model's name replaced by `model_json`."""
        if self.model_span is None:
            return self.body
        begin, end = self.model_span
        return b"".join((self.body[:begin], model_json, self.body[end:]))

    def asking_usage(self, model_json: bytes) -> bytes | None:
        """The same, asking for the usage at the end of the stream. None: the client does, or it cannot be asked for."""
        if self.route is not CHAT or self.model_span is None:
            return None
        options = self.values.get("stream_options")
        if options is None:
            return self.body_for(model_json + b',"stream_options":{%b}' % _WISH)
        wish = _with_wish(options)
        if wish is None:
            return None
        begin, end = find_members(self.body, self.values)["stream_options"][1:]
        model_begin, model_end = self.model_span
        first, last = sorted([(model_begin, model_end, model_json), (begin, end, wish)])
        body = self.body
        return b"".join((body[: first[0]], first[2], body[first[1] : last[0]], last[2], body[last[1] :]))


def parse_request(
    route: Route,
    body: bytes,
    *,
    trail: Trail | None = None,
    headers: Headers | None = None,
    cache_control: bytes = b"",
) -> LLMRequest:
    """A request of a route that names a model. Raises BadRequest (`invalid_json`, `model_required`).

    cache_control: the client's header, which does not go upstream, nor does what the body says about caching.
    """
    values = _decode(body)
    wishes: list[msgspec.Raw] = []
    if "cache" in values or "extra_body" in values:
        body = _without_wishes(body, values, wishes)
    spans = _spans(body, values)
    model = _model(values)
    is_responses = route.operation.startswith("responses")
    return LLMRequest(  # in the order of its fields: by their names it takes a microsecond longer
        route,
        "POST",
        body,
        model,
        spans,
        route.events != "none" and _true(values, "stream"),
        _count(values),
        is_responses and (_true(values, "background") or _present(values, "conversation")),
        _pins(values, body) if is_responses else (),
        route.operation,
        "",
        headers,
        NO_SCOPE,
        trail or Trail(),
        values,
        read_directives(cache_control, *wishes) if cache_control or wishes else None,
    )


def _decode(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        if not body.isascii():
            body.decode()
        if b"\\" in body and _SURROGATE.search(body):
            msgspec.json.decode(body)  # half of a surrogate pair is no text: found only where strings are decoded
        values = _top_level.decode(body)
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.", code="invalid_json") from None
    except UnicodeDecodeError:
        raise BadRequest("The request body is not valid UTF-8.", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    _bound(values)
    return values


def _bound(values: dict[str, msgspec.Raw]) -> None:
    if len(values) > _MOST_KEYS:
        raise BadRequest(f"The request body has more than {_MOST_KEYS} keys.", code="invalid_json")


def _without_wishes(body: bytes, values: dict[str, msgspec.Raw], wishes: list[msgspec.Raw]) -> bytes:
    """Moves `cache` and `extra_body.cache` from the values to the wishes; the body without them."""
    try:
        if "cache" in values:
            body = cut(body, values, "cache")
            wishes.append(values.pop("cache"))
        extra = _members_of(values.get("extra_body"))
        if "cache" not in extra:
            return body
        _bound(extra)
        rest = cut(bytes(values["extra_body"]), extra, "cache")
        wishes.append(extra.pop("cache"))
        if extra:
            body = put(body, values, "extra_body", rest)
            values["extra_body"] = msgspec.Raw(rest)
        else:
            body = cut(body, values, "extra_body")
            del values["extra_body"]
    except DoubleKey:
        raise _duplicate() from None
    return body


def _members_of(value: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """Nothing if it is no object."""
    try:
        return _top_level.decode(value) if value is not None else {}
    except msgspec.ValidationError:
        return {}


def _with_wish(options: msgspec.Raw) -> bytes | None:
    """The client's `stream_options` with `include_usage`; None: it has it, or it is nothing that may be changed."""
    text = bytes(options)
    if text == b"null":
        return b"{%b}" % _WISH
    members = _members_of(options)
    if (said := members.get("include_usage")) is None:
        if not text.startswith(b"{"):
            return None
        return b"{%b%b%b" % (_WISH, b"," if members else b"", text[1:])
    if bytes(said) not in (b"false", b"null"):
        return None
    try:
        return put(text, members, "include_usage", b"true")
    except DoubleKey:
        return None


def _spans(body: bytes, values: dict[str, msgspec.Raw]) -> tuple[int, int] | None:
    """Where the value of "model" stands; raises BadRequest for a key that stands twice.

    A body without white space and escapes in keys, as SDKs write it, has exactly the length of its decoded keys and
    values; a second value of one key, which decoding drops, would make it longer. That costs 0.3 us a key.
    """
    at, span = 1, None
    for key, value in values.items():
        begin = at + len(key) + 3  # two quotes and a colon
        at = begin + len(bytes(value)) + 1  # a comma or the closing brace
        if key == "model":
            span = (begin, at - 1)
    if at == len(body):
        return span
    try:
        member = find_members(body, values).get("model")
    except DoubleKey:
        raise _duplicate() from None
    return member[1:] if member is not None else None


def _duplicate() -> BadRequest:
    return BadRequest("A key stands twice in the request body; send each once.", code="invalid_json")


def _model(values: dict[str, msgspec.Raw]) -> str:
    raw = values.get("model")
    if raw is None:
        raise BadRequest("The request names no model: send the name of a model group as `model`.", param="model",
                         code="model_required")  # fmt: skip
    try:
        model = msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        model = ""
    if not model or len(model) > _LONGEST_MODEL:
        raise BadRequest(f"`model` must be a string of 1 to {_LONGEST_MODEL} characters.", param="model",
                         code="model_required")  # fmt: skip
    return model


def _true(values: dict[str, msgspec.Raw], key: str) -> bool:
    return key in values and bytes(values[key]) == b"true"


def _present(values: dict[str, msgspec.Raw], key: str) -> bool:
    return key in values and bytes(values[key]) != b"null"


def _count(values: dict[str, msgspec.Raw]) -> int:
    raw = bytes(values["n"]) if "n" in values else b""
    return max(int(raw), 1) if raw.isdigit() and len(raw) < 4 else 1


def _pins(values: dict[str, msgspec.Raw], body: bytes) -> tuple[str, ...]:
    pins = [_string(values, "previous_response_id"), _conversation(values)]
    if b'"encrypted_content"' in body and "input" in values:
        pins += [encrypted_pin(found) for found in _ENCRYPTED.findall(bytes(values["input"]))]
    return tuple(dict.fromkeys(pin for pin in pins if pin))


def encrypted_pin(content: bytes) -> str:
    """A short name for an encrypted item. content: the JSON string without its quotes."""
    return "enc_" + hashlib.blake2s(content, digest_size=16).hexdigest()


def encrypted_pins(body: bytes) -> list[str]:
    """Names of all encrypted items in an answer or an event."""
    return [encrypted_pin(found) for found in _ENCRYPTED.findall(body)] if b'"encrypted_content"' in body else []


def _conversation(values: dict[str, msgspec.Raw]) -> str:
    """`conversation` is an id, or an object that holds one."""
    if not _present(values, "conversation"):
        return ""
    try:
        named = msgspec.json.decode(values["conversation"], type=dict[str, msgspec.Raw] | str)
    except msgspec.DecodeError:
        return ""
    return named if isinstance(named, str) else _string(named, "id")


def _string(values: dict[str, msgspec.Raw], key: str) -> str:
    try:
        return msgspec.json.decode(values.get(key, b'""'), type=str)
    except msgspec.DecodeError:
        return ""
