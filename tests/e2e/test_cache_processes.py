"""Equal requests to several processes: one call to the upstream, also when the process that made it is killed."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cache_pair import Pair, configuration, pair
from tests.e2e.processes import Process, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.load import Client, Got, verdict
from tests.fakes.nonce import chat_body, new_nonce, told
from tests.fakes.scripted import Behaviour, Exchange, RecordedRequest
from tests.fakes.truth import EVENT_STREAM
from tests.fakes.valkey import Valkey

LEASE_S = 2.0  # that others wait for a process of which nothing is heard
POLL_S = 0.1
SLACK_S = 0.6  # two busy cores
LARGE = 6 << 20


def always(request: RecordedRequest) -> Behaviour:
    """What it does and how long it takes stands in the request's `user`."""
    name, delay, interval, *_ = [*request.json["user"].split(), "0", "0.02"]
    if name == "large":
        return Behaviour(_large)
    if name == "refused":
        return b.status(400, delay=float(delay))
    return b.honest(delay=float(delay), interval=float(interval))


async def _large(exchange: Exchange) -> None:
    """A stream of some MB whose end keeps the client waiting."""
    piece = told(exchange.nonce, 60_000)
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % piece.encode()
    await exchange.head(200, *EVENT_STREAM)
    for _ in range(LARGE // len(event)):
        await exchange.chunk(event)
    await exchange.silence()


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture(scope="module")
def both(upstream_thread: LoopThread, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(upstream_thread, tmp_path_factory.mktemp("pair"), valkey, always, idle_timeout=60) as running:
        yield running


async def ask(server: Process, nonce: str, *, stream: bool = False, **fields: Any) -> Got:
    async with Client(server.url) as client:
        got = await client.post("/chat/completions", chat_body(nonce, stream=stream, **fields))
        if got.status == 200:
            got.verdict = verdict(got, nonce, stream=stream)
        return got


async def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.005)


def hows(got: list[Got]) -> list[str]:
    return sorted(one.headers["x-llmproxy-cache"] for one in got)


# -- at the same time


@pytest.mark.parametrize("requests", [200])
async def test_equal_requests_make_one_call(both: Pair, requests: int) -> None:
    nonce = new_nonce()
    got = await asyncio.gather(*(ask(both.servers[n % 2], nonce, user="honest 0.5") for n in range(requests)))
    assert {one.verdict for one in got} == {None}
    assert len(both.asked(nonce)) == 1
    assert hows(got) == ["hit"] * (requests - 1) + ["miss"]
    assert len({one.body for one in got}) == 1


async def test_equal_streams_make_one_call_in_each_process(both: Pair) -> None:
    nonce = new_nonce()
    got = await asyncio.gather(*(ask(both.servers[n % 2], nonce, stream=True, user="honest 0.5") for n in range(200)))
    assert {one.verdict for one in got} == {None}
    assert len(both.asked(nonce)) <= 2
    assert len({one.body for one in got}) == 1


async def test_equal_requests_to_two_workers_of_one_server(
    upstream_thread: LoopThread, tmp_path: Path, both: Pair
) -> None:
    """With the embedded store."""
    with serve(tmp_path / "site", configuration(both.upstream.url), workers=2) as server:
        server.wait_ready()
        nonces = [new_nonce() for _ in range(5)]
        got = await asyncio.gather(*(ask(server, nonces[n % 5], user="honest 0.5") for n in range(200)))
        assert {one.verdict for one in got} == {None}
        assert [len(both.asked(nonce)) for nonce in nonces] == [1] * 5
        assert server.terminate() == 0


async def test_a_refused_request_is_asked_again_by_few_only(both: Pair) -> None:
    """Each process tries once more for those who wait; then each on its own."""
    nonce = new_nonce()
    got = await asyncio.gather(*(ask(both.servers[n % 2], nonce, user="refused 0.2") for n in range(4)))
    assert [one.status for one in got] == [400] * 4
    assert len(both.asked(nonce)) == 4


# -- processes that die


async def test_a_leader_that_is_killed(both: Pair) -> None:
    """One of those who wait takes over; and nothing is kept of the stream that it passed on."""
    leader, nonce, streamed = both.start(), new_nonce(), new_nonce()
    await asyncio.to_thread(leader.wait_ready)
    lost = [
        asyncio.ensure_future(ask(leader, nonce, user="honest 0.7")),
        asyncio.ensure_future(ask(leader, streamed, stream=True, user="honest 0 0.2")),
    ]
    await eventually(lambda: len(both.asked(nonce)) == len(both.asked(streamed)) == 1)
    following = [asyncio.ensure_future(ask(both.servers[n % 2], nonce, user="honest 0.7")) for n in range(40)]
    await asyncio.sleep(0.4)
    killed_at = time.monotonic()
    os.killpg(leader.pid, signal.SIGKILL)
    await eventually(lambda: len(both.asked(nonce)) == 2, LEASE_S + POLL_S + SLACK_S)
    took_s = time.monotonic() - killed_at
    got = await asyncio.gather(*following)
    again = await ask(both.servers[0], streamed, stream=True, user="honest 0 0.2")

    assert took_s > 0.2, "they did not wait: the test proves nothing"
    assert {one.verdict for one in got} == {None}
    assert len(both.asked(nonce)) == 2
    assert hows(got) == ["hit"] * 39 + ["miss"]
    assert (again.verdict, hows([again])) == (None, ["miss"])
    for one in await asyncio.gather(*lost, return_exceptions=True):
        assert isinstance(one, OSError | asyncio.IncompleteReadError)


async def test_a_leader_that_stands_still_holds_up_nobody_for_long_nor_hurts_them_later(both: Pair) -> None:
    (leader, other), nonce = both.servers, new_nonce()
    late = asyncio.ensure_future(ask(leader, nonce, user="honest 0.3"))
    await eventually(lambda: len(both.asked(nonce)) == 1)
    os.killpg(leader.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(LEASE_S + POLL_S + 0.3 + SLACK_S):
            got = await asyncio.gather(*(ask(other, nonce, user="honest 0.3") for _ in range(10)))
    finally:
        os.killpg(leader.pid, signal.SIGCONT)
    assert {one.verdict for one in [*got, await late]} == {None}
    assert len(both.asked(nonce)) == 2
    assert hows([await ask(server, nonce, user="honest 0.3") for server in both.servers]) == ["hit", "hit"]


# -- memory


async def test_streams_under_way_do_not_fill_the_memory(both: Pair) -> None:
    """What may be kept later must not cost more than slow clients may."""
    server = both.servers[0]
    worker = _worker_of(server)
    before = _resident(worker)
    async with open_streams(server, 40) as reading:
        await asyncio.gather(*reading)
        grown = _resident(worker) - before
    assert grown < 96 << 20, f"{grown >> 20} MB for 40 streams of {LARGE >> 20} MB"


class open_streams:
    """So many different streams, each read up to its last event."""

    def __init__(self, server: Process, count: int) -> None:
        self._clients = [Client(server.url) for _ in range(count)]

    async def __aenter__(self) -> list[Any]:
        return [self._read(client) for client in self._clients]

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        await asyncio.sleep(0)

    async def _read(self, client: Client) -> None:
        await client.start("POST", "/chat/completions", chat_body(new_nonce(), stream=True, user="large"))
        got, size = await client.head(), 0
        while size < LARGE - (1 << 18):
            size += len(await client.piece(got))


def _worker_of(server: Process) -> int:
    """The process that answers; with one worker that may be the server itself."""
    found = [server.pid]
    for listing in Path(f"/proc/{server.pid}/task").glob("*/children"):
        found += [pid for pid in map(int, listing.read_text().split()) if b"worker" in _command(pid)]
    return found[-1]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
