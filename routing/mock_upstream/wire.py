"""HTTP/1.1 for the mock: one protocol object per connection, one write per JSON answer, pipelined requests in order."""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from routing.mock_upstream.answer import Answer, refusal

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_JSON = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
_EVENTS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Source(Protocol):
    """What a connection needs to know of its server."""

    latency_ms: float
    event_interval_ms: float
    connections: "set[Connection]"

    def answer(self, method: bytes, target: bytes, body: bytes) -> Answer: ...

    def headers(self) -> bytes:
        """Header lines of the next answer."""
        ...


class Connection(asyncio.Protocol):
    """Answers at once where no pace is set; else one task plays the answers of the connection, one after the other."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._body: list[bytes] = []
        self._waiting: deque[tuple[Answer, bool]] = deque()
        self._player: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._transport: asyncio.Transport

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._writable.set()
        self._source.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._source.connections.discard(self)
        if self._player is not None:
            self._player.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._finish(refusal(400, "This is not HTTP."), keep_alive=False)

    def close(self) -> None:
        self._transport.abort()

    # httptools' side

    def on_message_begin(self) -> None:
        self._target, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if value == b"100-continue" and name.lower() == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        answer = self._source.answer(self._parser.get_method(), self._target, body)
        paced = self._source.latency_ms or (self._source.event_interval_ms and answer.events is not None)
        if not paced and self._player is None:
            self._finish(answer, keep_alive=self._parser.should_keep_alive())
            return
        self._waiting.append((answer, self._parser.should_keep_alive()))
        if self._player is None:
            self._player = asyncio.get_running_loop().create_task(self._play())

    # answers

    def _head(self, answer: Answer) -> bytes:
        kind = _JSON % len(answer.body) if answer.events is None else _EVENTS
        return b"".join((_LINES[answer.status], self._source.headers(), answer.headers, kind))

    def _finish(self, answer: Answer, *, keep_alive: bool) -> None:
        """Writes a whole answer at once."""
        if answer.events is None:
            self._transport.write(self._head(answer) + answer.body)
        else:
            self._transport.write(b"".join((self._head(answer), *map(_chunk, answer.events), b"0\r\n\r\n")))
        if not keep_alive:
            self._transport.close()

    async def _play(self) -> None:
        while self._waiting:
            answer, keep_alive = self._waiting.popleft()
            await asyncio.sleep(self._source.latency_ms / 1000)
            if answer.events is not None and self._source.event_interval_ms:
                self._transport.write(self._head(answer))
                await self._play_events(answer.events)
                if not keep_alive:
                    self._transport.close()
            else:
                self._finish(answer, keep_alive=keep_alive)
        self._player = None

    async def _play_events(self, events: list[bytes]) -> None:
        """One write per event, on a fixed schedule, so that late ones do not push back all others."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for event in events:
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._writable.wait()
            self._transport.write(_chunk(event))
            due += self._source.event_interval_ms / 1000
        self._transport.write(b"0\r\n\r\n")


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)
