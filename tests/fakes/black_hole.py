"""A port whose connections are neither accepted nor refused: the kernel's backlog is full."""

import contextlib
import socket
from types import TracebackType
from typing import Self


class BlackHole:
    """SYN packets to `port` are dropped while this is open (Linux)."""

    def __enter__(self) -> Self:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers = [self._filler() for _ in range(4)]
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _filler(self) -> socket.socket:
        filler = socket.socket()
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect(("127.0.0.1", self.port))
        return filler

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for one in (*self._fillers, self._listener):
            one.close()
