"""An upstream on a real socket whose every answer is scripted, and which remembers everything it was asked."""

import asyncio
import itertools
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes.nonce import heard

Play = Callable[["Exchange"], Awaitable[None]]
_FOREVER = 3600


@dataclass(frozen=True)
class Behaviour:
    """What to do with a request; `share`: how much of its body to read before, 0 to 1."""

    play: Play
    share: float = 1.0


@dataclass
class RecordedRequest:
    """A request as it came over the wire. Times on the event loop's clock."""

    number: int
    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]  # names in lower case, order of the wire
    at: float
    body: bytes = b""
    answered_at: float | None = None  # when the script had been played to its end
    closed_by_peer_at: float | None = None  # when the client closed before that

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def stream(self) -> bool:
        return self.method == "POST" and b'"stream"' in self.body and self.json.get("stream") is True

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, connection: "_Connection", request: RecordedRequest) -> None:
        self._connection = connection
        self.request = request
        self.keep_alive = True
        self.nonce, self.size = heard(request.body)

    async def write(self, data: bytes) -> None:
        self._connection.transport.write(data)
        await self._connection.writable.wait()

    async def head(self, status: int | str = 200, *headers: str) -> None:
        """Status line and header lines, nothing added."""
        lines = [f"HTTP/1.1 {status}" if isinstance(status, str) else f"HTTP/1.1 {status} X", *headers, "", ""]
        await self.write("\r\n".join(lines).encode("latin-1"))

    async def answer(self, status: int, body: bytes, *headers: str, kind: str = "application/json") -> None:
        """A whole, well-formed answer."""
        await self.head(status, f"content-type: {kind}", f"content-length: {len(body)}", *headers)
        if body:
            await self.write(body)

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def silence(self, seconds: float = _FOREVER) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        """Sends what is written, then FIN."""
        self.keep_alive = False
        self._connection.close()

    def reset(self) -> None:
        """RST, at once."""
        self.keep_alive = False
        self._connection.reset()


class _Connection(asyncio.Protocol):
    """Collects bytes; a task reads requests from them and plays the script."""

    transport: asyncio.Transport

    def __init__(self, upstream: "ScriptedUpstream", number: int) -> None:
        self.upstream = upstream
        self.number = number
        self.buffer = bytearray()
        self.arrived = asyncio.Event()
        self.writable = asyncio.Event()
        self.request: RecordedRequest | None = None  # the one being answered
        self.task: asyncio.Task[None] | None = None
        self.closed_by_us = False
        self.served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.writable.set()
        if not self.upstream.listening:  # accepted just before it stopped
            self.transport.abort()
            return
        self.upstream.connections.add(self)
        self.upstream.connections_made += 1
        if self.upstream.deaf:
            self.transport.pause_reading()
        else:
            self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.arrived.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.upstream.connections.discard(self)
        self.writable.set()
        if not self.closed_by_us:
            now = asyncio.get_running_loop().time()
            self.upstream.closed_by_peer_at.append(now)
            if self.request is not None:
                self.request.closed_by_peer_at = now
            self.upstream.changed.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def close(self) -> None:
        self.closed_by_us = True
        self.transport.close()

    def reset(self) -> None:
        self.closed_by_us = True
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self.arrived.clear()
            await self.arrived.wait()

    async def _take(self, count: int) -> bytes:
        await self._until(lambda: len(self.buffer) >= count)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    async def _head(self) -> RecordedRequest:
        await self._until(lambda: b"\r\n\r\n" in self.buffer)
        raw = await self._take(self.buffer.index(b"\r\n\r\n") + 4)
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        now = asyncio.get_running_loop().time()
        return RecordedRequest(len(self.upstream.requests), self.number, method, target, headers, now)

    async def _body(self, request: RecordedRequest, share: float) -> bytes:
        if (request.header("transfer-encoding") or "").lower() != "chunked":
            return await self._take(int(int(request.header("content-length") or 0) * share))
        parts: list[bytes] = []
        while True:
            await self._until(lambda: b"\r\n" in self.buffer)
            line = await self._take(self.buffer.index(b"\r\n") + 2)
            data = await self._take(int(line.split(b";")[0], 16) + 2)
            if len(data) == 2:
                return b"".join(parts)
            parts.append(data[:-2])

    async def _serve(self) -> None:
        keep_alive = True
        while keep_alive:
            request = self.request = await self._head()
            self.upstream.requests.append(request)
            behaviour = self.upstream.planned()
            request.body = await self._body(request, behaviour.share if behaviour else 1.0)
            self.upstream.changed.set()
            exchange = Exchange(self, request)
            self.upstream.in_flight += 1
            self.upstream.most_in_flight = max(self.upstream.most_in_flight, self.upstream.in_flight)
            try:
                behaviour = behaviour or self.upstream.chosen(request)
                await behaviour.play(exchange)
            except Exception as error:  # noqa: BLE001 - a script's own mistake is raised by `stop`
                self.upstream.script_errors.append(error)
                exchange.reset()
            finally:
                self.upstream.in_flight -= 1
            request.answered_at = asyncio.get_running_loop().time()
            self.request = None
            self.served += 1
            keep_alive = exchange.keep_alive and request.header("connection") != "close"
        self.close()


@dataclass
class ScriptedUpstream:
    """Behaviours of `then` are used up first, in order; after them every request gets `always`.

    always may also be a function that chooses by the request. deaf: accepts connections and reads nothing.
    """

    always: Behaviour | Callable[[RecordedRequest], Behaviour]
    deaf: bool = False
    port: int = 0
    requests: list[RecordedRequest] = field(default_factory=list)
    connections: set[_Connection] = field(default_factory=set)
    connections_made: int = 0
    closed_by_peer_at: list[float] = field(default_factory=list)
    script_errors: list[Exception] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    _queue: deque[Behaviour] = field(default_factory=deque)
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self.changed = asyncio.Event()

    @property
    def listening(self) -> bool:
        return self._server is not None and self._server.is_serving()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *behaviours: Behaviour) -> None:
        self._queue.extend(behaviours)

    def planned(self) -> Behaviour | None:
        """The next behaviour, where it does not depend on the request."""
        if self._queue:
            return self._queue.popleft()
        return self.always if isinstance(self.always, Behaviour) else None

    def chosen(self, request: RecordedRequest) -> Behaviour:
        return self.always if isinstance(self.always, Behaviour) else self.always(request)

    async def start(self) -> int:
        """Listens on the port it had before, or on a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, next(self._numbers)), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        """Like a killed process: the listener is gone, all connections are reset."""
        if self._server is not None:
            self._server.close()
            tasks = [connection.task for connection in self.connections if connection.task is not None]
            for connection in list(self.connections):
                connection.reset()
            await self._server.wait_closed()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._server = None
        if self.script_errors:
            raise self.script_errors[0]

    def close_idle_connections(self) -> int:
        """FIN to every connection that waits for another request; returns how many."""
        idle = [one for one in self.connections if one.request is None and one.served]
        for connection in idle:
            connection.close()
        return len(idle)

    async def wait_for_requests(self, count: int, seconds: float = 5) -> None:
        await self._until(lambda: len(self.requests) >= count, seconds)

    async def wait_for_close(self, request: RecordedRequest, seconds: float = 5) -> float:
        """Until the client closed this request's connection; the loop time of it."""
        await self._until(lambda: request.closed_by_peer_at is not None, seconds)
        assert request.closed_by_peer_at is not None
        return request.closed_by_peer_at

    async def _until(self, ready: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not ready():
                self.changed.clear()
                await self.changed.wait()
