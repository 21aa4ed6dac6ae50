"""A port in front of a Valkey whose replies come late, one after the other, or not at all while it is frozen."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from llmproxy_site.store import StoreAddress
from tests.fakes.valkey import Valkey


class SlowStore:
    """`delay()` is asked for the seconds of each batch of replies. Commands reach the store at once, also when frozen."""

    def __init__(self, valkey: Valkey, delay: Callable[[], float] = lambda: 0.0) -> None:
        self.delay = delay
        self._path = valkey.address.url.removeprefix("unix://")
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._passing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for one in self._passing:
            one.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    @property
    def address(self) -> StoreAddress:
        return StoreAddress("given", f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")

    def freeze(self) -> None:
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(asyncio.ensure_future(self._pass_on(reader, writer)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stored, asked = await asyncio.open_unix_connection(self._path)
        replying = asyncio.ensure_future(self._reply(stored, writer))
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    asked.write(data)
        finally:
            replying.cancel()
            for end in (asked, writer):
                end.transport.abort()
            await asyncio.gather(replying, return_exceptions=True)

    async def _reply(self, stored: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In two steps, so that a reply's delay does not begin when the one before it has gone."""
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, data = await late.get()
                await asyncio.sleep(due - loop.time())
                await self._flowing.wait()
                writer.write(data)

        sending = asyncio.ensure_future(send())
        try:
            with suppress(OSError):
                while data := await stored.read(65536):
                    late.put_nowait((loop.time() + self.delay(), data))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
