"""Takes kept answers out of the store, for all processes; what is being asked for meanwhile is not kept either."""

import uuid
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from cache_app.connections import Link, Word
from cache_app.store import ANSWER, LARGE_ANSWER, TOKEN_BYTES, generation_key

_PAGE = 1000  # keys that the store looks at in one go


def channel(namespace: str) -> str:
    """Where deletions are told to all workers."""
    return f"{namespace}:deleted"


async def delete_answers(link: Link, namespace: str, group: str | None = None) -> int:
    """All of them, or those of one group (`Place.group`); how many. Raises ConnectionError."""
    begun = ("SET", generation_key(namespace, group), uuid.uuid4().bytes)
    told = ("PUBLISH", channel(namespace), group or "")
    # From now on nothing older is found, and the rest frees the store's memory; a full store needs that first.
    (reply, _) = await link.run(begun, told)
    is_full = isinstance(reply, OutOfMemoryError)
    if not is_full:
        _good([reply])
    prefix = namespace.encode()
    pattern = _literal(prefix) + (b":%b:*" % group.encode() if group else b":*")
    deleted, cursor = 0, b"0"
    while True:
        ((cursor, keys),) = _good(await link.run(("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)))
        deleted += await _delete(link, [(key, _kind(key, prefix)) for key in keys])
        if cursor == b"0":
            break
    if is_full:
        await link.run(begun)  # if it is full of other things still, it keeps nothing that could come late either
    await link.run(told)  # workers may have read before the first word of it reached them
    return deleted


async def _delete(link: Link, keys: list[tuple[bytes, bytes]]) -> int:
    answers = [key for key, kind in keys if kind == ANSWER]
    larges = [key for key, kind in keys if kind == LARGE_ANSWER]
    commands: list[tuple[Word, ...]] = [("UNLINK", *found) for found in (answers, larges) if found]
    if not commands:
        return 0
    replies = await link.run(*[("STRLEN", key) for key in answers], *commands)
    _good(replies[len(answers) :])
    return sum(length not in (0, TOKEN_BYTES) for length in replies[: len(answers)])


def _kind(key: bytes, prefix: bytes) -> bytes:
    """Empty: not one of ours."""
    parts = key[len(prefix) + 1 :].split(b":")
    return parts[1] if len(parts) == 3 else b""


def _good(replies: list[Any]) -> list[Any]:
    """Raises ConnectionError where the store refused."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise ConnectionError("the store refused to delete") from reply
    return replies


def _literal(text: bytes) -> bytes:
    """For SCAN's patterns."""
    for special in (b"\\", b"*", b"?", b"[", b"]"):
        text = text.replace(special, b"\\" + special)
    return text
