"""The mock server: listens, counts, fails as often as it is told to."""

import asyncio
from dataclasses import dataclass, field

from routing.mock_upstream.answer import Answer, refusal
from routing.mock_upstream.routes import Routes
from routing.mock_upstream.wire import Connection


@dataclass(eq=False)
class MockUpstream:
    """An upstream on loopback.

    latency_ms: before every answer. fail_rate: share of requests answered 500, evenly spread, not at random.
    event_interval_ms: between the events of a stream. events: content events of a stream, 0 = one per word.
    """

    name: str = "mock"
    latency_ms: float = 0
    fail_rate: float = 0.0
    event_interval_ms: float = 0
    events: int = 0
    requests: int = field(default=0, init=False)
    connections: set[Connection] = field(default_factory=set, init=False)
    _server: asyncio.Server | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._routes = Routes(self.name, self.events)

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listens and returns the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Closes the listener and all connections at once."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.close()
        await self._server.wait_closed()
        self._server = None

    def answer(self, method: bytes, target: bytes, body: bytes) -> Answer:
        self.requests += 1
        # True as often as the rate says: 0.25 fails every fourth request, the fourth first.
        if int(self.requests * self.fail_rate) > int((self.requests - 1) * self.fail_rate):
            return refusal(500, "The mock was told to fail.", None, "mock_failure")
        return self._routes.answer(method, target, body)

    def headers(self) -> bytes:
        return b"x-request-id: req_%b_%d\r\nopenai-processing-ms: 1\r\nopenai-version: 2020-10-01\r\n" % (
            self.name.encode(),
            self.requests,
        )
