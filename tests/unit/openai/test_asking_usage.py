"""A body that asks for the usage of its stream: the wish is in it, and every other byte as the client wrote it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.openai.request import parse_request
from routing.openai.routes import CHAT, COMPLETIONS, RESPONSES

HEAD, TAIL = b'{ "temperature":1e0,"model" : "m"', b' ,"stream":true,"big":123456789012345678901234567890 }\n'


def asking(body: bytes) -> bytes | None:
    return parse_request(CHAT, body).asking_usage(b'"other"')


def test_a_body_without_options_gets_them_behind_its_model():
    wished = b',"stream_options":{"include_usage":true}'
    assert asking(HEAD + TAIL) == HEAD.replace(b'"m"', b'"other"') + wished + TAIL


@pytest.mark.parametrize(
    ("options", "wished"),
    [
        (b"null", b'{"include_usage":true}'),
        (b"{}", b'{"include_usage":true}'),
        (b"{ }", b'{"include_usage":true }'),
        (b'{ "include_obfuscation": false}', b'{"include_usage":true, "include_obfuscation": false}'),
        (b'{"include_usage":false}', b'{"include_usage":true}'),
        (b'{"a": 1.0 , "include_usage" : null,"b":2}', b'{"a": 1.0 , "include_usage" : true,"b":2}'),
    ],
)
@pytest.mark.parametrize("first", ["model", "options"])
def test_options_of_the_client_are_completed(options, wished, first):
    model, told = b'"model" : "m"', b'"stream_options" :%b '
    parts = [model, told] if first == "model" else [told, model]
    body = b'{ "a":[ 1 ],' + b" , ".join(parts) + b',"z":{}}'
    assert asking(body % options) == (body % wished).replace(b'"m"', b'"other"')


@pytest.mark.parametrize(
    "options",
    [b'{"include_usage":true}', b'{"include_usage":"yes"}', b'{"include_usage":false,"include_usage":true}', b'{"a":1,'
     b'"a":2,"include_usage":false}', b"[]", b'"x"', b"true"],
)  # fmt: skip
def test_what_the_client_asks_for_or_got_wrong_stays_its_own(options):
    assert asking(HEAD + b',"stream_options":' + options + TAIL) is None


def test_only_chat_is_asked():
    assert parse_request(COMPLETIONS, HEAD + TAIL).asking_usage(b'"other"') is None
    assert parse_request(RESPONSES, HEAD + TAIL).asking_usage(b'"other"') is None


def test_wishes_for_the_cache_are_out_of_the_way():
    body = b'{"cache":{"ttl":5},"stream_options":null,"model":"m","extra_body":{"cache":{},"x":1}}'
    assert asking(body) == b'{"stream_options":{"include_usage":true},"model":"other","extra_body":{"x":1}}'


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(), max_size=4), st.data())
def test_nothing_else_of_the_request_changes(fields, data):
    options = data.draw(st.none() | st.dictionaries(st.sampled_from(["a", "é", "}"]), st.integers(), max_size=2))
    asked = fields | {"model": "m"} | data.draw(st.sampled_from([{}, {"stream_options": options}]))
    items = data.draw(st.permutations(list(asked.items())))
    body = asking(json.dumps(dict(items), ensure_ascii=data.draw(st.booleans())).encode())
    wished = (asked.get("stream_options") or {}) | {"include_usage": True}
    assert json.loads(body) == asked | {"model": "other", "stream_options": wished}
