"""show_stats, test_endpoints and loadtest as processes, beside a gateway that serves."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.processes import PROJECT, Process, environment, manage, serve
from tests.e2e.upstreams import LoopThread


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with LoopThread() as thread:
        mock = MockUpstream("mock")
        port = thread.run(mock.start)
        params = {"api_key": "sk-of-mock", "base_url": f"http://127.0.0.1:{port}"}
        models = [{"name": "mock", "model": "gpt", "params": params}]
        text = json.dumps({"model_groups": [{"model_group": "m", "models": models}]})
        with serve(tmp_path_factory.mktemp("commands"), text) as process:
            process.wait_ready()
            yield process
        thread.run(mock.stop)


def test_a_load_test_shows_in_the_numbers(gateway: Process):
    threading.Event().wait(1)  # what an interrupted command before this test left is noticed and told by then
    before = gateway.get("/stats")[1]["requests"]["total"]
    options = ("--model", "m", "--requests", "30", "--connections", "3", "--stream", "--json")
    measured = manage(gateway.directory, "loadtest", gateway.url, *options)
    assert measured.returncode == 0, measured.stderr
    told = json.loads(measured.stdout)
    assert (told["succeeded"], told["failed"]) == (30, 0)
    assert told["events"] >= 30

    gateway.wait_for(lambda: gateway.get("/stats")[1]["requests"]["total"] == before + 31)
    shown = manage(gateway.directory, "show_stats", "--json")
    assert shown.returncode == 0, shown.stderr
    live, served = json.loads(shown.stdout)["live"], gateway.get("/stats")[1]
    for numbers in (live, served):
        del numbers["timestamp"]
        numbers["model_groups"]["m"][0]["state"].pop("consecutive_failures")
    assert live == served


def test_all_endpoints_are_tested_beside_the_gateway(gateway: Process):
    done = manage(gateway.directory, "test_endpoints")
    assert done.returncode == 0, done.stderr
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("mock "))
    assert (row[0], row[1], row[3], row[-1]) == ("mock", "m", "200", "ok")
    assert "sk-of-mock" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "drawn", "code"),
    [
        (["show_stats", "--watch", "0.2"], "Ctrl-C ends", 0),
        (["loadtest", "URL", "--model", "m", "--seconds", "60", "--rate", "50", "--connections", "2"], "answered", 130),
    ],
)
def test_ctrl_c_on_a_terminal_ends_it_in_order(gateway: Process, command: list[str], drawn: str, code: int):
    ours, theirs = pty.openpty()
    words = [gateway.url if word == "URL" else word for word in command]
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "manage.py"), *words],
        cwd=gateway.directory,
        env=environment(gateway.directory, TERM="xterm", COLUMNS="100"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = read_until(ours, drawn)
    process.send_signal(signal.SIGINT)
    seen += read_until(ours, None)
    os.close(ours)
    assert process.wait(20) == code, seen
    assert "Traceback" not in seen
    if code:
        assert "Stopped by Ctrl-C" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is there again


def read_until(terminal: int, words: str | None) -> str:
    """What appears on the terminal until these words do; without words: until its programs have ended."""
    seen = ""
    while words is None or words not in seen:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # Linux: nobody holds the other end any more
            read = b""
        if not read:
            assert words is None, seen
            break
        seen += read.decode(errors="replace")
    return seen
