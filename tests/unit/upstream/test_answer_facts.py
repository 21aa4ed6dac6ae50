"""What is read from a JSON body that an upstream sent, whatever it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.upstream.answer_facts import Usage, read_answer, read_error


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(3, 0)),
        (
            {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}},
            Usage(3, 4, cached=1),
        ),
        (
            {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}},
            Usage(3, 4, reasoning=2),
        ),
        ({"prompt_tokens": -3, "completion_tokens": None}, Usage(0, 0)),
        (None, None),
        ("many", None),
        ({"prompt_tokens": "3"}, None),
        ({"prompt_tokens": 1.5}, None),
        ([], None),
    ],
)
def test_usage(usage, expected):
    assert read_answer(json.dumps({"object": "x", "usage": usage}).encode()).usage == expected


@pytest.mark.parametrize(
    ("answer", "is_error"),
    [
        ({"error": {"message": "x"}}, True),
        ({"error": "x"}, True),
        ({"error": {}}, True),
        ({"error": None}, False),
        ({"error": None, "object": None}, False),
        ({"error": {"code": "x"}, "object": "response"}, False),
        ({"error": {"code": "x"}, "object": None}, True),
        ({}, False),
        ({"object": "list", "data": []}, False),
    ],
)
def test_an_error_is_an_object_with_an_error_and_no_object(answer, is_error):
    assert read_answer(json.dumps(answer).encode()).is_error is is_error


@pytest.mark.parametrize(
    ("answer", "made"), [({"id": "resp_1"}, "resp_1"), ({"id": 7}, None), ({"id": None}, None), ({}, None)]
)
def test_the_id(answer, made):
    assert read_answer(json.dumps(answer).encode()).id == made


@pytest.mark.parametrize(
    "body", [b"[]", b"[1]", b'"text"', b"7", b"null", b"true", b'{"object":7,"usage":8,"id":[]}', b" {} \n"]
)
def test_any_whole_json_is_an_answer(body):
    assert read_answer(body) is not None


BROKEN = [
    b"", b" ", b"{", b"[", b"{}x", b"{} {}", b'{"a":1,}', b"{'a':1}", b'{"a":NaN}', b'[NaN]', b'{"a":Infinity}', b"\xef\xbb\xbf{}",
    b'{"a":"\xff"}', b'["\xff"]', b'{"a":"\xed\xa0\x80"}', b'{"a":"x', b'{"a":[1,2', b'{"a":01}', b'["a\nb"]', b"<html>",
    b"data: {}\n\n", b"[" * 100_000, b'{"a":' * 100_000, b'{"a":tru}', b'{"a":"\\q"}', b"nul", b"\0", b"{}\0",
    '{"a":1}'.encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:16]))
def test_what_is_not_whole_json_is_no_answer(body):
    assert read_answer(body) is None


@given(st.binary(max_size=300))
def test_nothing_makes_it_fail(body):
    for text in (body, b"{" + body, b'{"usage":' + body + b"}", b'{"error":' + body + b"}"):
        read_answer(text)
        read_error(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))  # fmt: skip
def test_every_json_value_is_an_answer_and_no_prefix_of_an_object_is(value):
    text = json.dumps({"object": "x", "value": value}).encode()
    assert read_answer(text) is not None
    assert all(read_answer(text[:cut]) is None for cut in range(len(text)))


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error":{"code":"c","type":"t","message":"m"}}', "c", "m"),
        (b'{"error":{"code":null,"type":"t","message":"m"}}', "t", "m"),
        (b'{"error":{"code":404,"message":null}}', "404", ""),
        (b'{"error":"text"}', "", "text"),
        (b'{"error":{}}', "", ""),
    ],
)
def test_error_bodies(body, code, message):
    error = read_error(body)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"error":null}', b'{"error":7}', b'{"detail":"x"}', b"<html>"])
def test_other_bodies_are_no_error_bodies(body):
    assert read_error(body) is None
