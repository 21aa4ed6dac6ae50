"""Commands of the store: two scripts, and the two commands of every miss as they go over the wire (RESP, the Redis
protocol), packed in half to two thirds of the time that a packer for all commands takes. Pure.
"""

# KEYS: an answer's. ARGV: what lies there, a token to put in its place or '', lease in ms. Replies with 1 if it did.
REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""

# KEYS: of answers. ARGV: lease in ms, the token of each key. What has taken a token's place is left alone.
RENEW = """
for number, key in ipairs(KEYS) do
    if redis.pcall('GET', key) == ARGV[number + 1] then redis.call('PEXPIRE', key, ARGV[1]) end
end
"""


_SET = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nPX\r\n$%d\r\n%b\r\n"
_SET_NX_GET = b"*7\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nNX\r\n$3\r\nGET\r\n$2\r\nPX\r\n$%d\r\n%b\r\n"


def set_for(key: bytes, value: bytes, ttl_ms: int) -> bytes:
    """Whatever lies there."""
    return _packed(_SET, key, value, ttl_ms)


def set_if_nothing_lies_there(key: bytes, value: bytes, ttl_ms: int) -> bytes:
    """Replies with what lies there, and nothing if nothing did. Redis 7 has it, and Valkey."""
    return _packed(_SET_NX_GET, key, value, ttl_ms)


def _packed(form: bytes, key: bytes, value: bytes, ttl_ms: int) -> bytes:
    ttl = b"%d" % ttl_ms
    return form % (len(key), key, len(value), value, len(ttl), ttl)
