"""What the door passes on: an upstream's answer (`attempt`), a kept one, or a place in a stream that others get too."""

from typing import Protocol, Self

from cache_app.answers import Shared
from cache_app.entry import Entry
from cache_app.shared_stream import Lagging
from routing.attempt import Attempt
from routing.config.table import RoutingTable
from routing.openai.answers import HIT, MISS, STREAM_HEADERS
from routing.openai.stream_end import interruption
from routing.trail import Trail
from routing.upstream.classify import Outcome
from routing.upstream.transport import Headers

_REPLAYED_AT_ONCE = 256 << 10  # bytes; after so many the client's pace is asked for


class Answer(Protocol):
    """Use it with `with`, to the last byte."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes:
        """Of an answer that is no stream."""
        ...

    @property
    def is_stream(self) -> bool: ...

    @property
    def table(self) -> RoutingTable:
        """That the request began with."""
        ...

    @property
    def patience_s(self) -> float:
        """How long a client may take to take it."""
        ...

    @property
    def upstream_s(self) -> float:
        """Time spent waiting for upstreams."""
        ...

    @property
    def hopeless(self) -> bool:
        """An error that the client need not ask for again: that has been done."""
        ...

    @property
    def is_hit(self) -> bool:
        """Nobody was asked for it by this request."""
        ...

    @property
    def outcome(self) -> Outcome:
        """Once it has been left."""
        ...

    def head(self) -> Headers:
        """Header lines beside those that every answer has."""
        ...

    async def piece(self) -> bytes | None:
        """Of a stream: whole events, None at the end."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Kept:
    """An answer from the cache, sent again byte for byte."""

    upstream_s = 0.0
    hopeless = False
    is_hit = True
    status = 200

    def __init__(self, entry: Entry, table: RoutingTable, *, stream: bool, unix_now: float) -> None:
        self.entry = entry
        self.table = table
        self.is_stream = stream
        self.body = entry.body
        self.outcome = Outcome.CANCELLED if stream else Outcome.SUCCESS
        self._age = entry.age_s(unix_now)
        self._sent = 0

    @property
    def patience_s(self) -> float:
        settings = self.table.settings
        return settings.stream_timeout if self.is_stream else settings.http_timeout

    def head(self) -> Headers:
        entry = self.entry
        return [
            *(STREAM_HEADERS if self.is_stream else [(b"content-type", entry.content_type)]),
            (b"x-llmproxy-endpoint", entry.endpoint_header),
            (b"x-llmproxy-attempts", b"0"),
            HIT,
            (b"age", b"%d" % self._age),
            *entry.headers,
        ]

    async def piece(self) -> bytes | None:
        sent, body = self._sent, self.body
        if sent >= len(body):
            self.outcome = Outcome.SUCCESS
            return None
        self._sent = sent + _REPLAYED_AT_ONCE
        return body[sent : self._sent]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Joined:
    """A place in a stream that several equal requests get; the first of them leads."""

    status = 200
    body = b""
    is_stream = True
    hopeless = False

    def __init__(self, shared: Shared[Attempt], trail: Trail) -> None:
        self._trail = trail
        self._attempt = shared.answer
        self._reader = shared.reader
        self.is_hit = not shared.leads
        self._ended = False
        self._lagged = False
        self.table = self._attempt.table
        self.patience_s = self._attempt.patience_s

    @property
    def upstream_s(self) -> float:
        return self._attempt.upstream_s

    @property
    def outcome(self) -> Outcome:
        if self._lagged:
            return Outcome.FAILURE
        if self._ended:
            return self._attempt.outcome
        return Outcome.SUCCESS if self._reader.has_all else Outcome.CANCELLED

    def head(self) -> Headers:
        if self.is_hit:
            return [*self._attempt.head(HIT, attempts=0), (b"age", b"0")]
        return self._attempt.head(MISS)

    async def piece(self) -> bytes | None:
        if self._ended:
            return None
        try:
            piece = await self._reader.piece()
        except Lagging:  # the client is too slow for what is held for it
            self._ended = self._lagged = True
            return interruption(self._attempt.course.request.route.events)
        self._ended = piece is None
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.leave()
        if self.is_hit:
            self._trail.inherit(self._attempt.course.request.trail)
            self._trail.endpoint, self._trail.endpoint_id = self._attempt.endpoint.name, self._attempt.endpoint.id
