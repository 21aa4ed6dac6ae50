"""Parsing a body: what routing needs is read, the model's name is replaced, and every other byte stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.errors import BadRequest
from routing.openai.request import encrypted_pins, parse_request
from routing.openai.routes import CHAT, EMBEDDINGS, RESPONSES

SPACE = st.text(" \t\r\n", max_size=3)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def spelled(draw, text: str) -> str:
    """A JSON string, some of its characters as escapes."""
    plain = json.dumps(text, ensure_ascii=draw(st.booleans()))
    if text.isascii() and text.isalnum() and draw(st.booleans()):
        at = draw(st.integers(0, len(text) - 1)) + 1
        return plain[:at] + f"\\u{ord(plain[at]):04x}" + plain[at + 1 :]
    return plain


@st.composite
def bodies(draw):
    """(the parts of a body around its model, the model's name)"""
    fields = draw(st.dictionaries(st.text(max_size=6).filter(lambda key: key != "model"), VALUES, max_size=5))
    at, name = draw(st.integers(0, len(fields))), draw(st.text(min_size=1, max_size=20))
    parts = [f"{draw(SPACE)}{spelled(draw, key)}{draw(SPACE)}:{draw(SPACE)}{json.dumps(value)}{draw(SPACE)}"
             for key, value in fields.items()]  # fmt: skip
    before = (
        draw(SPACE) + "{" + ",".join([*parts[:at], f"{draw(SPACE)}{spelled(draw, 'model')}{draw(SPACE)}:{draw(SPACE)}"])
    )
    after = draw(SPACE) + "".join("," + part for part in parts[at:]) + "}" + draw(SPACE)
    return before.encode(), spelled(draw, name).encode(), after.encode(), name


@given(bodies())
def test_the_model_is_replaced_and_every_other_byte_stays(body):
    before, spelling, after, name = body
    request = parse_request(CHAT, before + spelling + after)
    assert request.model == name
    assert request.body_for(b'"other"') == before + b'"other"' + after


@given(bodies(), st.data())
def test_a_key_that_stands_twice_is_refused(body, data):
    before, spelling, after, _ = body
    text = (before + spelling + after).decode()
    key = data.draw(st.sampled_from(sorted(json.loads(text))))
    again = f"{spelled(data.draw, key)}:{json.dumps(data.draw(VALUES))}"
    open_at, close_at = text.index("{") + 1, text.rindex("}")
    doubled = data.draw(st.sampled_from([text[:open_at] + again + "," + text[open_at:],
                                         text[:close_at] + "," + again + text[close_at:]]))  # fmt: skip
    with pytest.raises(BadRequest) as refused:
        parse_request(CHAT, doubled.encode())
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize(
    "body",
    [
        r'{"model":"m","model":"m"}',
        r'{"model":"m","mod\u0065l":"other"}',
        r'{"mod\u0065l":"m","model":"m"}',
        r'{"stream":true,"model":"m","stream":false}',
        r'{"model":"m","n":12,"n":1}',
        r'{"model":"m","n":1,"n":12}',
        r'{"n":1,"model":"m","x":{},"n":1}',
        r'{"":1,"":1,"model":"m"}',
    ],
)
def test_double_keys(body):
    with pytest.raises(BadRequest):
        parse_request(CHAT, body.encode())


def test_nested_keys_of_the_same_name_are_left_alone():
    body = b'{"metadata":{"model":"x","model":"y"},"model":"m","messages":[{"model":"z"}]}'
    request = parse_request(CHAT, body)
    assert request.body_for(b'"up"') == body.replace(b'"model":"m"', b'"model":"up"')


def test_numbers_keep_their_spelling():
    body = b'{"seed":123456789012345678901234567890,"temperature":1.0e-0,"model":"m","top_p":1.10}'
    assert parse_request(CHAT, body).body_for(b'"m"') == body


NESTED = 100_000
REFUSED = {
    "nested deep, arrays": b'{"model":"m","x":' + b"[" * NESTED + b"]" * NESTED + b"}",
    "nested deep, objects": b'{"model":"m","x":' + b'{"a":' * NESTED + b"1" + b"}" * NESTED + b"}",
    "nested deep, never closed": b"[" * NESTED,
    "a million keys": b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b',"model":"m"}',
    "NaN": b'{"model":"m","temperature":NaN}',
    "Infinity": b'{"model":"m","temperature":-Infinity}',
    "nested NaN": b'{"model":"m","x":[{"y":NaN}]}',
    "NUL": b'{"model":"m","x":"\0"}',
    "NUL after": b'{"model":"m"}\0',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "UTF-16 without BOM": '{"model":"m"}'.encode("utf-16-le"),
    "UTF-32": '{"model":"m"}'.encode("utf-32"),
    "BOM": b'\xef\xbb\xbf{"model":"m"}',
    "invalid UTF-8": b'{"model":"m","x":"\xff"}',
    "a surrogate in UTF-8": b'{"model":"m","x":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"model":"m","x":"\xc0\xaf"}',
    "a lone surrogate as the model": rb'{"model":"\ud800"}',
    "a lone surrogate": rb'{"model":"m","x":"\ud800"}',
    "a lone surrogate, nested, in capitals": rb'{"model":"m","x":[{"y":"\uD800"}]}',
    "a lone surrogate as a key": rb'{"model":"m","\ud800":1}',
    "empty": b"",
    "white space": b"  \n",
    "array": b'[{"model":"m"}]',
    "string": b'"model"',
    "null": b"null",
    "number": b"7",
    "trailing garbage": b'{"model":"m"} x',
    "two objects": b'{"model":"m"}{"model":"m"}',
    "cut short": b'{"model":"m"',
    "trailing comma": b'{"model":"m",}',
    "single quotes": b"{'model':'m'}",
    "comment": b'{"model":"m"/*x*/}',
    "a raw line break": b'{"model":"m","x":"a\nb"}',
    "a bad escape": rb'{"model":"m","x":"\q"}',
    "a bad number": b'{"model":"m","x":01}',
    "a key without quotes": b'{model:"m"}',
    "no value": b'{"model":"m","x":}',
    "nested without value": b'{"model":"m","x":{"y":}}',
    "not closed inside": b'{"model":"m","x":[1,2}',
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("route", [CHAT, RESPONSES])
def test_what_is_not_a_json_object_is_a_bad_request(body, route):
    with pytest.raises(BadRequest) as refused:
        parse_request(route, body)
    assert refused.value.code in ("invalid_json", "model_required")
    refused.value.message.encode()


@given(st.binary(max_size=200))
def test_random_bytes_are_never_another_error(body):
    with pytest.raises(BadRequest):
        parse_request(CHAT, b"{" + body)


@given(bodies(), st.integers(0, 500), st.binary(min_size=1, max_size=3))
def test_bent_bodies_are_parsed_or_refused(body, at, bend):
    before, spelling, after, _ = body
    text = before + spelling + after
    at %= len(text)
    try:
        request = parse_request(RESPONSES, text[:at] + bend + text[at + 1 :])
    except BadRequest:
        return
    assert json.loads(request.body_for(b'"other"'))["model"] == "other"


@pytest.mark.parametrize("body", [b"{}", b'{"model":null}', b'{"model":""}', b'{"model":7}', b'{"model":["m"]}',
                                  b'{"model":{"a":1}}', b'{"Model":"m"}', b'{"model":"' + b"m" * 501 + b'"}'])  # fmt: skip
def test_a_request_without_a_usable_model_is_refused(body):
    with pytest.raises(BadRequest) as refused:
        parse_request(CHAT, body)
    assert (refused.value.code, refused.value.param) == ("model_required", "model")


@pytest.mark.parametrize(
    ("value", "stream"), [("true", True), ("false", False), ("null", False), ('"true"', False), ("1", False)]
)
def test_only_true_streams(value, stream):
    assert parse_request(CHAT, f'{{"model":"m","stream":{value}}}'.encode()).stream is stream


def test_embeddings_never_stream():
    assert not parse_request(EMBEDDINGS, b'{"model":"m","stream":true}').stream


@pytest.mark.parametrize(
    ("n", "choices"), [("3", 3), ("1", 1), ("null", 1), ("0", 1), ("-2", 1), ("99999999", 1), ('"2"', 1)]
)
def test_choices(n, choices):
    assert parse_request(CHAT, f'{{"model":"m","n":{n}}}'.encode()).choices == choices


@pytest.mark.parametrize(
    ("fields", "once_only", "pins"),
    [
        ({}, False, ()),
        ({"previous_response_id": "resp_1"}, False, ("resp_1",)),
        ({"previous_response_id": None}, False, ()),
        ({"previous_response_id": 7}, False, ()),
        ({"conversation": "conv_1"}, True, ("conv_1",)),
        ({"conversation": {"id": "conv_1"}}, True, ("conv_1",)),
        ({"conversation": None}, False, ()),
        ({"background": True}, True, ()),
        ({"background": False}, False, ()),
    ],
)
def test_what_a_response_refers_to(fields, once_only, pins):
    request = parse_request(RESPONSES, json.dumps({"model": "m"} | fields).encode())
    assert (request.once_only, request.pins) == (once_only, pins)


def test_chat_requests_refer_to_nothing():
    request = parse_request(CHAT, b'{"model":"m","previous_response_id":"r","conversation":"c","background":true}')
    assert (request.once_only, request.pins) == (False, ())


def test_an_encrypted_item_is_known_again_from_the_answer_that_made_it():
    answer = b'{"id":"resp_1","output":[{"type":"reasoning","encrypted_content": "gAAA\\u002bb=="}]}'
    asked = b'{"model":"m","input":[{"type":"reasoning","encrypted_content":"gAAA\\u002bb=="}]}'
    assert list(parse_request(RESPONSES, asked).pins) == encrypted_pins(answer) != []


def test_fields_that_look_like_upstream_settings_are_data():
    body = b'{"model":"m","api_base":"http://evil","base_url":"http://evil","api_key":"k","extra_headers":{"a":"b"}}'
    request = parse_request(CHAT, body)
    assert (request.headers, request.query, request.operation) == (None, "", "chat/completions")
    assert request.body_for(b'"m"') == body
