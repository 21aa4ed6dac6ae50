"""A kept answer: the bytes that were sent, and what a hit needs besides. Versioned; anything else reads as nothing."""

import zlib
from typing import NamedTuple

import msgspec

# The first byte of a stored value, before a checksum of the rest. Another version's entries are misses, and expire by
# themselves.
_PLAIN = 1
_COMPRESSED = 2
_CHECKED_FROM = 5
# zlib at level 1 takes 4 us a KB and leaves a tenth of an event stream; below this size the store's memory is not worth
# it, above the other one worker would stand still for longer than 5 ms.
_COMPRESS_FROM = 16 << 10
_COMPRESS_TO = 1 << 20


class Tokens(NamedTuple):
    """What the upstream counted for the answer."""

    input: int = 0
    output: int = 0


class Entry(msgspec.Struct, array_like=True, frozen=True, weakref=True):
    """Times are Unix times. `digest` is the whole digest of the key: it is compared on read."""

    digest: bytes
    made_at: float
    expires_at: float
    content_type: bytes
    headers: list[tuple[bytes, bytes]]  # of the upstream, to be sent again
    endpoint_id: str
    endpoint_header: bytes
    pins: list[str]  # ids in the answer that later requests may refer to
    tokens: Tokens | None  # None: it has not said
    cost: int | None  # billionths of a US dollar; None: unknown
    body: bytes

    def age_s(self, now: float) -> int:
        """For the `age` header (RFC 9111, 5.1)."""
        return max(int(now - self.made_at), 0)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """For the store."""
    if not _COMPRESS_FROM <= len(entry.body) <= _COMPRESS_TO:
        return _sealed(_PLAIN, entry)
    return _sealed(_COMPRESSED, msgspec.structs.replace(entry, body=zlib.compress(entry.body, 1)))


def _sealed(kind: int, entry: Entry) -> bytes:
    packed = _encoder.encode(entry)
    return b"%c%b%b" % (kind, _checksum(kind, packed), packed)


def _checksum(kind: int, packed: bytes | memoryview) -> bytes:
    return zlib.crc32(packed, kind).to_bytes(4, "big")  # 0.3 us a KB


def decode(value: bytes | memoryview, digest: bytes, now: float) -> Entry | None:
    """None: not an answer to this very request, no longer good, damaged, or of another version."""
    packed = memoryview(value)[_CHECKED_FROM:]
    kind = value[0] if value else 0
    if kind not in (_PLAIN, _COMPRESSED) or value[1:_CHECKED_FROM] != _checksum(kind, packed):
        return None
    try:
        entry = _decoder.decode(packed)
        if entry.digest != digest or now >= entry.expires_at:
            return None
        if kind == _COMPRESSED:
            entry = msgspec.structs.replace(entry, body=zlib.decompress(entry.body))
    except (msgspec.DecodeError, zlib.error, UnicodeDecodeError):
        return None
    return entry
