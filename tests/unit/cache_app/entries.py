"""Kept answers."""

from typing import Any

from cache_app.entry import Entry

DIGEST = bytes(range(32))


def entry(body: bytes = b"{}", **fields: Any) -> Entry:
    filled = {
        "digest": DIGEST,
        "made_at": 1000.0,
        "expires_at": 1e12,
        "content_type": b"application/json",
        "headers": ((b"openai-version", b"2020-10-01"),),
        "endpoint_id": "e1",
        "endpoint_header": b"east",
        "pins": ("resp_1",),
        "tokens": (3, 5),
        "cost": 12,
        "body": body,
    }
    return Entry(**filled | fields)
