"""`manage.py serve` as a process: signals, dying workers, and what it refuses."""

import json
import os
import signal
import socket
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.processes import Process, free_port, manage, serve
from tests.e2e.upstreams import LoopThread

Started = Callable[..., Process]
SLOW_S = 1.5


@pytest.fixture(scope="module")
def text(upstream_thread: LoopThread) -> Iterator[str]:
    """A configuration with a slow upstream: 1.5 s to every answer, and as long between the events of a stream."""
    mock = MockUpstream("slow", latency_ms=SLOW_S * 1000, event_interval_ms=100, events=15)
    port = upstream_thread.run(mock.start)
    params = {"base_url": f"http://127.0.0.1:{port}", "api_key": "k"}
    yield json.dumps({"model_groups": [{"model_group": "slow", "models": [{"model": "slow", "params": params}]}]})
    upstream_thread.run(mock.stop)


@pytest.fixture
def started(text: str, tmp_path: Path) -> Iterator[Started]:
    processes: list[Process] = []

    def start(workers: int = 2) -> Process:
        process = serve(tmp_path / "site", text, workers=workers)
        processes.append(process.__enter__())
        process.wait_ready()
        return process

    yield start
    for process in processes:
        process.__exit__()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def ask(process: Process, *, stream: bool = False) -> bytes:
    body = json.dumps({"model": "slow", "stream": stream, "messages": [{"role": "user", "content": "x"}]}).encode()
    request = urllib.request.Request(
        f"{process.url}/chat/completions", body, {"content-type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def in_flight(process: Process, clients: ThreadPoolExecutor) -> list[Future[bytes]]:
    """Twelve requests under way, JSON and streams."""
    futures = [clients.submit(ask, process, stream=number % 2 == 0) for number in range(12)]
    threading.Event().wait(0.5)
    assert not any(future.done() for future in futures)
    return futures


def refused(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) != 0


def children(pid: int) -> dict[int, str]:
    """Living children of all its threads, and their command lines."""
    found = {}
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listing.read_text().split():
            with suppress(OSError):
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def workers_of(process: Process) -> set[int]:
    return {pid for pid, command in children(process.pid).items() if "llmproxy_site.worker" in command}


def ended(pid: int) -> bool:
    """Whether the process has closed everything; its parent may not have noticed yet."""
    return all(thread_ended(task) for task in Path("/proc").glob(f"{pid}/task/*"))


def thread_ended(task: Path) -> bool:
    """The first thread may be over while others still hold what is open."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_refuses_new_connections_and_finishes_what_is_in_flight(started, clients, workers, number):
    process = started(workers)
    futures = in_flight(process, clients)
    os.kill(process.pid, number)
    process.wait_for(lambda: refused(process.port), 0.6)
    assert not any(future.done() for future in futures)
    answers = [future.result() for future in futures]
    assert all(answer.rstrip().endswith(b"[DONE]") for answer in answers[::2])
    assert all(json.loads(answer)["object"] == "chat.completion" for answer in answers[1::2])
    assert process._process.wait(5) == 0
    assert "Traceback" not in process.output()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_does_not_wait(started, clients, workers):
    process = started(workers)
    futures = in_flight(process, clients)
    begun = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.wait_for(lambda: refused(process.port), 0.6)
    os.kill(process.pid, signal.SIGTERM)
    assert process._process.wait(SLOW_S) == 0
    assert time.monotonic() - begun < SLOW_S
    for future in futures:
        assert future.exception() is not None or not future.result().rstrip().endswith((b"}", b"[DONE]"))


def test_a_killed_worker_is_replaced_within_two_seconds_while_the_other_serves(started):
    process = started()
    before = workers_of(process)
    assert len(before) == 2
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    process.wait_for(lambda: ended(victim), 1)  # what reached it until then is lost with it
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert process.get("/health/live")[0] == 200
    process.wait_for(lambda: len(workers_of(process)) == 2 and victim not in workers_of(process), 2)
    assert before < workers_of(process)


def test_workers_of_a_killed_server_finish_and_end(started, clients):
    process = started()
    workers = workers_of(process)
    futures = in_flight(process, clients)
    os.kill(process.pid, signal.SIGKILL)
    process._process.wait(5)
    assert all(future.result() for future in futures)
    process.wait_for(lambda: all(ended(pid) for pid in workers), 20)  # the system's first process may bury them later


def test_a_killed_embedded_store_is_back_within_two_seconds(started):
    process = started()
    process.wait_for(lambda: process.get("/health")[1]["redis_connected"], 5)
    [store] = [pid for pid, command in children(process.pid).items() if "store.sock" in command]
    os.kill(store, signal.SIGKILL)
    process.wait_for(lambda: store not in children(process.pid), 2)
    process.wait_for(lambda: process.get("/health")[1]["redis_connected"], 2)


def test_nothing_is_left_running_after_the_end(started):
    process = started()
    family = children(process.pid)
    assert process.terminate() == 0
    assert not [command for pid, command in family.items() if not ended(pid)]


def test_the_start_up_text_tells_where_everything_is(started):
    process = started()
    process.wait_for(lambda: "curl" in process.output(), 5)
    output = process.output()
    assert f"{process.root}/admin/" in output
    assert "slow (1)" in output
    assert "(shown this once)" in output


def test_the_admins_password_is_shown_only_once(started):
    assert started().terminate() == 0
    again = started()
    again.wait_for(lambda: "curl" in again.output(), 5)
    assert "(shown this once)" not in again.output()


def test_a_start_on_an_older_revision_says_so(started, tmp_path):
    assert started(workers=1).terminate() == 0
    with closing(sqlite3.connect(tmp_path / "site/data/llmproxy.sqlite3")) as database, database:
        database.execute(
            "INSERT INTO routing_revision (number, created_at, author, source, message, digest, snapshot, changes)"
            " SELECT number + 1, created_at, author, 'by hand', '', 'unlike', '{\"model_groups\": 1}', '[]'"
            " FROM routing_revision ORDER BY number DESC LIMIT 1"
        )
    port = free_port()
    without_file = ["serve", "--port", str(port), "--workers", "1"]  # the file's import would publish a good one
    with Process(tmp_path / "site", without_file, port) as again:
        again.wait_ready()
        assert "Revision 2 cannot be served: serving revision 1." in again.output()


def test_a_bad_file_is_refused_with_every_line(tmp_path):
    (tmp_path / "bad.yaml").write_text("model_groups:\n  - model_grup: x\n    models: []\n")
    done = manage(tmp_path, "serve", "--config", "bad.yaml", "--port", "0")
    assert done.returncode == 1
    assert "bad.yaml:2:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_public_bind_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    done = manage(tmp_path, "serve", "--config", "config.yaml", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "Refusing to listen on 0.0.0.0" in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_refused_with_the_remedy(tmp_path, text, workers):
    (tmp_path / "config.yaml").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = manage(tmp_path, "serve", "--config", "config.yaml", "--port", port, "--workers", workers)
    assert done.returncode == 1
    assert "choose another --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_of_another_gateway_is_not_joined(started, tmp_path, text):
    process = started()
    (tmp_path / "config.yaml").write_text(text)
    done = manage(tmp_path, "serve", "--config", "config.yaml", "--port", str(process.port), "--workers", "2")
    assert done.returncode == 1
    assert "choose another --port" in done.stderr


def test_missing_references_warn_and_the_rest_serves(tmp_path, text):
    read = json.loads(text)
    read["model_groups"][0]["models"].append(
        {"name": "keyless", "model": "m", "params": {"base_url": "http://127.0.0.1:9", "api_key": "os.environ/NO_KEY"}}
    )
    with serve(tmp_path / "site", json.dumps(read)) as process:
        process.wait_ready()
        output = process.output()
        assert "os.environ/NO_KEY" in output
        assert "Out of service until they have one: keyless" in output
        assert process.terminate() == 0


def test_a_bad_variable_is_explained(tmp_path):
    done = manage(tmp_path, "serve", "--port", str(free_port()), LLMPROXY_REDIS_URL="http://user:hunter2@host")
    assert done.returncode == 1
    assert "LLMPROXY_REDIS_URL: write redis://" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
