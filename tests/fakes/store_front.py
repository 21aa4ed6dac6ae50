"""What stands between a client and a Valkey: a port that passes everything on, in TLS or not; or a store of a script."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trustme

from llmproxy_site.store import StoreAddress
from tests.fakes.valkey import Valkey


@asynccontextmanager
async def front_of(valkey: Valkey, host: str = "127.0.0.1", authority: trustme.CA | None = None) -> AsyncIterator[int]:
    """A port of `host`. With an authority it speaks TLS, with a certificate for localhost."""
    context = None
    if authority is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
    path = valkey.address.url.removeprefix("unix://")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_unix_connection(path)
        await asyncio.gather(copy(reader, onward[1]), copy(onward[0], writer))
        await onward[1].wait_closed()

    passing: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing.add(asyncio.ensure_future(pass_on(reader, writer)))

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*passing)  # clients are gone


@asynccontextmanager
async def scripted_store(
    path: Path, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[StoreAddress]:
    """A socket at `path`; `serve` gets each connection, which is closed when it returns."""

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    accepted: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted[writer] = asyncio.ensure_future(serve_and_close(reader, writer))

    server = await asyncio.start_unix_server(begin, path)
    try:
        yield StoreAddress("given", f"unix://{path}")
    finally:
        await asyncio.sleep(0.01)  # asyncio drops, unclosed, what it is just accepting when it is told to close
        server.close()
        for writer, task in accepted.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*accepted.values(), return_exceptions=True)
