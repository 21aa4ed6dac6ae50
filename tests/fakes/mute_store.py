"""A port in front of a Valkey that can be made mute: it does what it is asked, and its replies are lost."""

import asyncio
from contextlib import suppress
from pathlib import Path

from llmproxy_site.store import StoreAddress


class MuteStore:
    """A connection that ends at one end ends at the other."""

    def __init__(self, socket: Path) -> None:
        self.mute = False
        self._socket = socket
        self._passing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        self._server.close()
        for one in self._passing:
            one.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    @property
    def address(self) -> StoreAddress:
        return StoreAddress("given", f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(asyncio.ensure_future(self._pass_on(reader, writer)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        copies: list[asyncio.Task[None]] = []
        try:
            stored, asked = await asyncio.open_unix_connection(self._socket)
            ends.append(asked)
            copies += [
                asyncio.ensure_future(self._ask(reader, asked)),
                asyncio.ensure_future(self._tell(stored, writer)),
            ]
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # there is no store now
        finally:
            for copy in copies:
                copy.cancel()
            for end in ends:
                end.transport.abort()
            await asyncio.gather(*copies, return_exceptions=True)

    async def _ask(self, reader: asyncio.StreamReader, asked: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                asked.write(data)

    async def _tell(self, stored: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await stored.read(65536):
                if not self.mute:
                    writer.write(data)
