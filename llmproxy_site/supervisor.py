"""Keeps a number of worker processes alive, and ends them in good order. Knows nothing of HTTP.

A worker's end of its channel closes when it dies, by whatever cause: that is noticed at once, without polling.
"""

import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

import structlog

from llmproxy_site.environment import child_environment, python_module
from llmproxy_site.server import APPLICATION, BACKLOG, ONE_SOCKET_PER_WORKER, bound_socket
from llmproxy_site.worker import READY

_FIRST_PAUSE_S = 0.1  # before a worker that died young is replaced; doubles up to the longest
_LONGEST_PAUSE_S = 5.0
_YOUNG_S = 5.0
_FORCED_END_S = 3.0

log = structlog.get_logger(__name__)


class StartFailed(Exception):
    """A worker ended before it served for the first time; its own log lines say why."""


@dataclass(eq=False)
class Worker:
    """One process and our end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    started: float = field(default_factory=time.monotonic)
    ready: bool = False


class Supervisor:
    """Runs `count` workers on one address until SIGTERM or SIGINT; a second signal does not wait for requests."""

    def __init__(self, host: str, port: int, count: int, application: str = APPLICATION) -> None:
        self._application = application
        self._host = host
        self._reserved = self._reserve(host, port)  # keeps the port ours while a worker is being replaced
        self.port: int = self._reserved.getsockname()[1]
        self._count = count
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._due: list[float] = []  # when replacements are to start
        self._pause_s = _FIRST_PAUSE_S
        self._signals = 0
        self._served = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Returns when all workers have ended. Calls `on_ready` once, when all of them serve."""
        with self._signals_noticed():
            self._due = [0.0] * self._count
            announced = False
            while not self._signals:
                self._start_due()
                self._notice(self._seconds_to_next_start())
                if not announced and sum(worker.ready for worker in self._workers) == self._count:
                    announced = True
                    on_ready()
            self._drain()

    def _drain(self) -> None:
        self._reserved.close()  # first: new connections are refused, not left waiting for nobody
        self._drain_workers()
        known = self._signals
        deadline = float("inf")
        while self._workers:
            self._notice(0.5)
            if self._signals > known:
                known = self._signals
                deadline = min(deadline, time.monotonic() + _FORCED_END_S)
                self._end_workers()
            if time.monotonic() > deadline:
                for worker in self._workers:
                    worker.process.kill()

    def _drain_workers(self) -> None:
        """By the end of the channel: who signals the whole control group, as systemd does, has signalled them already,
        and a second signal would cut their streams."""
        for worker in self._workers:
            if worker.ready:
                with suppress(OSError):  # it has just ended
                    worker.channel.shutdown(socket.SHUT_WR)
            else:
                worker.process.terminate()

    def _end_workers(self) -> None:
        """Two signals that do not become one while they wait: a worker takes only the second as the end."""
        for worker in self._workers:
            worker.process.terminate()
            worker.process.send_signal(signal.SIGINT)

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [when for when in self._due if when <= now]
        self._due = [when for when in self._due if when > now]
        for _ in due:
            self._start_worker()

    def _start_worker(self) -> None:
        ours, theirs = socket.socketpair()
        listening = bound_socket(self._host, self.port, shared_port=True) if ONE_SOCKET_PER_WORKER else self._reserved
        try:
            process = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
                [
                    *python_module("llmproxy_site.worker"),
                    str(listening.fileno()),
                    str(theirs.fileno()),
                    self._application,
                ],
                pass_fds=[listening.fileno(), theirs.fileno()],
                env=child_environment(),
                process_group=0,  # Ctrl-C in a terminal comes to us alone; workers hear of it from us
            )
        finally:
            theirs.close()
            if listening is not self._reserved:
                listening.close()  # a dead worker's connections must not wait in a socket that only we hold
        worker = Worker(process, ours)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _seconds_to_next_start(self) -> float | None:
        return max(0.0, min(self._due) - time.monotonic()) if self._due else None

    def _notice(self, timeout_s: float | None) -> None:
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, Worker):
                self._hear(key.data)
            else:
                key.data.recv(64)  # a signal woke us

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.channel.recv(16)
        except ConnectionResetError:
            said = b""
        if said == READY:
            worker.ready = self._served = True
            return
        self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
        self._ended(worker, worker.process.wait())

    def _ended(self, worker: Worker, code: int) -> None:
        if self._signals:
            return
        age = time.monotonic() - worker.started
        if not worker.ready and not self._served:
            log.error("worker did not start", exit_code=code)
            self._signals += 1
            self._drain()
            raise StartFailed
        log.error("worker ended, starting another", exit_code=code, age_s=round(age, 1))
        if age > _YOUNG_S:
            self._pause_s = _FIRST_PAUSE_S
        self._due.append(time.monotonic() + (0.0 if age > _YOUNG_S else self._pause_s))
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    @contextmanager
    def _signals_noticed(self) -> Iterator[None]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, ours)
        before = {number: signal.signal(number, self._count_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        woken_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            ours.close()
            theirs.close()

    def _count_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    @staticmethod
    def _reserve(host: str, port: int) -> socket.socket:
        if not ONE_SOCKET_PER_WORKER:
            shared = bound_socket(host, port)
            shared.listen(BACKLOG)
            return shared
        bound_socket(host, port).close()  # alone first: another gateway's shared port must not be joined silently
        return bound_socket(host, port, shared_port=True)
