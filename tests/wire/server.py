"""A server that plays a script on each connection: exactly these bytes, in these pieces, and then this end."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from routing.upstream.transport import Origin

GONE = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError)


class Wire:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number  # of the connection, from 1

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(int(lengths[0])) if lengths else head

    async def send(self, *pieces: bytes) -> None:
        """Each piece is a read of its own for the client, as far as that can be had."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await settle()

    async def gone(self) -> None:
        """Waits until the client has closed."""
        with contextlib.suppress(*GONE):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def cut(self) -> None:
        """Ends the TCP connection under TLS's feet: a FIN without close_notify."""
        raw = self.writer.get_extra_info("socket")
        with socket.socket(fileno=socket.dup(raw.fileno())) as same:
            same.shutdown(socket.SHUT_WR)


Script = Callable[[Wire], Awaitable[None]]


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class WireServer:
    """Listens while it is entered; `async with WireServer(script) as server`."""

    def __init__(
        self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._script = script
        self._tls = tls
        self._host = host
        self.port = port
        self._playing: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []  # of scripts: the test's own mistakes
        self.connections = 0
        self.open = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._play, self._host, self.port, ssl=self._tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for playing in self._playing:
            playing.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)
        if self._failures and error is None:
            raise self._failures[0]

    def origin(self, host: str = "127.0.0.1", ca_file: str | None = None) -> Origin:
        return Origin("https" if self._tls else "http", host, self.port, ca_file)

    def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._server.is_serving():
            writer.close()
            return
        self.connections += 1
        playing = asyncio.get_running_loop().create_task(self._run(Wire(reader, writer, self.connections)))
        self._playing.add(playing)
        playing.add_done_callback(self._played)
        playing.add_done_callback(lambda _: writer.close())  # also if it was cancelled before it began

    def _played(self, playing: asyncio.Task[None]) -> None:
        self._playing.discard(playing)
        if not playing.cancelled() and (failure := playing.exception()) is not None:
            self._failures.append(failure)

    async def _run(self, wire: Wire) -> None:
        self.open += 1
        try:
            with contextlib.suppress(*GONE):
                await self._script(wire)
        finally:
            self.open -= 1


def answers(*pieces: bytes) -> Script:
    """A script: these pieces for each request, the connection kept."""

    async def play(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(*pieces)

    return play
