"""Values in one line of YAML."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.config.yaml_text import flow
from routing.config.yaml_tree import read_tree
from tests.unit.config.configurations import names, texts, unhurried

plain = st.recursive(
    st.booleans() | st.integers() | names | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@unhurried
@given(plain)
@pytest.mark.parametrize("around", ["{}: {}", "- {{{}: {}, z: 1}}", "[{{{}: {}}}]"])
def test_what_is_written_is_read(around, value):
    read = read_tree(around.format("a", flow(value)).encode()).data
    read = read[0] if isinstance(read, list) else read

    assert read["a"] == value


@unhurried
@given(texts)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_text_in_quotes_is_read(quote, text):
    assert read_tree(f"[{flow(text, quote)}]".encode()).data == [text]


def test_one_line_is_readable():
    assert flow({"a": [1, True, "x", "yes", "o'clock"], "b": {"c": "1"}}) == (
        """{a: [1, true, x, yes, o'clock], b: {c: '1'}}"""
    )
