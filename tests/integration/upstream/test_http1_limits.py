"""Deadlines, and memory that no upstream and no slow reader can make grow."""

import asyncio
import gzip
import resource
import time

import pytest

from routing.upstream.errors import AnswerBroken, AnswerTooLarge, ConnectFailed, UpstreamTimeout
from routing.upstream.http1_reply import HIGH_WATER
from tests.wire.answers import HI, OK
from tests.wire.asking import ask, fetch
from tests.wire.server import Wire, WireServer, answers

EVENT = b"data: {}\n\n"


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.gone()


def timed_out(phase: str):
    return pytest.raises(UpstreamTimeout, match=f"^{phase} timeout$")


class Took:
    """How long the block took."""

    def __enter__(self):
        self.begin = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begin


async def test_no_head_by_the_deadline(fast):
    async with WireServer(silent) as server:
        with Took() as took, timed_out("head"):
            await ask(fast, server.origin(), within=0.2)

        assert 0.19 < took.seconds < 0.6
        await asyncio.sleep(0.05)
        assert server.open == 0


async def test_informational_answers_do_not_move_the_deadline(fast):
    async def processing(wire: Wire) -> None:
        await wire.request()
        while True:
            await wire.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.05)

    async with WireServer(processing) as server:
        with timed_out("head"):
            await ask(fast, server.origin(), within=0.2)


async def drips(wire: Wire) -> None:
    await wire.request()
    await wire.send(OK + b"\r\n")
    while True:
        await wire.send(EVENT)
        await asyncio.sleep(0.02)


async def test_total_deadline_ends_a_stream_that_never_stops(fast):
    async with WireServer(drips) as server:
        reply = await ask(fast, server.origin(), within=0.3)
        with Took() as took, timed_out("total"):
            while True:
                await reply.piece()

        assert 0.2 < took.seconds < 0.7


async def test_deadline_may_be_moved_while_reading(fast):
    async with WireServer(drips) as server:
        reply = await ask(fast, server.origin(), within=0.3)
        reply.deadline += 0.4
        with Took() as took, timed_out("total"):
            while True:
                await reply.piece()

        assert took.seconds > 0.55


async def test_idle_timeout_ends_a_stalled_stream(fast):
    async def stalls(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\n", *[EVENT] * 5)
        await wire.gone()

    async with WireServer(stalls) as server:
        reply = await ask(fast, server.origin())
        reply.idle_timeout_s = 0.2
        with Took() as took, timed_out("idle"):
            while True:
                await reply.piece()

        assert 0.19 < took.seconds < 0.6


async def test_bytes_in_time_keep_a_slow_stream_alive(fast):
    async def slow(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\n")
        for _ in range(6):
            await asyncio.sleep(0.12)
            await wire.send(EVENT)

    async with WireServer(slow) as server:
        reply = await ask(fast, server.origin())
        reply.idle_timeout_s = 0.3

        assert await reply.read() == EVENT * 6


async def test_slow_reader_is_not_an_idle_upstream(fast):
    async with WireServer(answers(OK + HI)) as server:
        reply = await ask(fast, server.origin())
        reply.idle_timeout_s = 0.05
        await asyncio.sleep(0.2)

        assert await reply.read() == b"hi"


async def test_connect_timeout(fast):
    async def deaf(wire: Wire) -> None:
        await wire.gone()

    async with WireServer(deaf) as server:  # TLS is begun, and nobody answers
        origin = server.origin()
        encrypted = type(origin)("https", origin.host, origin.port)
        with Took() as took, pytest.raises(ConnectFailed, match="connect timeout"):
            await ask(fast, encrypted, connect_timeout_s=0.2)

        assert 0.19 < took.seconds < 1.0


async def test_deadline_while_connecting_is_a_head_timeout(fast):
    async def deaf(wire: Wire) -> None:
        await wire.gone()

    async with WireServer(deaf) as server:
        origin = server.origin()
        with timed_out("head"):
            await ask(fast, type(origin)("https", origin.host, origin.port), within=0.2)


async def test_timer_stops_when_nothing_is_in_flight(fast):
    async with WireServer(answers(OK + HI)) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        (pool,) = fast.pools
        assert pool.sweeper.ticking
        await asyncio.sleep(0.2)

        assert not pool.sweeper.ticking


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def flood(wire: Wire) -> None:
    await wire.request()
    await wire.send(OK + b"\r\n")
    block = b"x" * 65536
    while True:
        wire.writer.write(block)
        await wire.writer.drain()


async def test_slow_reader_holds_back_the_upstream(fast):
    async with WireServer(flood) as server:
        reply = await ask(fast, server.origin())
        before = peak_kib()
        for _ in range(10):
            await asyncio.sleep(0.03)
            piece = await reply.piece()
            assert len(piece) <= 2 * HIGH_WATER
        reply.close()

    assert peak_kib() - before < 30_000


async def test_endless_body_is_cut_at_the_limit(fast):
    async with WireServer(flood) as server:
        with pytest.raises(AnswerTooLarge):
            await fetch(fast, server.origin(), max_body_bytes=3_000_000)
        await asyncio.sleep(0.05)

        assert server.open == 0


async def test_gzip_bomb_is_refused_unread(fast):
    bomb = gzip.compress(bytes(100_000_000))
    before = peak_kib()
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)

    async with WireServer(answers(head + bomb)) as server:
        with pytest.raises(AnswerBroken, match="content-encoding"):
            await ask(fast, server.origin())

    assert peak_kib() - before < 20_000


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"x-a: " + b"a" * 1_000_000 + b"\r\n" + HI,
        OK + b"x-a: b\r\n" * 10_000 + HI,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
    ],
    ids=["1 MB header", "10,000 headers", "1xx flood"],
)
async def test_bombs_before_the_body_are_refused(fast, raw):
    async with WireServer(answers(raw)) as server:
        with pytest.raises(AnswerBroken):
            await ask(fast, server.origin())
