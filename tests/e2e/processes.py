"""Real server processes in a directory of their own: started, awaited, ended by pid, their output kept."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PROJECT = Path(__file__).resolve().parents[2]
_OWN = ("LLMPROXY_", "DATABASE_URL", "LOG_LEVEL", "DJANGO_", "OPENAI_", "AZURE_", "PYTEST_", "COV_", "OTEL_")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def environment(directory: Path, **more: str) -> dict[str, str]:
    """Nothing of the developer's own settings; data under `directory`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}  # noqa: TID251 - the processes' own
    return kept | {"LLMPROXY_DATA_DIR": str(directory / "data"), "PYTHONUNBUFFERED": "1"} | more


def manage(directory: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a management command to its end."""
    command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment(directory, **more), capture_output=True, text=True, timeout=60
    )


@dataclass
class Process:
    """A server; use as a context manager. `output()` is what it wrote so far."""

    directory: Path
    arguments: list[str]
    port: int
    variables: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Process":
        self.directory.mkdir(parents=True, exist_ok=True)
        self._log: IO[bytes] = (self.directory / "output.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(PROJECT / "manage.py"), *self.arguments],
            cwd=self.directory,
            env=environment(self.directory, **self.variables),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.terminate()
        self._log.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def output(self) -> str:
        return (self.directory / "output.log").read_text(errors="replace")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body."""
        try:
            with urllib.request.urlopen(self.root + path, timeout=5) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def wait_ready(self, seconds: float = 40) -> None:
        """Until /health/ready answers 200."""
        self.wait_for(self._ready, seconds)

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"ended with {self._process.returncode}:\n{self.output()}")
        try:
            return self.get("/health/ready")[0] == 200
        except (OSError, ValueError):
            return False

    def wait_for(self, ready: Callable[[], bool], seconds: float = 10) -> None:
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {seconds} s; its output:\n{self.output()}")
            threading.Event().wait(0.05)

    def terminate(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit code; what does not end is killed with all it started."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
            raise


def serve(directory: Path, text: str, *, workers: int = 2, **variables: str) -> Process:
    """`manage.py serve` with this YAML, not yet started."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (directory / "config.yaml").write_text(text)
    arguments = ["serve", "--port", str(port), "--workers", str(workers), "--config", "config.yaml"]
    return Process(directory, arguments, port, variables)


def runserver(directory: Path, text: str, **variables: str) -> Process:
    """`manage.py runserver` with this YAML; not the autoreloader, which is a process of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (directory / "config.yaml").write_text(text)
    for command in (("migrate", "--verbosity", "0"), ("import_config", "config.yaml")):
        done = manage(directory, *command, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    return Process(directory, ["runserver", f"127.0.0.1:{port}", "--noreload"], port, variables)
