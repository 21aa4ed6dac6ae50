"""Connections are kept, bounded, replaced when stale, and closed when nobody wants them."""

import asyncio

import pytest

from routing.upstream.errors import AnswerBroken, ConnectFailed, ConnectionReset, PoolFull, UpstreamTimeout
from routing.upstream.fast import FastUpstream
from tests.wire.answers import HI, OK
from tests.wire.asking import ask, fetch, limits, post
from tests.wire.server import Wire, WireServer, answers

ANSWER = OK + HI


def pool_of(upstream: FastUpstream) -> str:
    (pool,) = upstream.pools
    return repr(pool).partition(" ")[2].partition(" ")[2][:-1]


async def eventually(true, within=2.0):
    for _ in range(int(within / 0.005)):
        if true():
            return
        await asyncio.sleep(0.005)
    assert true()


async def test_connection_is_used_again(fast):
    async with WireServer(answers(ANSWER)) as server:
        for _ in range(5):
            assert await fetch(fast, server.origin()) == b"hi"

        assert server.connections == 1
        assert pool_of(fast) == "idle=1 in_use=0 connecting=0"


async def test_request_is_one_head_and_its_body(fast):
    seen = []

    async def play(wire: Wire) -> None:
        seen.append(await wire.request())
        await wire.send(ANSWER)

    async with WireServer(play) as server:
        target = post(server.origin())
        reply = await fast.send(target, b"{}", limits(), [(b"x-request-id", b"a1")])
        reply.close()

    assert seen == [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b"accept-encoding: identity\r\nx-request-id: a1\r\ncontent-length: 2\r\n\r\n{}" % server.port
    ]


async def test_header_that_would_break_the_head_is_never_sent(fast):
    async with WireServer(answers(ANSWER)) as server:
        with pytest.raises(ValueError, match="cannot be sent"):
            await fast.send(post(server.origin()), b"{}", limits(), [(b"x-a", b"b\r\nx-evil: 1")])

        assert server.connections == 0


async def test_more_than_max_connections_is_refused_at_once(fast):
    async with WireServer(answers(OK + b"\r\n")) as server:
        held = [await ask(fast, server.origin(), max_connections=2) for _ in range(2)]
        assert pool_of(fast) == "idle=0 in_use=2 connecting=0"

        with pytest.raises(PoolFull):
            await ask(fast, server.origin(), max_connections=2)

        held[0].close()
        await ask(fast, server.origin(), max_connections=2)


async def test_connections_being_opened_count(fast):
    async with WireServer(answers(ANSWER)) as server:
        results = await asyncio.gather(
            *(fetch(fast, server.origin(), max_connections=3) for _ in range(10)), return_exceptions=True
        )

    assert results.count(b"hi") == 3
    assert sum(isinstance(result, PoolFull) for result in results) == 7


async def test_connection_closed_while_idle_leaves_the_pool(fast):
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(ANSWER)

    async with WireServer(once) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        await eventually(lambda: pool_of(fast) == "idle=0 in_use=0 connecting=0")


async def closes_on_second_request(wire: Wire) -> None:
    await wire.request()
    await wire.send(ANSWER)
    if wire.number == 1:
        await wire.reader.readexactly(1)
        wire.reset()
    else:
        await wire.request()
        await wire.send(ANSWER)


async def test_stale_connection_is_replaced_unseen(fast):
    async with WireServer(closes_on_second_request) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        assert await fetch(fast, server.origin()) == b"hi"

        assert server.connections == 2


async def test_stale_connection_is_replaced_only_once(fast):
    async def stale(wire: Wire) -> None:
        if wire.number == 1:
            await wire.request()
            await wire.send(ANSWER)
        await wire.reader.readexactly(1)
        wire.reset()

    async with WireServer(stale) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        with pytest.raises(ConnectionReset):
            await fetch(fast, server.origin())

        assert server.connections == 2


async def test_new_connection_that_is_reset_is_not_tried_again(fast):
    async def reset(wire: Wire) -> None:
        await wire.request()
        wire.reset()

    async with WireServer(reset) as server:
        with pytest.raises(ConnectionReset):
            await fetch(fast, server.origin())

        assert server.connections == 1


async def test_pooled_connection_that_broke_after_a_byte_is_not_replaced(fast):
    async def breaks(wire: Wire) -> None:
        await wire.request()
        await wire.send(ANSWER)
        await wire.request()
        await wire.send(b"HTT")

    async with WireServer(breaks) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        with pytest.raises(ConnectionReset):
            await fetch(fast, server.origin())

        assert server.connections == 1


async def test_fresh_never_takes_a_pooled_connection(fast):
    async with WireServer(answers(ANSWER)) as server:
        for expected in (1, 2, 3):
            assert await fetch(fast, server.origin(), fresh=True) == b"hi"
            assert server.connections == expected


async def test_fresh_finds_room_in_a_pool_full_of_idle_ones(fast):
    async with WireServer(answers(ANSWER)) as server:
        assert await fetch(fast, server.origin(), max_connections=1) == b"hi"
        assert await fetch(fast, server.origin(), max_connections=1, fresh=True) == b"hi"
        await eventually(lambda: server.open == 1)


async def test_idle_connections_expire():
    fast = FastUpstream(idle_expiry_s=0.2)
    async with WireServer(answers(ANSWER)) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        await asyncio.sleep(0.1)
        assert server.open == 1

        await eventually(lambda: server.open == 0)
        assert pool_of(fast) == "idle=0 in_use=0 connecting=0"
    await fast.aclose()


async def test_late_bytes_after_the_end_never_reach_the_next_request(fast):
    async def late(wire: Wire) -> None:
        await wire.request()
        await wire.send(ANSWER)
        if wire.number == 1:
            await asyncio.sleep(0.05)
            await wire.send(OK + b"content-length: 4\r\n\r\nevil")
        await wire.gone()

    async with WireServer(late) as server:
        assert await fetch(fast, server.origin()) == b"hi"
        await eventually(lambda: pool_of(fast) == "idle=0 in_use=0 connecting=0")
        assert await fetch(fast, server.origin()) == b"hi"


async def test_cancelled_before_the_head_closes_at_once(fast):
    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.gone()

    async with WireServer(silent) as server:
        asking = asyncio.ensure_future(ask(fast, server.origin()))
        await eventually(lambda: server.open == 1)
        asking.cancel()

        await eventually(lambda: server.open == 0, within=0.25)
        assert pool_of(fast) == "idle=0 in_use=0 connecting=0"


async def test_closed_in_the_middle_closes_at_once(fast):
    async def never_ends(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\nbegin")
        await wire.gone()

    async with WireServer(never_ends) as server:
        reply = await ask(fast, server.origin())
        assert await reply.piece() == b"begin"
        reply.close()

        await eventually(lambda: server.open == 0, within=0.25)


async def test_closing_the_client_closes_idle_connections_and_lets_replies_end(fast):
    go_on = asyncio.Event()

    async def play(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"content-length: 2\r\n\r\n")
        if wire.number == 2:
            await go_on.wait()
        await wire.send(b"hi")
        await wire.gone()

    async with WireServer(play) as server:
        idle = await ask(fast, server.origin())
        in_use = await ask(fast, server.origin(), fresh=True)
        assert await idle.read() == b"hi"

        await fast.aclose()
        await eventually(lambda: server.open == 1)
        go_on.set()
        assert await in_use.read() == b"hi"
        await eventually(lambda: server.open == 0)


@pytest.mark.parametrize("size", [0, 1000, 64 * 1024, 5_000_000])
async def test_request_body_arrives_whole(fast, size):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    seen = []

    async def play(wire: Wire) -> None:
        seen.append(await wire.request())
        await wire.send(ANSWER)

    async with WireServer(play) as server:
        reply = await ask(fast, server.origin(), body)
        assert await reply.read() == b"hi"

    head, _, received = seen[0].partition(b"\r\n\r\n")
    assert received == body
    assert b"content-length: %d" % size in head


@pytest.mark.parametrize("end", ["close", "reset", "keep"])
async def test_early_answer_to_a_large_body_is_used(fast, end):
    async def early(wire: Wire) -> None:
        await wire.reader.readuntil(b"\r\n\r\n")
        await wire.send(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\n" + HI)
        await asyncio.sleep(0.05)
        if end == "reset":
            wire.reset()
        elif end == "keep":
            await asyncio.sleep(0.3)

    async with WireServer(early) as server:
        reply = await ask(fast, server.origin(), b"x" * 30_000_000)

        assert (reply.status, await reply.read()) == (413, b"hi")
        assert pool_of(fast) == "idle=0 in_use=0 connecting=0"


async def test_get_and_delete_without_a_body_announce_none(fast):
    seen = []

    async def play(wire: Wire) -> None:
        while True:
            seen.append(await wire.request())
            await wire.send(ANSWER)

    async with WireServer(play) as server:
        for method in ("GET", "DELETE"):
            target = post(server.origin())
            target = type(target)(method, target.origin, "/v1/responses/r1", ())
            assert await (await fast.send(target, b"", limits())).read() == b"hi"

    assert [request.split(b" ")[0] for request in seen] == [b"GET", b"DELETE"]
    assert not any(b"content-length" in request for request in seen)


async def test_many_at_once_each_get_their_own_answer(fast):
    async def echo(wire: Wire) -> None:
        while True:
            body = (await wire.request()).partition(b"\r\n\r\n")[2]
            await asyncio.sleep(0)
            await wire.send(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body))

    async def one(number: int) -> None:
        body = b"nonce %d" % number
        reply = await ask(fast, server.origin(), body)
        assert await reply.read() == body

    async with WireServer(echo) as server:
        for _ in range(5):
            await asyncio.gather(*(one(number) for number in range(60)))
        assert server.connections == 60


async def test_refused_connection_is_connect_failed(fast):
    async with WireServer(answers(ANSWER)) as server:
        origin = server.origin()

    with pytest.raises(ConnectFailed, match="refused"):
        await ask(fast, origin)
    assert pool_of(fast) == "idle=0 in_use=0 connecting=0"


async def test_broken_answer_frees_the_connection(fast):
    async with WireServer(answers(b"SSH-2.0-OpenSSH\r\n")) as server:
        with pytest.raises(AnswerBroken):
            await ask(fast, server.origin())
        assert pool_of(fast) == "idle=0 in_use=0 connecting=0"


async def test_forgotten_reply_frees_its_connection_at_its_deadline(fast):
    async with WireServer(answers(OK + b"\r\nbegin")) as server:
        reply = await ask(fast, server.origin(), within=0.2)
        await eventually(lambda: pool_of(fast) == "idle=0 in_use=0 connecting=0")

        assert await reply.piece() == b"begin"
        with pytest.raises(UpstreamTimeout):
            await reply.piece()
