"""HTTP/1.1 on one connection: asyncio's callbacks in, the parser's callbacks out, a reply filled.

Asks one question at a time and hands the connection back only when nothing but a whole answer came. Knows nothing of
addresses, limits on connections or clocks: the pool and the sweeper do.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

import httptools

from routing.upstream.errors import AnswerBroken, AnswerTooLarge, ConnectionReset, UpstreamError
from routing.upstream.fields import ends_with_connection, refuse_encodings
from routing.upstream.http1_reply import Http1Reply
from routing.upstream.transport import Headers, Limits

if TYPE_CHECKING:
    from routing.upstream.pool import Pool

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 200
MAX_INFORMATIONAL = 16  # 1xx answers before the real one
VERSIONS = frozenset({"1.0", "1.1"})


class StaleConnection(ConnectionReset):
    """A connection from the pool ended without one byte of answer: it had been closed before our request reached it."""


class Connection(asyncio.BufferedProtocol):
    """One connection to an origin, in the pool or with the reply that is being read from it."""

    __slots__ = (
        "_body_seen",
        "_dry_from",
        "_fields",
        "_informational",
        "_keep_alive",
        "_parser",
        "_paused",
        "_transport",
        "_wire_bytes",
        "answers",
        "heard",
        "idle_since",
        "pool",
        "reply",
    )

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.reply: Http1Reply | None = None
        self.answers = 0
        self.heard = False  # since the sweeper last looked: saves reading a clock at every read
        self.idle_since = 0.0
        # One parser for all answers of the connection: a new one for each costs 1.5 us.
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._fields: Headers = []
        self._informational = 0
        self._wire_bytes = self._body_seen = self._dry_from = 0  # of the answer being read
        self._keep_alive = False
        self._paused = False

    def ask(self, request: bytes, body: bytes, limits: Limits) -> Http1Reply:
        """Sends; `request` is the whole head, together with a small body; a large one comes apart, not to be copied."""
        assert self._transport is not None and self.reply is None  # noqa: S101
        self.reply = reply = Http1Reply(self, limits)
        self._fields = reply.headers
        self._informational = self._wire_bytes = self._body_seen = self._dry_from = 0
        self.heard = True
        self._transport.write(request)
        if body:
            self._transport.write(body)
        return reply

    def fail(self, error: UpstreamError) -> None:
        """Ends the connection at once, and the reply with this error."""
        self.retire()
        reply, self.reply = self.reply, None
        if reply is not None and not reply.done:
            reply.error = error
            reply.wake()

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def retire(self) -> None:
        """Closes it at once."""
        self.pool.forget(self)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def get_buffer(self, sizehint: int) -> memoryview:
        # One for all connections: what is read is parsed before the loop reads again. uvloop by itself reads 256 KiB,
        # which two hundred slow readers would hold at once; this costs nothing that can be measured.
        return self.pool.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.feed(self.pool.read_buffer[:nbytes])

    def feed(self, data: bytes | memoryview) -> None:
        """What one read of the socket gave."""
        reply = self.reply
        if reply is None:  # nothing was asked
            self.fail(AnswerBroken("bytes after the end of an answer"))
            return
        self.heard = True
        self._wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(reply, error)
            return
        if reply.done:
            self._finish(reply)
        else:
            self._check_size(reply)
        reply.wake()

    def eof_received(self) -> None:
        self.pool.withdraw(self)  # before another request is sent into it; asyncio closes it after this

    def connection_lost(self, error: Exception | None) -> None:
        self.pool.forget(self)
        transport, self._transport = self._transport, None
        reply, self.reply = self.reply, None
        if reply is None or transport is None:
            return
        if reply.status:
            whole = (
                error is None and ends_with_connection(reply.status, reply.headers) and _closed_on_purpose(transport)
            )
            if whole:
                reply.done = True
            else:
                reply.error = AnswerBroken("the answer was cut short")
        elif self.answers and not self._wire_bytes:
            reply.error = StaleConnection("closed while idle")
        else:
            reply.error = ConnectionReset("closed before the answer's head")
        reply.wake()

    # httptools' side

    def on_message_begin(self) -> None:
        if self.reply is None or self.reply.done:
            raise AnswerBroken("bytes after the end of an answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        reply = self.reply
        assert reply is not None  # noqa: S101
        status = self._parser.get_status_code()
        if status < 200:
            self._skip_informational(status)
            return
        # Other versions never count as kept alive: the check costs nothing where it need not be made.
        if not self._parser.should_keep_alive() and self._parser.get_http_version() not in VERSIONS:
            raise AnswerBroken("not HTTP/1.1")
        fields = self._fields
        refuse_encodings(fields)
        if len(fields) > MAX_FIELDS or (
            self._wire_bytes > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in fields) > MAX_HEAD_BYTES
        ):
            raise AnswerBroken("too many or too large headers")
        self._fields = []  # for trailers, which nobody reads
        reply.status = status

    def on_body(self, piece: bytes) -> None:
        reply = self.reply
        assert reply is not None  # noqa: S101
        if reply.take_in(piece):
            self._slow_down(reply)

    def on_message_complete(self) -> None:
        reply = self.reply
        assert reply is not None  # noqa: S101
        if reply.status:
            reply.done = True
            self._keep_alive = self._parser.should_keep_alive()

    # rarer steps of both

    def _skip_informational(self, status: int) -> None:
        self._informational += 1
        if status < 100 or status == 101 or self._informational > MAX_INFORMATIONAL:
            raise AnswerBroken("an informational answer that cannot be skipped")
        self._fields.clear()

    def _slow_down(self, reply: Http1Reply) -> None:
        if reply.received > reply.max_body_bytes:
            raise AnswerTooLarge("the answer is larger than max_response_bytes")
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _check_size(self, reply: Http1Reply) -> None:
        """Called while more is to come: bounds what the body's limit does not see."""
        if reply.received > self._body_seen:
            self._body_seen = reply.received
            self._dry_from = self._wire_bytes
            reply.compact()
        elif self._wire_bytes - self._dry_from > MAX_HEAD_BYTES:  # a head, a chunk extension or trailers without end
            self.fail(AnswerBroken("too many bytes without one of the body"))

    def _refuse(self, reply: Http1Reply, error: httptools.HttpParserError) -> None:
        if reply.done:  # the junk came after a whole answer
            self._keep_alive = False
            self._finish(reply)
            reply.wake()
            return
        cause = error.__context__
        self.fail(cause if isinstance(cause, UpstreamError) else AnswerBroken("the answer is not HTTP"))

    def _finish(self, reply: Http1Reply) -> None:
        transport = self._transport
        self.reply = None
        self.answers += 1
        # What is still to be written when the answer is whole would be read as the next request.
        if self._keep_alive and transport is not None and not transport.get_write_buffer_size():
            self.resume()
            self.pool.take_back(self)
        else:
            self.retire()


def _closed_on_purpose(transport: asyncio.Transport) -> bool:
    """Whether the peer itself ended the connection: under TLS anybody can send a FIN, only the peer a close_notify.

    Neither asyncio nor uvloop tells them apart; OpenSSL still knows.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        return tls.read(1) == b""
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:
        return False
