"""The embedded store: a Valkey (or Redis) of our own behind a socket under the data directory, no TCP port.

One store per data directory, however many processes use it: whoever finds none starts one, under a file lock. It is
kept alive, stopped by the process that started it, and dies with that process even if it is killed.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from llmproxy_site.environment import private_directory
from llmproxy_site.store import embedded_binary, require_private, socket_path

if sys.platform != "win32":
    import fcntl

_LOOK_INTERVAL_S = 0.25
_START_TIMEOUT_S = 5.0
_LONGEST_PAUSE_S = 5.0  # between attempts to start a store that does not start
_SAVE_TIMEOUT_S = 20.0  # a stopped store writes its data first
_LOG_LIMIT_BYTES = 1_000_000

# Runs before the store, in its process: on Linux the kernel then ends the store (which saves first) when the thread
# that started it ends, even by kill -9. An own interpreter, because code between fork and exec is unsafe with threads.
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

log = structlog.get_logger(__name__)


class EmbeddedStore:
    """Attach or start with `start`, or as a context manager. Needs a platform for which there is a binary."""

    def __init__(self, data_dir: Path, binary: Path | None = None) -> None:
        self._data_dir = data_dir
        self._binary = binary or embedded_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None
        self.socket_path = socket_path(data_dir)

    @property
    def pid(self) -> int | None:
        """The store's process, if this one started it."""
        return self._process.pid if self._process is not None else None

    def start(self) -> bool:
        """Attaches or starts, and keeps the store alive from now on. True if it answers already; it never raises
        because the store does not start: the gateway serves without it, and attempts go on."""
        private_directory(self._data_dir)
        if self.socket_path.parent != self._data_dir:
            require_private(self.socket_path.parent)
        begun = threading.Event()
        # The keeper starts the store itself: the kernel ties the store to the thread that started it.
        self._keeper = threading.Thread(target=self._keep, args=[begun], name="embedded-store", daemon=True)
        self._keeper.start()
        begun.wait(_START_TIMEOUT_S + 1)
        return self._answers()

    def stop(self) -> None:
        """Stops looking after the store, and stops the store if this process started it: it saves and exits."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join(_SAVE_TIMEOUT_S + 5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _keep(self, begun: threading.Event) -> None:
        pause = _LOOK_INTERVAL_S
        while not self._stopping.is_set():
            pause = _LOOK_INTERVAL_S if self._cared_for() else min(pause * 2, _LONGEST_PAUSE_S)
            begun.set()
            self._stopping.wait(pause)
        self._end_own()

    def _cared_for(self) -> bool:
        try:
            return self._alive() or self._bring_up()
        except OSError as error:  # no descriptors left, disk full, directory gone: it may pass, so this thread lives on
            log.warning("embedded store cannot be looked after", reason=error.strerror)
            return False

    def _alive(self) -> bool:
        if self._process is not None and self._process.poll() is None:
            # Its socket may have been swept away with old temporary files: then nobody can reach it any more.
            return self.socket_path.exists()
        return self._connectable()

    def _bring_up(self) -> bool:
        """One attempt, while no other process makes one."""
        with self._lock() as locked:
            if not locked:
                return False
            if self._process is not None:
                log.warning("embedded store ended", exit_code=self._process.poll())
                self._end_process()
            if self._connectable():
                return True
            return self._launch() or self._launch_without_data()

    def _launch(self) -> bool:
        if self._binary is None:
            return False
        output = self._log_file()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                [*_tie(self._binary), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._data_dir,
                umask=0o077,
                start_new_session=True,  # Ctrl-C is for us: the store is needed until the workers have drained
            )
        except OSError as error:
            log.warning("embedded store does not start", binary=str(self._binary), reason=error.strerror)
            return False
        finally:
            os.close(output)
        if self._wait_until_it_answers(self._process):
            return True
        log.warning("embedded store does not start", log=str(self._data_dir / "store.log"))
        return False

    def _launch_without_data(self) -> bool:
        """A damaged file must not keep the store away: it holds counters and cached answers only."""
        data = self._data_dir / "store.rdb"
        if self._process is None or self._process.poll() is None or not data.exists():
            return False
        data.replace(data.with_suffix(".rdb.damaged"))
        log.warning("embedded store starts empty", set_aside=str(data.with_suffix(".rdb.damaged")))
        return self._launch()

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            if self._answers():
                return True
            self._stopping.wait(0.01)
        return False

    def _arguments(self) -> list[str]:
        return [
            *("--port", "0", "--unixsocket", str(self.socket_path), "--unixsocketperm", "700"),
            *("--dir", str(self._data_dir), "--dbfilename", "store.rdb", "--save", "60 1", "--appendonly", "no"),
            # What has a time to live may go when memory is short; counters have none and stay.
            *("--maxmemory", "256mb", "--maxmemory-policy", "volatile-lru"),
            *("--stop-writes-on-bgsave-error", "no", "--loglevel", "warning", "--daemonize", "no"),
        ]

    def _log_file(self) -> int:
        path = self._data_dir / "store.log"
        with suppress(OSError):
            if path.stat().st_size > _LOG_LIMIT_BYTES:
                path.unlink()
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _connectable(self) -> bool:
        """Whether somebody listens. A frozen store does; starting a second one would split the counters."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0.25)
            try:
                probe.connect(str(self.socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:
                return True  # its backlog is full: alive, only slow
        return True

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(0.25)
            probe.connect(str(self.socket_path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")  # "-LOADING" while it reads its file
        return False

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """False if we are told to stop before the lock is free."""
        descriptor = os.open(self._data_dir / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield self._locked(descriptor)
        finally:
            os.close(descriptor)  # which unlocks

    def _locked(self, descriptor: int) -> bool:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._stopping.wait(0.05):
                    return False
            else:
                return True

    def _end_own(self) -> None:
        if self._process is None:
            return
        with (
            suppress(OSError),
            self._lock(),
        ):  # under the lock, so that nobody starts the next one before this has saved
            self._end_process()

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_SAVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tie(binary: Path) -> list[str]:
    if sys.platform != "linux":
        return [str(binary)]  # killed without warning, we leave a store behind; the next start attaches to it
    return [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), str(binary)]
