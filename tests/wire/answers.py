"""A corpus of HTTP/1.1 answers, good, odd and malformed, and what becomes of each."""

from dataclasses import dataclass

from routing.upstream.errors import AnswerBroken, ConnectionReset, UpstreamError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
HI = b"content-length: 2\r\n\r\nhi"
EVENTS = [b'data: {"n": %d, "text": "\xc3\xa9"}\n\n' % n for n in range(4)] + [b"data: [DONE]\n\n"]


@dataclass(frozen=True)
class Case:
    """`raw` is what the server sends; `error` what our client says of it, None for an answer."""

    name: str
    raw: bytes
    body: bytes = b""
    status: int = 200
    error: type[UpstreamError] | None = None
    closes: bool = False  # the server closes after `raw`
    reusable: bool = False  # whether the connection may serve the next request
    stricter: bool = False  # httpx takes it, we refuse


def whole(name: str, raw: bytes, body: bytes = b"hi", status: int = 200) -> Case:
    return Case(name, raw, body, status, reusable=True)


def last(name: str, raw: bytes, body: bytes = b"hi", status: int = 200, closes: bool = False) -> Case:
    """A right answer, after which the connection cannot be used again."""
    return Case(name, raw, body, status, closes=closes)


def refused(name: str, raw: bytes, stricter: bool = False) -> Case:
    return Case(name, raw, error=AnswerBroken, stricter=stricter)


def cut(name: str, raw: bytes, error: type[UpstreamError] = AnswerBroken) -> Case:
    return Case(name, raw, error=error, closes=True)


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


GOOD = [
    whole("length", OK + HI),
    whole("length 0", OK + b"content-length: 0\r\n\r\n", b""),
    whole("many headers", OK + b"".join(b"X-Header-%d: value %d\r\n" % (n, n) for n in range(40)) + HI),
    whole("empty header", OK + b"x-empty:\r\n" + HI),
    whole("spaces around values", OK + b"x-a: \t  b \t \r\ncontent-length:\t2 \r\n\r\nhi"),
    whole("bytes above ASCII", OK + b"x-name: \xc3\xa9\xff\r\n" + HI),
    whole("no reason", b"HTTP/1.1 200 \r\n" + HI),
    whole("no reason and no space", b"HTTP/1.1 200\r\n" + HI),
    whole("upper case", OK + b"CONTENT-LENGTH: 2\r\nX-UPPER: A\r\n\r\nhi"),
    whole("same header twice", OK + b"set-cookie: a\r\nset-cookie: b\r\n" + HI),
    whole("error status", b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\n" + HI, status=429),
    whole("redirect", b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:9/\r\n" + HI, status=301),
    whole("chunked", CHUNKED + chunks(b"hi")),
    whole("chunked upper case", OK + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks(b"hi")),
    whole("chunked events", CHUNKED + chunks(*EVENTS), b"".join(EVENTS)),
    whole("chunks of one byte", CHUNKED + chunks(b"a", b"b", b"c", b"d", b"e", b"f"), b"abcdef"),
    whole("chunk that looks like the end", CHUNKED + chunks(b"0\r\n\r\n"), b"0\r\n\r\n"),
    whole("body that looks like an answer", CHUNKED + chunks(OK + HI), OK + HI),
    whole("only the last chunk", CHUNKED + chunks(), b""),
    whole("last chunk of many zeros", CHUNKED + chunks(b"hi", end=b"00000\r\n\r\n")),
    whole("chunk size with zeros before", CHUNKED + b"0002\r\nhi\r\n" + chunks()),
    whole("chunk extensions", CHUNKED + b'2;a=b;c="d"\r\nhi\r\n0;last\r\n\r\n'),
    whole("trailers", CHUNKED + chunks(b"hi", end=b"0\r\nx-trailer: 1\r\nx-other: 2\r\n\r\n")),
    whole("100 before", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + HI),
    whole("103 with headers before", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + HI),
    whole("three informational", b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + OK + HI),
    whole("204", b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    whole("204 with a length", b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", b"", 204),
    whole("304 with a length", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", 304),
    whole("identity", OK + b"content-encoding: identity\r\n" + HI),
    whole("upgrade offered", OK + b"upgrade: h2c\r\nconnection: upgrade\r\n" + HI),
    whole("HTTP/1.0 kept alive", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + HI),
    last("connection: close", OK + b"connection: close\r\n" + HI),
    last("connection: close among others", OK + b"connection: keep-alive, close\r\n" + HI),
    last("HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + HI),
    last("HTTP/1.0 chunked", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(b"hi")),
    last("body until the end", OK + b"\r\nhi", closes=True),
    last(
        "events until the end",
        OK + b"content-type: text/event-stream\r\n\r\n" + b"".join(EVENTS),
        b"".join(EVENTS),
        closes=True,
    ),
    last("empty body until the end", OK + b"\r\n", b"", closes=True),
    last("HTTP/1.0 until the end", b"HTTP/1.0 200 OK\r\n\r\nhi", closes=True),
]

JUNK_AFTER = [
    last("text after the end", OK + HI + b"JUNK"),
    last("text after the last chunk", CHUNKED + chunks(b"hi") + b"JUNK"),
    last("text after close", OK + b"connection: close\r\n" + HI + b"JUNK"),
    last("an answer after the end", OK + HI + OK + b"content-length: 4\r\n\r\nevil"),
    last("half an answer after the end", OK + HI + b"HTTP/1.1 2"),
    last("one letter after the end", OK + HI + b"H"),
    last("a body after 204", b"HTTP/1.1 204 No Content\r\n\r\nhello", b"", 204),
    last("chunks after 304", b"HTTP/1.1 304 X\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(b"hi"), b"", 304),
]

BROKEN = [
    refused("bare LF after the status", b"HTTP/1.1 200 OK\ncontent-length: 2\r\n\r\nhi", stricter=True),
    refused("bare LF after a header", OK + b"content-length: 2\n\r\nhi", stricter=True),
    refused("bare LF everywhere", b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", stricter=True),
    refused("bare CR in a value", OK + b"x-a: b\rc\r\n" + HI),
    refused("folded header", OK + b"x-a: b\r\n c\r\n" + HI, stricter=True),
    refused("folded length", OK + b"content-length: 2\r\n 3\r\n\r\nhi"),
    refused("both framings", OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n" + chunks(b"hi"), stricter=True),
    refused("both framings, length first", OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(b"hi"), stricter=True),
    refused("two lengths", OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi"),
    refused("the same length twice", OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nhi", stricter=True),
    refused("list of lengths", OK + b"content-length: 2, 2\r\n\r\nhi", stricter=True),
    refused("negative length", OK + b"content-length: -2\r\n\r\nhi"),
    refused("length with a plus", OK + b"content-length: +2\r\n\r\nhi"),
    refused("huge length", OK + b"content-length: 99999999999999999999999\r\n\r\nhi"),
    refused("length in hex", OK + b"content-length: 0x2\r\n\r\nhi"),
    refused("empty length", OK + b"content-length:\r\n\r\nhi"),
    refused("gzip, chunked", OK + b"transfer-encoding: gzip, chunked\r\n\r\n" + chunks(b"hi")),
    refused("chunked twice", OK + b"transfer-encoding: chunked, chunked\r\n\r\n" + chunks(b"hi")),
    refused("chunked in two headers", OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(b"hi")),
    refused("chunked, identity", OK + b"transfer-encoding: chunked, identity\r\n\r\n" + chunks(b"hi")),
    refused("transfer-encoding: gzip", OK + b"transfer-encoding: gzip\r\n\r\nhi"),
    refused("empty transfer-encoding", OK + b"transfer-encoding:\r\n\r\nhi"),
    refused("content-encoding: gzip", OK + b"content-encoding: gzip\r\n" + HI),
    refused("content-encoding: br", OK + b"content-encoding: br\r\n" + HI),
    refused("negative chunk", CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n"),
    refused("huge chunk", CHUNKED + b"fffffffffffffffff\r\nhi"),
    refused("chunk size in words", CHUNKED + b"two\r\nhi\r\n0\r\n\r\n"),
    refused("space after a chunk size", CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n", stricter=True),
    refused("bare LF after a chunk size", CHUNKED + b"2\nhi\r\n0\r\n\r\n"),
    refused("empty chunk size", CHUNKED + b"\r\nhi\r\n0\r\n\r\n"),
    refused("chunk longer than its size", CHUNKED + b"2\r\nhix\r\n0\r\n\r\n"),
    refused("space before a colon", OK + b"content-length : 2\r\n\r\nhi"),
    refused("header without a colon", OK + b"junk\r\n" + HI),
    refused("header without a name", OK + b": x\r\n" + HI),
    refused("NUL in a value", OK + b"x-a: b\0c\r\n" + HI),
    refused("control character in a value", OK + b"x-a: b\x01c\r\n" + HI, stricter=True),
    refused("not HTTP", b"ICY 200 OK\r\n" + HI),
    refused("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    refused("lower-case protocol", b"http/1.1 200 OK\r\n" + HI),
    refused("HTTP/2.0", b"HTTP/2.0 200 OK\r\n" + HI, stricter=True),
    refused("HTTP/1.7", b"HTTP/1.7 200 OK\r\n" + HI, stricter=True),
    refused("status of two digits", b"HTTP/1.1 20 OK\r\n" + HI),
    refused("status of four digits", b"HTTP/1.1 2000 OK\r\n" + HI),
    refused("status 099", b"HTTP/1.1 099 OK\r\n" + HI),
    refused("status in words", b"HTTP/1.1 abc OK\r\n" + HI),
    refused("101", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhi"),
    refused("101 without upgrade", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + HI),
    refused("header bomb", OK + b"".join(b"x%d: y\r\n" % n for n in range(300)) + HI, stricter=True),
    refused("1xx flood", b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + OK + HI, stricter=True),
    cut("nothing", b"", ConnectionReset),
    cut("half a status line", b"HTTP/1.1 20", ConnectionReset),
    cut("half a head", OK + b"content-le", ConnectionReset),
    cut("no answer after 100", b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionReset),
    cut("short of its length", OK + b"content-length: 10\r\n\r\nhi"),
    cut("no last chunk", CHUNKED + chunks(b"hi", end=b"")),
    cut("half a chunk", CHUNKED + b"5\r\nhi"),
    cut("half a trailer", CHUNKED + chunks(b"hi", end=b"0\r\nx-tr")),
    cut("no empty line after the last chunk", CHUNKED + chunks(b"hi", end=b"0\r\n")),
]  # fmt: skip

CORPUS = GOOD + JUNK_AFTER + BROKEN
