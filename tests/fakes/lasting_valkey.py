"""A Valkey that forgets nothing when it is killed: it writes each change to its file before it answers."""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from llmproxy_site.store import embedded_binary
from tests.fakes.valkey import Valkey


class LastingValkey(Valkey):
    """`restart` after a kill -9."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")
        self._socket = Path(self._directory.name) / "s"
        self._start()
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self._start()

    def _start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "yes"]
        self.process = subprocess.Popen(
            [str(embedded_binary()), *options],
            cwd=self._directory.name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while not self._listens():
            assert time.monotonic() < until, "Valkey did not start"
            assert self.process.poll() is None, "Valkey ended"
