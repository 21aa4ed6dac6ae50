"""The servers of a run as processes, pinned to their cores, on loopback, in a directory that is thrown away."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import nginx, workload
from tests.bench.accounts import cpu_seconds, family, rss_bytes
from tests.bench.figures import Start
from tests.bench.machine import Cores, pinned
from tests.bench.workload import (
    CACHED,
    COUNTED,
    EMPTY,
    GATEWAY,
    HEADERS,
    MOCK,
    NGINX,
    PATH,
    PROXY,
    SHAPES,
    UNCOUNTED,
    Kind,
)
from tests.e2e.processes import PROJECT, environment, free_port

_READY_WITHIN_S = 60.0


class ServerProblem(Exception):
    """A server did not start or answers wrongly; the message holds what it said."""


@dataclass(frozen=True)
class Server:
    """Where to send what, and whose CPU time counts."""

    name: str
    port: int
    pid: int
    prefix: bool = True  # paths begin with the kind of load
    groups: bool = False  # it is asked for a group, not for the upstream's model
    caches: bool = True  # it may answer from its cache, in the steps that are about that
    switch: signal.Signals | None = None  # to be sent to it before it is measured
    works_for_it: int | None = None  # another process that does, with its family

    def path(self, kind: Kind) -> str:
        return f"/{SHAPES[kind]}{PATH}" if self.prefix else PATH

    def body(self, kind: Kind) -> bytes:
        return workload.body(self._model(kind), stream=SHAPES[kind] != "json")

    def _model(self, kind: Kind) -> str:
        if not self.groups:
            return workload.MODEL
        if kind in CACHED and self.caches:
            return workload.KEPT_GROUP
        return workload.PACED_GROUP if kind == "paced" else workload.GROUP

    def request(self, kind: Kind) -> bytes:
        return workload.request(f"127.0.0.1:{self.port}", self.path(kind), self.body(kind))

    def pids(self) -> list[int]:
        return family(self.pid) + (family(self.works_for_it) if self.works_for_it is not None else [])

    def ask(self, kind: Kind) -> bytes:
        """The body of one answer. Raises OSError, HTTPException, ServerProblem."""
        return self._exchange("POST", self.path(kind), self.body(kind))

    def throw_switch(self) -> None:
        """If it has one."""
        if self.switch is not None:
            os.kill(self.pid, self.switch)

    def counted(self) -> int:
        """How many requests the gateway has counted. Raises as `ask`."""
        return int(json.loads(self._exchange("GET", "/stats"))["requests"]["total"])

    def cache_numbers(self) -> dict[str, int]:
        """How many of the gateway's answers came from where, so far. Raises as `ask`."""
        cache = json.loads(self._exchange("GET", "/stats"))["cache"]
        return {**cache["hits_by_tier"], "miss": cache["misses"]}

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, HEADERS)
            answer = connection.getresponse()
            answered = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise ServerProblem(f"{self.name} answered {answer.status}: {answered[:300].decode(errors='replace')}")
        return answered


class Site:
    """All servers of a run. A context manager: leaving ends them."""

    def __init__(self, directory: Path, cores: Cores, starts: int, profile: Path | None = None) -> None:
        """starts: how often the gateway is started for its time alone; profile: where to write what it spends it on."""
        self.directory, self.cores = directory, cores
        self._profile = profile
        self.servers: dict[str, Server] = {}
        self.books: list[Server] = []  # one gateway, with its book-keeping and without
        self.starts: list[Start] = []
        self._starts_again = starts
        self._stack = ExitStack()

    def __enter__(self) -> "Site":
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        starting = [self._mock("mock"), self._mock("paced", f"--event-interval-ms={workload.INTERVAL_MS}")]
        for server, process in starting:
            self._wait(server, process)
        (self.mock, _), (self.paced, _) = starting
        self._keep_expected()
        self._app(EMPTY, "empty", *(str(self.expected(kind)) for kind in ("json", "burst")))
        self._app(PROXY, "proxy", str(self.mock.port), str(self.paced.port))
        if program := nginx.installed():
            port = free_port()
            command = nginx.command(program, self.directory / "nginx", port, self.mock.port, self.paced.port)
            self.servers[NGINX] = self._started(NGINX, command, port)
        for _ in range(self._starts_again):
            with self._gateway():
                pass
        self.servers[GATEWAY] = self._stack.enter_context(self._gateway())
        self._switched()

    def _switched(self) -> None:
        """Over the gateway's own database and store, and with its settings."""
        port, gateway = free_port(), self.servers[GATEWAY].pid
        command = [sys.executable, "-m", "tests.bench.apps", "switched", str(port)]
        process = self._stack.enter_context(
            self._process(COUNTED, command, self.cores.server, self.directory / "gateway")
        )
        for name, switch in ((COUNTED, signal.SIGUSR2), (UNCOUNTED, signal.SIGUSR1)):
            self.books.append(
                Server(name, port, process.pid, prefix=False, groups=True, switch=switch, works_for_it=gateway)
            )
        self._wait(self.books[0], process)

    def expected(self, kind: Kind) -> Path:
        """The file with the body of the right answer; a burst and a paced stream have the same."""
        return self.directory / ("whole.json" if SHAPES[kind] == "json" else "stream.sse")

    def _keep_expected(self) -> None:
        for kind in ("json", "burst"):
            self.expected(kind).write_bytes(self.mock.ask(kind))

    def mocks(self) -> list[int]:
        return [self.mock.pid, self.paced.pid]

    @contextmanager
    def _gateway(self) -> Iterator[Server]:
        """`manage.py serve` with one worker, from the second time on in a data directory that it knows."""
        directory = self.directory / "gateway"
        directory.mkdir(exist_ok=True)
        (directory / "config.yaml").write_text(self._configuration())
        port = free_port()
        command = _manage("serve", "--port", str(port), "--workers", "1", "--config", "config.yaml")
        if self._profile is not None:
            command = [sys.executable, "-m", "tests.bench.sampled", str(self._profile.absolute()), *command[2:]]
        begin = time.perf_counter()
        with self._process(GATEWAY, command, self.cores.server, directory) as process:
            server = Server(GATEWAY, port, process.pid, prefix=False, groups=True)
            self._wait(server, process)
            seconds = time.perf_counter() - begin
            self.starts.append(Start(seconds, cpu_seconds(server.pids()), rss_bytes(server.pid)))
            if self._profile is not None:
                process.send_signal(signal.SIGUSR2)
            yield server

    def _configuration(self) -> str:
        def group(name: str, mock: Server, *, cache: bool = False) -> dict[str, object]:
            params = {"api_key": "sk-bench", "base_url": f"http://127.0.0.1:{mock.port}"}
            names = (f"{name}-a", f"{name}-b")
            return {
                "model_group": name,
                "cache": cache,
                "models": [{"name": one, "model": workload.MODEL, "params": params} for one in names],
            }

        groups = [
            group(workload.GROUP, self.mock),
            group(workload.PACED_GROUP, self.paced),
            group(workload.KEPT_GROUP, self.mock, cache=True),
        ]
        return json.dumps({"model_groups": groups})

    def _mock(self, name: str, *arguments: str) -> tuple[Server, "subprocess.Popen[bytes]"]:
        """Not awaited yet."""
        port = free_port()
        command = _manage("mock_upstream", f"--port={port}", f"--events={workload.MOCK_EVENTS}", *arguments)
        process = self._stack.enter_context(self._process(name, command, self.cores.mock, self.directory / name))
        return Server(MOCK, port, process.pid, prefix=False), process

    def _app(self, name: str, *arguments: str) -> None:
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.apps", arguments[0], str(port), *arguments[1:]]
        self.servers[name] = self._started(name, command, port)

    def _started(self, name: str, command: Sequence[str], port: int) -> Server:
        directory = self.directory / name.replace(" ", "-")
        process = self._stack.enter_context(self._process(name, command, self.cores.server, directory))
        server = Server(name, port, process.pid)
        self._wait(server, process)
        return server

    @contextmanager
    def _process(
        self, name: str, command: Sequence[str], cores: frozenset[int], directory: Path
    ) -> Iterator["subprocess.Popen[bytes]"]:
        directory.mkdir(exist_ok=True)
        with (directory / "output.log").open("ab") as log:
            with pinned(cores):
                process = subprocess.Popen(
                    command,
                    cwd=directory,
                    env=environment(directory, PYTHONPATH=str(PROJECT)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                yield process
            finally:
                _end(process)

    def _wait(self, server: Server, process: "subprocess.Popen[bytes]") -> None:
        """Until it answers. Raises ServerProblem."""
        until = time.monotonic() + _READY_WITHIN_S
        problem: Exception | None = None
        while time.monotonic() < until and process.poll() is None:
            try:
                server.ask("json")
            except (OSError, http.client.HTTPException, ServerProblem) as error:
                problem = error
                threading.Event().wait(0.01)
            else:
                return
        logs = "\n".join(log.read_text(errors="replace") for log in self.directory.glob("*/output.log"))
        raise ServerProblem(f"{server.name} does not answer: {problem}\n{logs[-3000:]}")


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "manage.py"), *arguments]


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
