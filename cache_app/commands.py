"""The two commands of every miss, as they go over the wire (RESP, the Redis protocol): packed in a third of the time
that a packer for all commands takes. Pure.
"""


def set_if_nothing_lies_there(key: bytes, value: bytes, ttl_ms: int) -> bytes:
    """Replies with what lies there, and nothing if nothing did. Redis 7 has it, and Valkey."""
    ttl = b"%d" % ttl_ms
    return b"*7\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nNX\r\n$3\r\nGET\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (
        len(key),
        key,
        len(value),
        value,
        len(ttl),
        ttl,
    )


def set_for(key: bytes, value: bytes, ttl_ms: int) -> bytes:
    """Whatever lies there."""
    ttl = b"%d" % ttl_ms
    return b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (
        len(key),
        key,
        len(value),
        value,
        len(ttl),
        ttl,
    )
