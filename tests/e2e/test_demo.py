"""`make run` in a fresh checkout: the demo, and what it prints."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Process, environment, free_port


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("demo")
    port = free_port()
    # What the real installation would use must not be touched, nor be needed.
    variables = {"LLMPROXY_REDIS_URL": "redis://192.0.2.1", "LLMPROXY_CONFIG": str(directory / "not-there.yaml")}
    with Process(directory, ["demo", "--port", str(port)], port, variables) as process:
        process.wait_ready()
        process.wait_for(lambda: "chat.completions.create" in process.output())
        yield process
        assert process.terminate() == 0


def test_the_printed_curl_line_works(demo: Process):
    [line] = [line for line in demo.output().splitlines() if line.startswith("curl")]
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=10)
    assert '"object":"chat.completion"' in done.stdout


def test_the_printed_python_works(demo: Process):
    found = re.search(r"^from openai import OpenAI$.*?^print\(.*?\)$", demo.output(), re.MULTILINE | re.DOTALL)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-c", found[0]], capture_output=True, text=True, timeout=30, env=environment(demo.directory)
    )
    assert "You said: Hello" in done.stdout, done.stderr


def test_it_keeps_everything_in_a_directory_of_its_own(demo: Process):
    assert "Demo mode" in demo.output()
    assert "revision  1 " in demo.output()
    assert [path.name for path in (demo.directory / "data").glob("*.sqlite3")] == []
    assert (demo.directory / "data" / "demo" / "llmproxy.sqlite3").exists()


def test_both_upstreams_answer(demo: Process):
    status, stats = demo.get("/stats")
    assert status == 200
    assert {endpoint["name"] for endpoint in stats["model_groups"]["demo"]} == {"demo-a", "demo-b"}


@pytest.fixture
def fresh(tmp_path: Path) -> Process:
    """`make run` runs this; in a directory with neither a configuration file nor a database."""
    port = free_port()
    return Process(tmp_path, ["serve", "--or-demo", "--port", str(port)], port)


def test_serve_with_nothing_configured_becomes_the_demo(fresh: Process):
    with fresh:
        fresh.wait_ready()
        assert "Demo mode" in fresh.output()
        assert fresh.get("/health")[1]["model_groups"] == ["demo", "demo-weighted"]


def test_serve_with_a_file_does_not(fresh: Process):
    (fresh.directory / "llmproxy.yaml").write_text("model_groups: []\n")
    with fresh:
        fresh.wait_for(lambda: "none yet" in fresh.output(), 30)
        assert "Demo mode" not in fresh.output()
