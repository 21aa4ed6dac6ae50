"""The commands of a miss are what a packer for all commands makes of them."""

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from cache_app.commands import set_for, set_if_nothing_lies_there

WORDS = st.binary(max_size=300)
TTLS = st.integers(1, 1 << 53)


@given(WORDS, WORDS, TTLS)
def test_they_are_packed_as_any_command(key, value, ttl_ms):
    assert set_for(key, value, ttl_ms) == hiredis.pack_command(("SET", key, value, "PX", ttl_ms))
    packed = hiredis.pack_command(("SET", key, value, "NX", "GET", "PX", ttl_ms))
    assert set_if_nothing_lies_there(key, value, ttl_ms) == packed
