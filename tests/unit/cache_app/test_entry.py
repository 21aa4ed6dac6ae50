"""What is stored is read back as it was, and nothing else is read at all."""

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_app.entry import Entry, decode, encode
from tests.unit.cache_app.entries import DIGEST, entry

NOW = 2000.0
PLAIN, COMPRESSED = 1, 2
STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n' * 1000


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00\xff", bytes(16383), bytes(16384), bytes(1 << 20), bytes(1 << 21)])
def test_an_entry_is_read_as_it_was_written(body):
    kept = entry(body)
    assert decode(encode(kept), DIGEST, NOW) == kept


@given(st.binary(max_size=200), st.lists(st.text(max_size=20)), st.none() | st.integers(0, 1 << 62))
def test_every_field_is_read_as_it_was_written(some, pins, cost):
    kept = entry(some, headers=((some, some),), pins=tuple(pins), cost=cost, content_type=some, endpoint_header=some)
    assert decode(encode(kept), DIGEST, NOW) == kept


@pytest.mark.parametrize(
    ("size", "kind"), [(16383, PLAIN), (16384, COMPRESSED), (1 << 20, COMPRESSED), ((1 << 20) + 1, PLAIN)]
)
def test_bodies_of_a_middle_size_are_compressed(size, kind):
    assert encode(entry(bytes(size)))[0] == kind


def test_a_stream_takes_a_tenth_of_its_size():
    assert len(encode(entry(STREAM))) < len(STREAM) / 10


def test_an_answer_to_another_request_is_not_read():
    assert decode(encode(entry()), DIGEST[::-1], NOW) is None


def test_an_expired_entry_is_not_read():
    value = encode(entry(expires_at=NOW))
    assert decode(value, DIGEST, NOW - 0.001)
    assert decode(value, DIGEST, NOW) is None


@pytest.mark.parametrize("body", [b"{}", STREAM])
def test_an_entry_of_another_version_is_not_read(body):
    value = encode(entry(body))
    for version in range(256):
        if version != value[0]:
            assert decode(bytes([version]) + value[1:], DIGEST, NOW) is None


@pytest.mark.parametrize("body", [b"{}", STREAM])
def test_an_entry_that_was_cut_short_is_not_read(body):
    value = encode(entry(body))
    for end in range(0, len(value), max(len(value) // 500, 1)):
        assert decode(value[:end], DIGEST, NOW) is None


@given(st.binary(max_size=100))
def test_what_is_no_entry_is_not_read(value):
    assert decode(value, DIGEST, NOW) is None


@pytest.mark.parametrize("body", [b"{}", STREAM])
def test_a_changed_bit_is_noticed_wherever_it_is(body):
    value = encode(entry(body))
    for place in range(0, len(value), max(len(value) // 1000, 1)):
        damaged = value[:place] + bytes([value[place] ^ 4]) + value[place + 1 :]
        assert decode(damaged, DIGEST, NOW) is None


def test_trailing_bytes_are_noticed():
    assert decode(encode(entry()) + b"\x00", DIGEST, NOW) is None


@pytest.mark.parametrize("change", [{"body": "text"}, {"digest": None}, {"expires_at": "soon"}, {"pins": [1]}])
def test_fields_of_another_type_are_noticed(change):
    fields = msgspec.structs.asdict(entry()) | change
    assert decode(sealed(list(fields.values())), DIGEST, NOW) is None


def test_text_that_is_none_is_noticed():
    fields = msgspec.structs.asdict(entry(endpoint_id="broken"))
    packed = msgspec.msgpack.encode(list(fields.values())).replace(b"broken", b"\xff\xfe\xfd\xfc\xfb\xfa")
    assert decode(sealed(msgspec.Raw(packed)), DIGEST, NOW) is None


def sealed(fields: object) -> bytes:
    """As if it were an entry."""
    packed = msgspec.msgpack.encode(fields)
    return b"\x01" + zlib.crc32(packed, PLAIN).to_bytes(4, "big") + packed


def test_the_format_is_the_one_of_this_version():
    kept = entry()
    assert encode(kept) == sealed(kept)


@pytest.mark.parametrize(("now", "age"), [(1000.0, 0), (1000.9, 0), (1001.0, 1), (999.0, 0), (4600.5, 3600)])
def test_age_is_in_whole_seconds_and_never_negative(now, age):
    assert entry(made_at=1000.0).age_s(now) == age


def test_an_entry_cannot_be_changed():
    with pytest.raises(AttributeError):
        entry().body = b"other"  # type: ignore[misc]
    assert Entry.__struct_config__.array_like
