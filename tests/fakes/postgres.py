"""A real PostgreSQL on a socket of its own, where this machine has one and Python can speak to it."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_NOBODY = "nobody"  # PostgreSQL refuses to run as root


def why_not() -> str | None:
    """None: it can be started."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    if shutil.which("initdb") is None or shutil.which("postgres") is None:
        return "PostgreSQL is not installed"
    return None


class Postgres:
    """Runs while this is open; keeps nothing."""

    def __enter__(self) -> Self:
        # Not below pytest's directory, which only its owner may enter; and short: socket paths end at 108 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._rights: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._directory, _NOBODY)
            self._rights = {"user": _NOBODY, "extra_groups": []}
        data = str(self._directory / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C").wait()
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=20"]
        self.process = self._run("postgres", "-D", data, "-k", str(self._directory), *options)
        until = time.monotonic() + 30
        while self._run("pg_isready", "-q", "-h", str(self._directory)).wait() != 0:
            assert time.monotonic() < until, "PostgreSQL did not start"
            assert self.process.poll() is None, "PostgreSQL ended"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self._directory)

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=self._directory, **self._rights)

    @property
    def settings(self) -> dict[str, Any]:
        """As Django wants them."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": str(self._directory),
            "OPTIONS": {},
        }
