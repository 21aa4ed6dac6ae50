"""A nonce travels from client to upstream and back in a text with its length and checksum, so that a truncated, mixed
or doubled answer is seen for certain."""

import hashlib
import json
import re
import secrets
import zlib

_ASKED = re.compile(rb"nonce:([0-9a-f]{16}) size:(\d+)")
_TOLD = re.compile(r"nonce:([0-9a-f]{16}) length:(\d+) crc:([0-9a-f]{8})\|(.*)", re.DOTALL)


def new_nonce() -> str:
    return secrets.token_hex(8)


def question(nonce: str, size: int = 300) -> str:
    """What the client says; `size`: bytes of filler it wants back."""
    return f"nonce:{nonce} size:{size}"


def heard(body: bytes) -> tuple[str, int]:
    """Nonce and size that a request carries; zeros if it carries none."""
    found = _ASKED.search(body)
    return (found[1].decode(), int(found[2])) if found else ("0" * 16, 300)


def told(nonce: str, size: int) -> str:
    """What the upstream says: words made from the nonce, some of them outside ASCII."""
    digest = hashlib.sha256(nonce.encode()).hexdigest()
    filler = (f"{digest} Grüße €{nonce}😀 " * (size // 90 + 1))[:size]
    return f"nonce:{nonce} length:{len(filler)} crc:{zlib.crc32(filler.encode()):08x}|{filler}"


def problem(text: str, nonce: str) -> str | None:
    """What is wrong with the text that came back; None if it is the right one, whole."""
    found = _TOLD.fullmatch(text)
    if found is None:
        return f"not the upstream's text: {text[:60]!r}"
    if found[1] != nonce:
        return "another request's answer"
    if len(found[4]) != int(found[2]) or zlib.crc32(found[4].encode()) != int(found[3], 16):
        return "truncated or changed"
    return None


def chat_body(nonce: str, *, model: str = "m", stream: bool = False, size: int = 300, **fields: object) -> bytes:
    """A chat request that carries the nonce."""
    asked: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": question(nonce, size)}]}
    if stream:
        asked["stream"] = True
    return json.dumps(asked | fields).encode()
