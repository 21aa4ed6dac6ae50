"""The embedded store and the processes that share it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from llmproxy_site.embedded_store import EmbeddedStore
from tests.e2e.processes import PROJECT

USER = """
import sys
from pathlib import Path
from llmproxy_site.embedded_store import EmbeddedStore
with EmbeddedStore(Path(sys.argv[1])) as store:
    print(store.pid, flush=True)
    sys.stdin.read()
"""


class User:
    """Another process that uses the store of a data directory until `leave`."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
            text=True,
        )

    def started(self) -> int | None:
        """The store's pid, if it is this user who started it."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said, "the user ended"
        return None if said == "None" else int(said)

    def leave(self) -> None:
        if self.process.stdin is not None and not self.process.stdin.closed:
            with self.process:  # closes its input, which ends it
                pass


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Callable[[], User]]:
    made: list[User] = []

    def make() -> User:
        made.append(User(tmp_path / "data"))
        return made[-1]

    yield make
    for user in made:
        user.leave()


def ask(path: Path, command: bytes) -> bytes | None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        with suppress(OSError):
            client.connect(str(path))
            client.sendall(command + b"\r\n")
            return client.recv(4096)
    return None


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.01)  # noqa: TID251 - a plain test without a loop


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except OSError:
        return False


def test_a_started_store_answers_listens_on_no_port_and_is_private(tmp_path):
    with EmbeddedStore(tmp_path) as store:
        assert ask(store.socket_path, b"PING") == b"+PONG\r\n"
        assert b"\r\n0\r\n" in (ask(store.socket_path, b"CONFIG GET port") or b"")
        assert store.socket_path.stat().st_mode & 0o077 == 0
    assert ask(store.socket_path, b"PING") is None


def test_memory_is_limited_and_counters_are_not_evicted(tmp_path):
    with EmbeddedStore(tmp_path) as store:
        told = ask(store.socket_path, b"CONFIG GET maxmemory*") or b""
    assert b"268435456" in told
    assert b"volatile-lru" in told


def test_counters_survive_a_restart(tmp_path):
    with EmbeddedStore(tmp_path) as store:
        ask(store.socket_path, b"INCRBY counter 41")
    with EmbeddedStore(tmp_path) as store:
        assert ask(store.socket_path, b"INCR counter") == b":42\r\n"


def test_the_second_process_attaches(users):
    first, second = users(), users()
    started = [user.started() for user in (first, second)]
    assert sum(pid is not None for pid in started) == 1


def test_many_processes_that_start_at_once_share_one_store(users):
    pids = [user.started() for user in [users() for _ in range(5)]]
    assert sum(pid is not None for pid in pids) == 1


def test_a_killed_store_is_back_within_two_seconds(tmp_path):
    with EmbeddedStore(tmp_path) as store:
        killed = store.pid
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: store.pid != killed and ask(store.socket_path, b"PING") == b"+PONG\r\n", 2)


def test_a_stale_socket_is_no_obstacle(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "store.sock"))
    with EmbeddedStore(tmp_path) as store:
        assert ask(store.socket_path, b"PING") == b"+PONG\r\n"


def test_a_socket_that_was_swept_away_comes_back(tmp_path):
    with EmbeddedStore(tmp_path) as store:
        ask(store.socket_path, b"INCR counter")
        store.socket_path.unlink()
        wait_for(lambda: ask(store.socket_path, b"GET counter") == b"$1\r\n1\r\n", 3)


def test_a_frozen_store_is_left_alone(tmp_path):
    with EmbeddedStore(tmp_path) as store:
        frozen = store.pid
        os.kill(frozen, signal.SIGSTOP)
        with EmbeddedStore(tmp_path) as other:
            assert other.pid is None
        assert store.pid == frozen
        os.kill(frozen, signal.SIGCONT)
        assert ask(store.socket_path, b"PING") == b"+PONG\r\n"


def test_a_damaged_data_file_is_set_aside(tmp_path):
    (tmp_path / "store.rdb").write_bytes(b"REDIS0011 this is not a dump")
    with EmbeddedStore(tmp_path) as store:
        assert ask(store.socket_path, b"PING") == b"+PONG\r\n"
    assert (tmp_path / "store.rdb.damaged").exists()


def test_a_binary_that_does_not_run_is_no_error(tmp_path):
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o700)
    store = EmbeddedStore(tmp_path / "data", broken)
    assert store.start() is False
    store.stop()


def test_the_store_ends_with_a_starter_that_is_killed(users):
    user = users()
    pid = user.started()
    assert alive(pid)
    user.process.kill()
    wait_for(lambda: not alive(pid), 3)


def test_whoever_still_needs_the_store_starts_it_again(users, tmp_path):
    first = users()
    first.started()
    path = tmp_path / "data" / "store.sock"
    with EmbeddedStore(tmp_path / "data") as store:
        assert store.pid is None
        assert ask(path, b"INCRBY counter 7") == b":7\r\n"
        first.leave()
        wait_for(lambda: ask(path, b"GET counter") == b"$1\r\n7\r\n", 2)
        assert store.pid is not None


def test_whoever_still_needs_the_store_starts_it_again_after_a_kill(users, tmp_path):
    first = users()
    first.started()
    path = tmp_path / "data" / "store.sock"
    with EmbeddedStore(tmp_path / "data") as store:
        assert ask(path, b"INCRBY counter 7") == b":7\r\n"
        first.process.kill()
        wait_for(lambda: store.pid is not None and ask(path, b"GET counter") == b"$1\r\n7\r\n", 3)


def test_a_data_directory_with_a_long_path_works(tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    with EmbeddedStore(deep) as store:
        assert ask(store.socket_path, b"PING") == b"+PONG\r\n"
    store.socket_path.parent.rmdir()  # nothing is left in it
