"""The bench itself: that its load generator sees what is wrong, and a run of a second or two with all its servers."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routing.mock_upstream.routes import Routes
from routing.mock_upstream.server import MockUpstream
from tests.bench import report, workload, wrk
from tests.bench.accounts import cpu_seconds, family, rss_bytes
from tests.bench.load import Order, load
from tests.bench.machine import cores, described
from tests.bench.measure import Bench
from tests.bench.servers import Server, Site
from tests.bench.workload import EMPTY, GATEWAY, MOCK, PROXY, Plan, Step, request

RIGHT = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright"
Serve = Callable[[bytes], Awaitable[int]]


class Answering(asyncio.Protocol):
    """Answers every request with the same bytes; with none it hangs up."""

    def __init__(self, answer: bytes, transports: list[asyncio.BaseTransport]) -> None:
        self._answer, self._transports = answer, transports

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._transports.append(transport)

    def data_received(self, data: bytes) -> None:
        if self._answer:
            self._transport.write(self._answer)
        else:
            self._transport.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`port = await serve(answer)`"""
    servers: list[asyncio.Server] = []
    transports: list[asyncio.BaseTransport] = []

    async def start(answer: bytes) -> int:
        loop = asyncio.get_running_loop()
        servers.append(await loop.create_server(lambda: Answering(answer, transports), "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for closing in (*servers, *transports):
        closing.close()
    await asyncio.sleep(0)


def order(directory: Path, port: int, seconds: float = 0.05) -> Order:
    (directory / "request").write_bytes(request("bench", "/", b"{}"))
    (directory / "expected").write_bytes(b"right")
    return Order(
        port=port,
        request_file=str(directory / "request"),
        expected_file=str(directory / "expected"),
        connections=2,
        seconds=seconds,
        warm_up=0.01,
        pids=[os.getpid()],
        load_pids=[],
        cores=[],
    )


async def test_right_answers_are_no_failures(tmp_path, serve):
    found = await load(order(tmp_path, await serve(RIGHT)))
    assert found.requests > 2
    assert found.failures == {}
    assert 0 < found.p50_ms <= found.p99_ms
    assert found.cpu_s > 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RIGHT.replace(b"right", b"wrong"), "wrong answer"),
        (RIGHT.replace(b"200 OK", b"503 No"), "status 503"),
        (b"nonsense\r\n\r\n", "not HTTP"),
        (b"", "connection lost"),
    ],
)
async def test_what_is_not_the_right_answer_is_a_failure(tmp_path, serve, answer, reason):
    found = await load(order(tmp_path, await serve(answer)))
    assert set(found.failures) == {reason}


async def test_an_answer_that_never_comes_is_a_failure(tmp_path, serve, monkeypatch):
    monkeypatch.setattr("tests.bench.load.DRAIN_S", 0.05)
    found = await load(order(tmp_path, await serve(RIGHT[:-1])))
    assert found.failures == {"no answer within 0.05 s": 2}


@pytest.fixture
async def mock() -> AsyncIterator[int]:
    """The port of an upstream whose answers depend on the request."""
    upstream = MockUpstream(events=3)
    yield await upstream.start()
    await upstream.stop()


def answer_to(heard: bytes) -> bytes:
    return Routes("mock", 3).answer(b"POST", workload.PATH.encode(), heard).body


def numbered_order(directory: Path, port: int, **more: Any) -> Order:
    heard = workload.body(workload.MODEL, stream=False)
    (directory / "heard").write_bytes(heard)
    made = order(directory, port)
    Path(made.request_file).write_bytes(request("bench", workload.PATH, heard))
    Path(made.expected_file).write_bytes(answer_to(heard))
    return replace(made, heard_file=str(directory / "heard"), numbers_from=5, **more)


async def test_numbered_requests_are_expected_to_have_answers_of_their_own(tmp_path, mock):
    found = await load(numbered_order(tmp_path, mock))
    assert found.requests > 2
    assert found.failures == {}


async def test_another_requests_answer_is_a_failure(tmp_path, serve):
    made = numbered_order(tmp_path, 0)
    body = answer_to(workload.body(workload.MODEL, stream=False))
    port = await serve(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    found = await load(replace(made, port=port))
    assert set(found.failures) == {"wrong answer"}


async def test_a_number_of_requests_can_be_asked_for(tmp_path, mock):
    found = await load(numbered_order(tmp_path, mock, most=7))
    assert found.asked == 7
    assert found.failures == {}


@pytest.mark.skipif(wrk.installed() is None, reason="wrk is not installed")
@pytest.mark.parametrize("numbers", [0, 10])
async def test_wrk_numbers_requests_too(tmp_path, mock, numbers):
    made = numbered_order(tmp_path, mock, numbers=numbers)
    found = await asyncio.to_thread(wrk.load, wrk.installed(), made, tmp_path)
    assert found.failures == {}
    assert found.asked >= found.requests > 10


@pytest.mark.skipif(wrk.installed() is None, reason="wrk is not installed")
async def test_wrk_tells_the_same_figures(tmp_path, serve):
    port = await serve(RIGHT)
    found = await asyncio.to_thread(wrk.load, wrk.installed(), order(tmp_path, port), tmp_path)
    assert found.requests > 2
    assert found.failures == {}
    assert 0 < found.p50_ms <= found.p99_ms


@pytest.mark.skipif(wrk.installed() is None, reason="wrk is not installed")
async def test_wrk_tells_failures(tmp_path, serve):
    port = await serve(RIGHT.replace(b"200 OK", b"503 No"))
    found = await asyncio.to_thread(wrk.load, wrk.installed(), order(tmp_path, port), tmp_path)
    assert found.failures == {"wrk: status": found.requests}


def test_accounts_know_this_process():
    assert cpu_seconds([os.getpid()]) > 0
    assert rss_bytes(os.getpid()) > 1_000_000
    assert os.getpid() in family(os.getppid())


def test_a_process_that_ended_has_used_nothing():
    assert cpu_seconds([2**22 + 1]) == 0


def test_a_small_run_has_figures_for_all_servers(tmp_path):
    plan = Plan(
        (
            *(Step("json", 1, 1, 0.1), Step("paced", 2, 1, 0.2), Step("burst", 2, 1, 0.1)),
            *(Step("hit", 2, 1, 0.2), Step("replay", 2, 1, 0.1), Step("miss", 2, 1, 0.2)),
        ),
        starts=0,
        bodies=5,
    )
    with Site(tmp_path, cores(), plan.starts) as site:
        pids = [server.pid for server in site.servers.values()]
        results = Bench(site, lambda _: None, use_wrk=False).run(plan)
    assert results.failures() == []
    for server in (EMPTY, PROXY, GATEWAY, MOCK):
        rounds = [cell.rounds[0] for cell in results.cells if cell.server == server]
        assert sum(one.events + one.requests for one in rounds) > 0, server
        assert sum(one.cpu_s for one in rounds) > 0, server
    assert all(memory.cached for memory in results.memory)
    assert [table.plain() for table in report.tables(results)]
    assert json.dumps(report.as_json(results, described()))
    assert cpu_seconds(pids) == 0  # all ended


def test_answers_from_another_place_than_the_store_are_no_answers_from_the_store(tmp_path):
    plan = Plan((Step("stored", 2, 1, 0.2),), starts=0, bodies=5)
    with Site(tmp_path, cores(), plan.starts) as site:
        results = Bench(site, lambda _: None, use_wrk=False).run(plan)
    ((cell, failures),) = results.failures()
    assert (cell.server, cell.kind) == (GATEWAY, "stored")
    assert next(iter(failures)).startswith("wrong place")


def test_book_keeping_is_switched_off_and_on_again(tmp_path):
    def counts(server: Server) -> dict[str, int]:
        """What five requests add to what all workers have told, and to the log."""
        server.throw_switch()
        threading.Event().wait(0.5)  # what was noted before is told
        before, lines = server.counted(), log.read_text().count('"operation"')
        for _ in range(5):
            server.ask("json")
        threading.Event().wait(0.5)
        return {"told": server.counted() - before, "logged": log.read_text().count('"operation"') - lines}

    log = tmp_path / "gateway" / "output.log"
    with Site(tmp_path, cores(), starts=0) as site:
        on, off = site.books
        assert [counts(server) for server in (on, off, on)] == [
            {"told": 5, "logged": 5},
            {"told": 0, "logged": 0},
            {"told": 5, "logged": 5},
        ]


@pytest.mark.full
def test_more_answers_than_a_worker_has_memory_for_are_read_from_the_store(tmp_path):
    plan = Plan((Step("stored", 32, 1, 0.5),), starts=0)
    with Site(tmp_path, cores(), plan.starts) as site:
        results = Bench(site, lambda _: None, use_wrk=False).run(plan)
    assert results.failures() == []
