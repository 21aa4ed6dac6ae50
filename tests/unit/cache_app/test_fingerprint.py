"""Two requests share a key if they are the same but for white space, the order of keys and `stream: false`; only then."""

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cache_app.fingerprint import Asked, canonical, key
from tests.unit.cache_app.spelled_json import body, changed_body, has_double_key, meaning, written

ASKED = Asked("chat/completions", "gpt", "models", "client", b"beta", "json")
COMPACT, SPACED = [""], ["", "", " ", "\n", "\t", "\r\n  "]
SEEDS = st.integers(0, 1 << 32)


def of(text: str) -> bytes | None:
    return canonical(text.encode())


@given(SEEDS)
def test_white_space_and_the_order_of_keys_do_not_matter_at_any_level(seed):
    rng = random.Random(seed)
    tree = body(rng)
    texts = {of(written(tree, rng, spaces)) for spaces in (COMPACT, COMPACT, SPACED, SPACED)}
    assert len(texts) == 1 and None not in texts


@given(SEEDS)
def test_bodies_that_differ_in_one_place_have_no_text_in_common(seed):
    rng = random.Random(seed)
    tree = body(rng)
    assert_apart(tree, changed_body(tree, rng), rng)


@pytest.mark.parametrize("pairs", [100, pytest.param(10_000, marks=pytest.mark.full)])
def test_no_key_is_shared_by_bodies_that_differ_in_one_place(pairs):
    rng = random.Random(20_000)
    compared = 0
    while compared < pairs:
        tree = body(rng)
        compared += assert_apart(tree, changed_body(tree, rng), rng)


def assert_apart(tree, other, rng: random.Random) -> bool:
    """False: there is no difference, or only one that makes a key stand twice."""
    if meaning(tree) == meaning(other):
        return False
    texts = [of(written(each, rng, rng.choice([COMPACT, SPACED]))) for each in (tree, other)]
    assert (texts[1] is None) == has_double_key(other)
    if texts[1] is None:
        return False
    assert key(ASKED, texts[0]) != key(ASKED, texts[1]), (tree, other)
    return True


APART = ["1", "1.0", "1.00", "1e0", "1E0", "1e+0", "10e-1", "1e-0", "0", "-0", "-0.0", "0.0", "-1",
         "9007199254740992", "9007199254740993", "9007199254740992.0", "18446744073709551615", "18446744073709551616",
         "18446744073709551617", "1e400", "1e401", "true", "false", "null", '"1"', '"-0"', '"true"', '"null"', '""',
         '" "', '"\x7f0"', '"\x7f~0"', '"e"', '"é"', r'"\u00e9"', r'"\u00E9"', '"e\u0301"', '"/"', r'"\/"', r'"\n"',
         r'"\u000a"', r'"\u000A"', r'"\\n"', r'"\""', r'"\u0022"', '"\'"', '"\x7f\'"', '"\x7fn"', r'"\u001f"', r'"\u001F"',
         '"\x7f"', r'"\u007f"', r'"\u007F"', '"\x7fu0041"', r'"\u0041"', '"A"', '"😀"', r'"\ud83d\ude00"', r'"\ud83D\ude00"',
         "[]", "{}", "[[]]", "[{}]", "[null]", "[1,2]", "[2,1]", '{"a":1}', '{"A":1}', r'{"\u0061":1}', '{"a":[1]}',
         '{"a":{"b":1}}', '{"a":{},"b":1}', '["a",1]', '{"a":1,"b":2}', '{"a":2,"b":1}']  # fmt: skip


@pytest.mark.parametrize("before", ["", " ", r'"x":"\u0000",', r'"x":"\/",'], ids=["plain", "spaced", "hex", "slash"])
def test_nothing_else_is_equal(before):
    texts = [of(f'{{{before}"v":{value}}}') for value in APART]
    assert len(set(texts) - {None}) == len(APART)


def test_a_body_of_an_sdk_is_its_own_canonical_text_but_for_the_order():
    asked = {"model": "m", "messages": [{"role": "user", "content": 'Say "hi"\n\\ é'}], "temperature": 0.7}
    compact = json.dumps(asked, separators=(",", ":"), ensure_ascii=False)
    ordered = json.dumps(asked, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    assert of(compact) == ordered.encode()
    assert of(json.dumps(asked, ensure_ascii=False, indent=2)) == ordered.encode()


@pytest.mark.parametrize("rest", ["", '"a":1,', r'"a":"\/",', r'"gr\u00f6\u00dfe":-0,'])
@pytest.mark.parametrize("space", ["", " "])
def test_no_stream_equals_stream_false(rest, space):
    without = f"{{{rest.rstrip(',')}}}"
    assert of(f'{{{rest}{space}"stream"{space}:{space}false}}') == of(without) is not None


@pytest.mark.parametrize("other", ['{"a":1,"stream":true}', '{"a":1,"stream":null}', '{"a":1,"stream":0}',
                                   '{"a":1,"stream":"false"}', '{"a":{"stream":false},"stream":false}'])  # fmt: skip
def test_nothing_but_false_equals_no_stream(other):
    assert of(other) not in (of('{"a":1}'), of('{"a":{}}'), None)


def test_a_nested_stream_is_data():
    assert of('{"a":{"stream":false}}') != of('{"a":{}}')


@pytest.mark.parametrize(
    "text",
    [
        '{"x":{"a":1,"a":1}}',
        '{"x":{"a":1,"a":2}}',
        '{"x":[{"a":1,"b":2, "a":3}]}',
        r'{"x":{"a":1,"\u0061":2}}',
        r'{"x":{"\u0061":1,"a":2}}',
        r'{"x":{"/":1,"\/":2}}',
        r'{"x":{"\n":1,"\u000A":2}}',
        r'{"x":{"a":1,"\u0061":2},"y":"\u003ab"}',
        r'{"x":{"a":1,"a":2},"stream":false}',
        '{"x":{"é":1,"\\u00e9":2}}',
    ],
)
def test_a_nested_key_that_stands_twice_has_no_canonical_text(text):
    assert of(text) is None


@pytest.mark.parametrize(
    "text", [r'{"x":{"\u00e9":1,"\u00E8":2}}', r'{"x":{"\/":1,"\\/":2}}', r'{"x":{"a":"\u003a","\u0062":1}}']
)
def test_escaped_keys_that_differ_are_fine(text):
    assert of(text) is not None


@pytest.mark.parametrize("open_close", ["[]", ("{" + '"a":', "}")], ids=["arrays", "objects"])
def test_nesting_too_deep_has_no_canonical_text(open_close):
    opened, closed = open_close
    middle = "" if opened == "[" else "1"
    assert of('{"x":' + opened * 100_000 + middle + closed * 100_000 + "}") is None


@pytest.mark.parametrize("text", ["", "[]", "7", '"a"', "null", '{"a":1', '{"a":01}', r'{"a":"\q"}', '{"a":NaN}'])
def test_what_is_no_object_has_no_canonical_text(text):
    assert of(text) is None


def test_what_is_no_text_has_no_canonical_text():
    assert canonical(b'{"a":"\xff"}') is None
    assert canonical(rb'{"a":"\ud800"}') is None


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing(noise):
    canonical(b'{"a":' + noise + b"}")


# -- keys


def test_every_part_makes_another_key():
    others = [
        ASKED,
        replace(ASKED, operation="responses"),
        replace(ASKED, group="other"),
        replace(ASKED, upstreams="other"),
        replace(ASKED, scope="other"),
        replace(ASKED, beta=b"other"),
        replace(ASKED, kind="stream"),
    ]
    keys = [key(asked, text) for asked in others for text in (b"{}", b'{"a":1}')]
    assert len({made.name for made in keys}) == len({made.digest for made in keys}) == len(keys)


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.binary(max_size=3)), min_size=2, max_size=2))
def test_parts_do_not_flow_into_each_other(two):
    keys = {key(Asked(group, "", "", scope, beta, ""), b"{}") for group, scope, beta in two}
    assert len(keys) == len(set(two))


def test_text_that_moves_to_the_next_part_makes_another_key():
    parts = [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("abcd", "", ""), ("", "abcd", "")]
    keys = [key(Asked(*three, "", b"", "json"), b"{}") for three in parts]
    assert all(one != other for one, other in itertools.combinations(keys, 2))


def test_a_name_is_short_and_of_a_safe_alphabet():
    made = key(replace(ASKED, group="a b\r\n:*é"), b"{}")
    assert len(made.name) == 32 and set(made.name) <= set(b"0123456789abcdef")
    assert len(made.digest) == 32


def test_keys_do_not_depend_on_the_process():
    """Other workers, and those of tomorrow, must find what was kept."""
    assert key(ASKED, b'{"a":1}').name == b"00428c47194a0d478918c44915dfecf3"
