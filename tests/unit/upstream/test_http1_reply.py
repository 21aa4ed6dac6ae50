"""What a reply keeps, when it stops reading, and when it is overdue."""

import asyncio

import pytest

from routing.upstream.errors import AnswerBroken, AnswerTooLarge, ConnectionReset, UpstreamTimeout
from routing.upstream.http1_reply import HIGH_WATER
from tests.wire.answers import HI, OK
from tests.wire.memory import Memory

UNTIL_CLOSE = OK + b"\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def wire() -> Memory:
    return Memory(asyncio.get_running_loop())


async def test_piece_gives_what_came_since_the_last_one(wire):
    reply = wire.ask()
    wire.feed([UNTIL_CLOSE, b"one", b"two"])
    assert await reply.piece() == b"onetwo"

    wire.feed([b"three"], closes=True)
    assert await reply.piece() == b"three"
    assert await reply.piece() is None
    assert await reply.piece() is None


async def test_read_does_not_suspend_when_all_has_come(wire):
    reply = wire.ask()
    wire.feed([OK + HI])

    with pytest.raises(StopIteration) as stopped:
        reply.read().send(None)

    assert stopped.value.value == b"hi"


async def test_pieces_before_a_break_are_given_first(wire):
    reply = wire.ask()
    wire.feed([OK + b"content-length: 9\r\n\r\n", b"one"], closes=True)

    assert await reply.piece() == b"one"
    with pytest.raises(AnswerBroken):
        await reply.piece()


async def test_socket_is_not_read_above_the_high_water_mark(wire):
    reply = wire.ask()
    wire.feed([UNTIL_CLOSE, b"x" * HIGH_WATER])
    assert wire.transport.reading

    wire.feed([b"x"])
    assert not wire.transport.reading

    await reply.piece()
    assert wire.transport.reading


async def test_mark_counts_what_waits_not_what_came(wire):
    reply = wire.ask()
    wire.feed([UNTIL_CLOSE])
    for _ in range(10):
        wire.feed([b"x" * (HIGH_WATER // 2)])
        await reply.piece()
        assert wire.transport.reading


async def test_reading_the_whole_is_not_held_back(wire):
    reply = wire.ask()
    wire.feed([OK + b"content-length: %d\r\n\r\n" % (3 * HIGH_WATER)])
    reading = asyncio.ensure_future(reply.read())
    await asyncio.sleep(0)

    wire.feed([b"x" * (HIGH_WATER + 1), b"x" * (2 * HIGH_WATER - 1)])

    assert wire.transport.reading
    assert len(await reading) == 3 * HIGH_WATER


async def test_finished_connection_reads_again_when_pooled(wire):
    wire.ask()
    wire.feed([OK + b"content-length: %d\r\n\r\n" % (HIGH_WATER + 1), b"x" * (HIGH_WATER + 1)])

    assert wire.reusable
    assert wire.transport.reading


@pytest.mark.parametrize("limit", [0, 9, HIGH_WATER, 2 * HIGH_WATER])
async def test_body_over_the_limit_ends_the_connection(wire, limit):
    reply = wire.ask(max_body_bytes=limit)
    wire.feed([UNTIL_CLOSE, b"x" * limit])
    assert not wire.transport.aborted

    wire.feed([b"x"])

    assert wire.transport.aborted
    with pytest.raises(AnswerTooLarge):
        await reply.read()


async def test_chunks_of_one_byte_do_not_cost_an_object_each(wire):
    reply = wire.ask()
    wire.feed([CHUNKED])
    for _ in range(100):
        wire.feed([b"1\r\nx\r\n" * 1000])

    assert len(reply.pieces) <= 120
    assert b"".join(reply.pieces) == b"x" * 100_000


async def test_closing_before_the_end_closes_the_connection(wire):
    reply = wire.ask()
    wire.feed([OK + b"content-length: 9\r\n\r\none"])

    reply.close()
    reply.close()

    assert wire.transport.aborted
    assert not wire.pool.connections
    with pytest.raises(ConnectionReset):
        await reply.read()


async def test_closing_after_the_end_leaves_the_next_request_alone(wire):
    first = wire.ask()
    wire.feed([OK + HI])
    second = wire.ask()

    first.close()
    wire.feed([OK + HI])

    assert await second.read() == b"hi"
    assert wire.reusable


async def test_one_read_wakes_once(wire):
    reply = wire.ask()
    wire.feed([CHUNKED])
    waiting = asyncio.ensure_future(reply.piece())
    await asyncio.sleep(0)

    wire.feed([b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"])

    assert await waiting == b"abc"


async def test_waiting_again_after_a_cancelled_wait_loses_nothing(wire):
    reply = wire.ask()
    wire.feed([UNTIL_CLOSE])
    waiting = asyncio.ensure_future(reply.piece())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    wire.feed([b"late"])

    assert await reply.piece() == b"late"


class TestOverdue:
    async def test_head(self, wire):
        reply = wire.ask()
        reply.deadline = 10.0

        assert reply.overdue(9.9, heard=False) is None
        error = reply.overdue(10.0, heard=True)
        assert isinstance(error, UpstreamTimeout)
        assert error.phase == "head"

    async def test_total_may_be_moved(self, wire):
        reply = wire.ask()
        reply.deadline = 10.0
        wire.feed([UNTIL_CLOSE])
        reply.deadline = 20.0

        assert reply.overdue(19.9, heard=True) is None
        error = reply.overdue(20.0, heard=True)
        assert isinstance(error, UpstreamTimeout)
        assert error.phase == "total"

    async def test_idle_counts_from_the_last_byte_while_somebody_waits(self, wire):
        reply = wire.ask()
        wire.feed([UNTIL_CLOSE])
        reply.idle_timeout_s = 5.0
        reply.waiter = reply.more()

        assert reply.overdue(100.0, heard=True) is None
        assert reply.overdue(104.9, heard=False) is None
        assert reply.overdue(105.0, heard=True) is None
        error = reply.overdue(110.0, heard=False)
        assert isinstance(error, UpstreamTimeout)
        assert error.phase == "idle"

    async def test_a_slow_reader_is_not_the_upstreams_silence(self, wire):
        reply = wire.ask()
        wire.feed([UNTIL_CLOSE])
        reply.idle_timeout_s = 5.0

        assert reply.overdue(100.0, heard=True) is None
        assert reply.overdue(200.0, heard=False) is None
