"""A real Valkey on a socket of its own, for the tests of one process."""

import asyncio
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from llmproxy_site.store import StoreAddress, embedded_binary


class Valkey:
    """Runs while this is open; keeps nothing."""

    def __enter__(self) -> Self:
        binary = embedded_binary()
        assert binary is not None
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")  # short: socket paths end at 108 bytes
        self._socket = Path(self._directory.name) / "s"
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [str(binary), *options], cwd=self._directory.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        while not self._listens():
            assert time.monotonic() < until, "Valkey did not start"
            assert self.process.poll() is None, "Valkey ended"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self._directory.cleanup()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0  # there is a moment between the path and the listening

    @property
    def address(self) -> StoreAddress:
        return StoreAddress("given", f"unix://{self._socket}")

    async def empty(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(b"FLUSHALL\r\n")
        assert await reader.readline() == b"+OK\r\n"
        writer.close()
        await writer.wait_closed()
