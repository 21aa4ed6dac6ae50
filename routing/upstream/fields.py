"""What may stand in a header field: of a request, so that no value can break its head; of an answer, so that its
framing has one meaning only. Knows nothing of connections.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from routing.upstream.errors import AnswerBroken

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_IN_VALUES = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])  # RFC 9110, 5.5, without its obsolete folding
_PATH = re.compile(r"/[!-~]*")
_AUTHORITY = re.compile(r"[!-~]+")
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_ENCODINGS = frozenset({b"content-encoding", b"transfer-encoding"})
_NO_BODY = frozenset({204, 304})


def field_lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The fields as they go on the wire; ValueError if one would break the head or belongs to its framing."""
    lines = []
    for name, value in fields:
        # Deleting all allowed bytes takes a fifth of the time of matching them (0.06 us).
        if not _is_ours_to_send(name) or value.translate(None, _IN_VALUES):
            raise ValueError(f"header {name!r} or its value cannot be sent")  # the value may be a secret: not shown
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


@lru_cache(maxsize=512)
def _is_ours_to_send(name: bytes) -> bool:
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _FRAMING


def refuse_unsafe_target(method: str, path: str, authority: str) -> None:
    """ValueError unless the three can stand in a request's head as they are."""
    if not (method.isascii() and method.isalpha() and _PATH.fullmatch(path) and _AUTHORITY.fullmatch(authority)):
        raise ValueError("method, path or host cannot stand in a request line")


def refuse_encodings(fields: list[tuple[bytes, bytes]]) -> None:
    """AnswerBroken for a body encoded though it was not asked for, and for any transfer coding but `chunked` alone.

    The parser sees a list that only ends in `chunked` as chunked, and anything else as a body that the connection ends.
    """
    codings = [field for field in fields if field[0] in _ENCODINGS]
    if not codings:
        return
    for name, value in codings:
        expected = b"identity" if name == b"content-encoding" else b"chunked"
        if value.strip().lower() not in (expected, b"") or (value == b"" and name == b"transfer-encoding"):
            raise AnswerBroken(f"{name.decode('ascii')} that was not asked for")
    if sum(name == b"transfer-encoding" for name, _ in codings) > 1:
        raise AnswerBroken("transfer-encoding given twice")


def ends_with_connection(status: int, fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether nothing but the end of the connection ends this body (RFC 9112, 6.3, rule 8)."""
    return status not in _NO_BODY and not any(name in (b"content-length", b"transfer-encoding") for name, _ in fields)
