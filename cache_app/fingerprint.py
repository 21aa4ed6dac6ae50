"""Under which key an answer is kept: a digest of everything that makes two requests the same. Pure.

Two bodies have the same canonical text if they differ in white space, in the order of keys, or in a top-level
`stream: false`, and in nothing else: numbers and strings count as the client spelled them.
"""

import re
from binascii import hexlify
from hashlib import sha256
from typing import Any

import msgspec

# Floats stay as spelled. Integers of any size have one spelling each, but for -0.
_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=msgspec.Raw)
_encoder = msgspec.json.Encoder(order="sorted")
_pack = msgspec.msgpack.Encoder().encode  # every part stands behind its length
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
_NO_STREAM = len(b'"stream":false')

# The one escape that is as long as the encoder's own: it writes control characters in lower case.
_UPPER_CONTROL = re.compile(rb"\\u00[01][A-F]")
_STRING_OR_MINUS_ZERO = re.compile(rb'"[^"]*+"|(?<![eE])-0(?=[,\]}])')
_STRING_END = re.compile(rb'"[^"]*+"(:?)')  # and the colon, if it is a key
_ESCAPED_STRING_END = re.compile(rb'\x7f[^"]*+"(:?)')


class Asked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a key is made of, beside the body."""

    operation: str
    group: str
    upstreams: str  # digest of the group's upstream models
    scope: str  # of the client; empty where all share
    beta: bytes  # the openai-beta header
    kind: str  # "json" or "stream"


class Key(msgspec.Struct, frozen=True, gc=False):
    """name: 128 bits in hexadecimal; digest: all 256, to be compared with those of what was found."""

    name: bytes
    digest: bytes


def key(asked: Asked, canonical_body: bytes) -> Key:
    """SHA-256: 2.6 us for 4 KB, blake2b takes 4.5."""
    digest = sha256(_pack(asked) + canonical_body).digest()
    return Key(hexlify(digest[:16]), digest)


def canonical(body: bytes) -> bytes | None:
    """The canonical text of a JSON object. None: a nested key stands twice, or it is nested too deeply.

    The encoder writes nothing longer than it was. So what comes out as long as it went in has lost no key, no white
    space and no spelling of a string or a number: it went through as it is, but for the order of keys.
    """
    try:
        text, length = _sorted(body)
        if length != len(body):
            body = msgspec.json.format(body, indent=-1)  # 3 us for 4 KB; only takes white space away
        if length == len(body) and not (b"\\" in body and _UPPER_CONTROL.search(body)):
            return text
        return _respelled(body, text)
    except _UNREADABLE:
        return None


def _sorted(body: bytes) -> tuple[bytes, int]:
    """The body with its keys in order and without `stream: false`; its length before that was taken away."""
    values = _decoder.decode(body)
    taken = 0
    if values.get("stream") is False:
        del values["stream"]
        taken = _NO_STREAM + bool(values)  # and a comma
    text = _encoder.encode(values)
    return text, len(text) + taken


def _respelled(compact: bytes, plain: bytes) -> bytes | None:
    """The canonical text of a body that is not spelled as the encoder would. No other body's begins like it.

    compact: the body without white space; plain: what the encoder made of it.
    """
    masked = _masked(compact)
    if b"-0" in masked:
        masked = _STRING_OR_MINUS_ZERO.sub(_minus_zero, masked)
    text, length = _sorted(masked)
    if length != len(masked):
        return None  # a key stands twice
    if b":" in _ESCAPED_STRING_END.findall(text) and _keys(text) != _keys(_masked(plain)):
        return None  # a key stands twice, in two spellings
    return b"~" + text


def _masked(compact: bytes) -> bytes:
    """The same without any escape, so that strings keep their spelling, and a quote is the begin or end of one."""
    unused = compact.replace(b"\x7f", b"\x7f~")
    return unused.replace(b"\\\\", b"\x7f\x7f").replace(b'\\"', b"\x7f'").replace(b"\\", b"\x7f")


def _keys(masked: bytes) -> int:
    return _STRING_END.findall(masked).count(b":")


def _minus_zero(found: re.Match[bytes]) -> bytes:
    """The integer -0 as a string that no client can send: \\0 is not an escape of JSON."""
    return found[0] if found[0][:1] == b'"' else b'"\x7f0"'
