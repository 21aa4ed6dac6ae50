"""What a request says about caching is cut out of its bytes, kept beside them, and never goes upstream."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_app.policy import Directives
from routing.errors import BadRequest
from routing.openai.members import DoubleKey, cut, find_members, put
from routing.openai.request import parse_request
from routing.openai.routes import CHAT, EMBEDDINGS, RESPONSES

NO_CACHE = Directives(no_cache=True)


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        ('{"model":"m","cache":{"no-cache":true}}', '{"model":"m"}'),
        ('{"cache":{"no-cache":true},"model":"m"}', '{"model":"m"}'),
        ('{"model":"m","cache":{"no-cache":true},"n":1}', '{"model":"m","n":1}'),
        ('{ "model" : "m" , "cache" : { "no-cache" : true } , "n" : 1.0 }', '{ "model" : "m" , "n" : 1.0 }'),
        ('{ "model" : "m" , "cache" : { "no-cache" : true } }', '{ "model" : "m" }'),
        ('{\n  "cache": {"no-cache": true},\n  "model": "m"\n}', '{\n  "model": "m"\n}'),
        ('{"model":"m","c\\u0061che":{"no-cache":true}}', '{"model":"m"}'),
        ('{"model":"m","extra_body":{"cache":{"no-cache":true}}}', '{"model":"m"}'),
        ('{"extra_body": {"cache": {"no-cache": true}}, "model": "m"}', '{"model": "m"}'),
        ('{"model":"m","extra_body":{"a":1e5,"cache":{"no-cache":true}},"n":1}', '{"model":"m","extra_body":{"a":1e5},"n":1}'),
        ('{"model":"m","extra_body":{"cache":{"no-cache":true},"a":1}}', '{"model":"m","extra_body":{"a":1}}'),
        ('{"model":"m", "cache": {"no-cache":true}, "extra_body" : { "cache": 7 , "a": [1, 2] }}',
         '{"model":"m", "extra_body" : { "a": [1, 2] }}'),
        ('{"cache":{},"extra_body":{"cache":{"no-cache":true}},"model":"m"}', '{"model":"m"}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", [CHAT, RESPONSES, EMBEDDINGS])
def test_the_members_are_cut_out_and_nothing_else(route, body, rest):
    request = parse_request(route, body.encode())
    assert request.body == rest.encode()
    assert request.body_for(b'"other"') == rest.replace('"m"', '"other"').encode()
    assert request.directives == NO_CACHE
    assert {key: json.loads(bytes(value)) for key, value in request.values.items()} == json.loads(rest)


@pytest.mark.parametrize("wish", ["null", "true", "7", '"no-cache"', "[]", "{}", '{"ttl":"x"}', '{"s-maxage":5}'])
def test_what_says_nothing_is_cut_out_too(wish):
    request = parse_request(CHAT, f'{{"model":"m","cache":{wish},"extra_body":{{"cache":{wish}}}}}'.encode())
    assert (request.body, request.directives) == (b'{"model":"m"}', None)


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"m"}',
        '{"model":"m","extra_body":{}}',
        '{"model":"m","extra_body":{"a":{"cache":{"no-cache":true}}}}',
        '{"model":"m","extra_body":[{"cache":1}]}',
        '{"model":"m","extra_body":null}',
        '{"model":"m","extra_body":"cache"}',
        '{"model":"m","metadata":{"cache":{"no-cache":true}}}',
        '{"model":"m","Cache":1,"messages":["\\"cache\\":{}"]}',
    ],
)
def test_nothing_else_is_cut_out(body):
    request = parse_request(CHAT, body.encode())
    assert (request.body, request.directives) == (body.encode(), None)


def test_the_header_and_the_body_both_count():
    request = parse_request(CHAT, b'{"model":"m","cache":{"ttl":5}}', cache_control=b"no-store")
    assert request.directives == Directives(no_store=True, ttl_s=5)


@pytest.mark.parametrize(("header", "directives"), [(b"no-cache", NO_CACHE), (b"max-age=0", None), (b"", None)])
def test_the_header_alone(header, directives):
    assert parse_request(CHAT, b'{"model":"m"}', cache_control=header).directives == directives


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"m","cache":1,"cache":2}',
        '{"cache":1,"model":"m","c\\u0061che":2}',
        '{"model":"m","cache":1,"n":1,"n":2}',
        '{"model":"m","model":"m","cache":1}',
        '{"model":"m","extra_body":{"cache":1,"cache":2}}',
        '{"model":"m","extra_body":{"cache":1,"a":1,"a":2}}',
        '{"model":"m","extra_body":{"cache":1},"extra_body":{"a":1}}',
    ],
)
def test_keys_that_stand_twice_are_refused_as_ever(body):
    with pytest.raises(BadRequest) as refused:
        parse_request(CHAT, body.encode())
    assert refused.value.code == "invalid_json"


def test_an_extra_body_of_too_many_keys_is_refused():
    inner = ",".join(f'"k{at}":1' for at in range(1001))
    with pytest.raises(BadRequest):
        parse_request(CHAT, f'{{"model":"m","extra_body":{{"cache":1,{inner}}}}}'.encode())


def test_a_body_of_nothing_but_wishes_names_no_model():
    with pytest.raises(BadRequest) as refused:
        parse_request(CHAT, b'{"cache":{}}')
    assert refused.value.code == "model_required"


# -- members

OBJECTS = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2), min_size=1, max_size=5)  # fmt: skip
STYLES = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}])


def decoded(text: str) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


@given(OBJECTS, STYLES, st.data())
def test_any_member_can_be_cut_out(fields, style, data):
    text = json.dumps(fields, **style)
    name = data.draw(st.sampled_from(sorted(fields)))
    rest = cut(text.encode(), decoded(text), name)
    assert json.loads(rest) == {key: value for key, value in fields.items() if key != name}


@given(OBJECTS, STYLES, st.data())
def test_any_member_can_have_another_value(fields, style, data):
    text = json.dumps(fields, **style)
    name = data.draw(st.sampled_from(sorted(fields)))
    assert json.loads(put(text.encode(), decoded(text), name, b'["new"]')) == fields | {name: ["new"]}


def test_a_key_that_stands_twice_is_found():
    with pytest.raises(DoubleKey):
        find_members(b'{"a":1,"b":2,"a":3}', decoded('{"a":1,"b":2,"a":3}'))
