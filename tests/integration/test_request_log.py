"""A line per request reaches standard error whole, late by at most a moment, and nobody waits for who reads it."""

import asyncio
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from llmproxy_site import request_log
from llmproxy_site.log_redaction import known_secrets
from llmproxy_site.request_log import RequestLog, to_descriptor, together, whole_at
from tests.e2e.processes import PROJECT
from tests.integration.records_database import record


@asynccontextmanager
async def running(log: RequestLog) -> AsyncIterator[RequestLog]:
    task = asyncio.ensure_future(log.run())
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def level():
    logger = logging.getLogger("llmproxy.requests")
    logger.setLevel("INFO")
    yield logger.setLevel
    logger.setLevel("NOTSET")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - it happens on a thread
            await asyncio.sleep(0)


class Reader:
    """Takes what is written; reads none of it before it may."""

    def __init__(self, *, stuck: bool = False) -> None:
        self.may = threading.Event()
        if not stuck:
            self.may.set()
        self.got: list[bytes] = []

    def __call__(self, text: bytes) -> None:
        self.may.wait(20)
        self.got.append(text)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in b"".join(self.got).splitlines()]


async def test_every_request_has_its_line_soon():
    reader = Reader()
    async with running(RequestLog(reader, terminal=False)) as log:
        for number in range(250):
            log.add(record(request_id=f"r-{number}"))
        await until(lambda: len(reader.lines) == 250)
    assert [line["request_id"] for line in reader.lines] == [f"r-{number}" for number in range(250)]


async def test_the_last_lines_are_written_at_the_end():
    reader = Reader()
    async with running(RequestLog(reader, terminal=True)) as log:
        log.add(record())
    await log.stop()
    assert b"".join(reader.got).count(b"\n") == 1


async def test_being_cut_off_while_writing_loses_no_line(monkeypatch):
    monkeypatch.setattr(request_log, "WRITE_EVERY_S", 0)
    reader = Reader()
    async with running(RequestLog(reader, terminal=False)) as log:
        for number in range(1000):
            log.add(record(request_id=f"r-{number}"))
        await until(lambda: len(reader.got) >= 2)
    await log.stop()
    assert [line["request_id"] for line in reader.lines] == [f"r-{number}" for number in range(1000)]


async def test_a_reader_who_has_stopped_holds_nobody_up_and_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr(request_log, "WRITE_EVERY_S", 0.01)
    monkeypatch.setattr(request_log, "MOST_WAITING", 1000)
    monkeypatch.setattr(request_log, "_MOST_BEHIND", 2)
    reader = Reader(stuck=True)
    async with running(RequestLog(reader, terminal=False)) as log:
        for _ in range(30):
            for _ in range(100):
                log.add(record())
            await asyncio.sleep(0.02)
        reader.may.set()
        await until(lambda: any(b"left_out" in text for text in reader.got))
    await log.stop()
    left_out = next(line["left_out"] for line in reader.lines if "left_out" in line)
    assert left_out > 0
    assert sum(line["event"] == "request" for line in reader.lines) + left_out == 3000


async def test_the_end_does_not_wait_for_a_reader_who_has_stopped():
    reader = Reader(stuck=True)
    log = RequestLog(reader, terminal=False)
    log.add(record())
    async with asyncio.timeout(10):
        await log.stop(within_s=0.05)
    reader.may.set()


async def test_a_reader_who_is_gone_does_no_harm():
    def gone(_: bytes) -> None:
        raise BrokenPipeError

    log = RequestLog(gone, terminal=False)
    log.add(record())
    async with asyncio.timeout(10):
        await log.stop(within_s=5)


@pytest.mark.parametrize(
    ("chosen", "outcomes"), [("INFO", ["success", "failure"]), ("WARNING", ["failure"]), ("ERROR", [])]
)
async def test_the_level_says_which_lines_are_written(level, chosen, outcomes):
    level(chosen)
    reader = Reader()
    log = RequestLog(reader, terminal=False)
    log.add(record())
    log.add(record(outcome="failure"))
    await log.stop()
    assert [line["outcome"] for line in reader.lines] == outcomes


async def test_a_request_id_that_holds_a_key_is_struck_out():
    known_secrets.learn(["key-that-is-a-request-id"])
    reader = Reader()
    log = RequestLog(reader, terminal=False)
    for request_id in ("good", "x-key-that-is-a-request-id", "sk-0123456789abcdef"):
        log.add(record(request_id=request_id))
    await log.stop()
    assert [line["request_id"] for line in reader.lines] == ["good", "x-[redacted]", "[redacted]"]


def test_no_write_is_so_long_that_it_could_be_torn():
    lines = [b"%d %s\n" % (number, b"x" * (number * 7 % 900)) for number in range(300)]
    texts = list(together(lines, 4096))
    assert b"".join(texts) == b"".join(lines)
    assert all(len(text) <= 4096 and text.endswith(b"\n") for text in texts)
    assert len(texts) < 60


_WRITER = """
import asyncio, logging, sys
from llmproxy_site.request_log import RequestLog, to_descriptor, whole_at
from tests.integration.records_database import record

async def main():
    logging.getLogger("llmproxy.requests").setLevel("INFO")
    log = RequestLog(to_descriptor(2), terminal=False, whole=whole_at(2))
    running = asyncio.ensure_future(log.run())
    for number in range(2000):
        log.add(record(request_id=f"{sys.argv[1]}-{number}"))
        if number % 200 == 0:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await log.stop(within_s=30)

print("ready", flush=True)
input()
asyncio.run(main())
"""


def test_lines_of_several_workers_do_not_mix_in_a_pipe():
    reading, writing = os.pipe()
    if sys.platform == "linux":  # so small that it is full all the time, and longer writes would be torn
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    workers = two_workers(writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    assert_all_there(workers, text)


def test_lines_of_several_workers_do_not_mix_in_a_file(tmp_path):
    file = tmp_path / "log"
    with file.open("wb") as log:
        assert whole_at(log.fileno()) > 4096
        workers = two_workers(log.fileno())
        for worker in workers:
            worker.wait(20)
    assert_all_there(workers, file.read_bytes())


def two_workers(descriptor: int) -> "list[subprocess.Popen[bytes]]":
    """They write 2,000 lines each, at the same time."""
    variables = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}  # noqa: TID251 - the processes' own
    script = "import django; django.setup()\n" + _WRITER
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, name],
            cwd=PROJECT,
            env=variables,
            stderr=descriptor,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("a", "b")
    ]
    for worker in workers:
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        worker.stdin.write(b"go\n")
        worker.stdin.close()
        worker.stdout.close()
    return workers


def assert_all_there(workers: "list[subprocess.Popen[bytes]]", text: bytes) -> None:
    assert [worker.wait(20) for worker in workers] == [0, 0]
    assert sorted(json.loads(line)["request_id"] for line in text.splitlines()) == sorted(
        f"{name}-{number}" for name in ("a", "b") for number in range(2000)
    )


def test_everything_is_written_where_the_system_takes_it_in_parts(monkeypatch):
    taken: list[bytes] = []

    def some(_: int, text: bytes) -> int:
        taken.append(text[:3])
        return len(text[:3])

    monkeypatch.setattr(os, "write", some)
    to_descriptor(2)(b"0123456789")
    assert b"".join(taken) == b"0123456789"


def test_everything_is_written_to_a_pipe_that_refuses_to_wait():
    """Whoever started us may have made it so: then a full pipe is an error, and no reason to leave lines out."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    taken: list[bytes] = []

    def take() -> None:
        with os.fdopen(reading, "rb") as source:
            taken.append(source.read())

    text = b"x" * 2_000_000  # more than a pipe holds
    reader = threading.Thread(target=take)
    reader.start()
    to_descriptor(writing)(text)
    os.close(writing)
    reader.join(20)
    assert taken == [text]
