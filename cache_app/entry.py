"""A kept answer: the bytes that were sent, and what a hit needs besides. Versioned; anything else reads as nothing."""

import zlib

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


class Entry(msgspec.Struct, array_like=True, frozen=True, weakref=True):
    """Times are Unix times. `digest` is the whole digest of the key: it is compared on read."""

    digest: bytes
    made_at: float
    expires_at: float
    content_type: bytes
    headers: tuple[tuple[bytes, bytes], ...]  # of the upstream, to be sent again
    endpoint_id: str
    endpoint_header: bytes
    pins: tuple[str, ...]  # ids in the answer that later requests may refer to
    tokens: tuple[int, int] | None  # of input and output, as the upstream counted them; None: it has not said
    cost: int | None  # billionths of a US dollar; None: unknown
    body: bytes

    def age_s(self, now: float) -> int:
        """For the `age` header (RFC 9111, 5.1)."""
        return max(int(now - self.made_at), 0)


_encode = msgspec.msgpack.Encoder().encode
_checksum = zlib.crc32  # 0.3 us a KB
_decoder = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry, begin: bytes = b"") -> bytes:
    """For the store, behind `begin`."""
    kind = _PLAIN
    if _COMPRESS_FROM <= len(entry.body) <= _COMPRESS_TO:
        kind, entry = _COMPRESSED, msgspec.structs.replace(entry, body=zlib.compress(entry.body, 1))
    packed = _encode(entry)
    return b"%b%c%b%b" % (begin, kind, _checksum(packed, kind).to_bytes(4, "big"), packed)


def decode(value: bytes | memoryview, digest: bytes, now: float) -> Entry | None:
    """None: not an answer to this very request, no longer good, damaged, or of another version."""
    packed = memoryview(value)[_CHECKED_FROM:]
    kind = value[0] if value else 0
    if kind not in (_PLAIN, _COMPRESSED) or value[1:_CHECKED_FROM] != _checksum(packed, kind).to_bytes(4, "big"):
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
