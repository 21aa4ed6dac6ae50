"""Which `traceparent` counts: the rules of W3C trace context, level 1 and 2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.openai.trace_context import TraceParent, parent_of, traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def parsed(value: str) -> TraceParent | None:
    return parent_of({b"traceparent": value.encode()})


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_parent(flags):
    assert parsed(f"00-{TRACE}-{SPAN}-{flags}") == (int(TRACE, 16), int(SPAN, 16), int(flags, 16))


def test_a_later_version_may_say_more():
    assert parsed(f"01-{TRACE}-{SPAN}-01-more") == (int(TRACE, 16), int(SPAN, 16), 1)


@pytest.mark.parametrize(
    "value",
    ["", "x", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE.upper()}-{SPAN}-01",
     f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1",
     f"00-{TRACE}-{SPAN}-01\n"],
)  # fmt: skip
def test_what_is_no_parent(value):
    assert parsed(value) is None


def test_without_a_header_there_is_none():
    assert parent_of({}) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 1))
def test_what_we_send_can_be_read(trace_id, span_id, flags):
    parent = TraceParent(trace_id, span_id, flags)
    assert parsed(traceparent(parent).decode()) == parent
