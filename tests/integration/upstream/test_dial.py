"""Several addresses for one name: the first that answers is used, whichever family it is of."""

import asyncio
import socket
import time

import pytest

from routing.upstream.errors import ConnectFailed
from routing.upstream.transport import Origin
from tests.wire.answers import HI, OK
from tests.wire.asking import ask, fetch
from tests.wire.server import WireServer, answers

ANSWER = OK + HI


@pytest.fixture
def resolves(monkeypatch):
    """`resolves(*addresses)`: what every name means."""

    def means(*addresses: str) -> None:
        def lookup(host, port, *args, **kwargs):
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
                if ":" in address
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in addresses
            ]

        async def resolve(host, port, **kwargs):
            return lookup(host, port)

        monkeypatch.setattr("routing.upstream.dial.resolve", resolve)

    return means


@pytest.fixture
def black_hole():
    """A port whose connections are never accepted: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.2", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()[1]
    for each in (listener, *fillers):
        each.close()


async def test_refusing_address_is_passed_over_at_once(fast, resolves):
    resolves("::1", "127.0.0.1")
    async with WireServer(answers(ANSWER)) as server:
        begin = time.monotonic()
        assert await fetch(fast, Origin("http", "two.example", server.port)) == b"hi"

        assert time.monotonic() - begin < 0.2


async def test_silent_address_costs_its_head_start_only(fast, resolves, black_hole):
    resolves("127.0.0.2", "127.0.0.1")
    async with WireServer(answers(ANSWER), port=black_hole):
        begin = time.monotonic()
        assert await fetch(fast, Origin("http", "two.example", black_hole)) == b"hi"

        assert 0.2 < time.monotonic() - begin < 0.8


async def test_all_addresses_refusing_is_connect_failed(fast, resolves):
    resolves("::1", "127.0.0.1")
    async with WireServer(answers(ANSWER)) as server:
        port = server.port

    with pytest.raises(ConnectFailed, match="refused"):
        await ask(fast, Origin("http", "two.example", port))


async def test_no_address_is_connect_failed(fast, resolves):
    resolves()
    with pytest.raises(ConnectFailed):
        await ask(fast, Origin("http", "none.example", 80))


async def test_black_hole_is_a_connect_timeout(fast, resolves, black_hole):
    resolves("127.0.0.2")
    begin = time.monotonic()
    with pytest.raises(ConnectFailed, match="connect timeout"):
        await ask(fast, Origin("http", "one.example", black_hole), connect_timeout_s=0.2)

    assert time.monotonic() - begin < 0.6
    (pool,) = fast.pools
    assert repr(pool).endswith("connecting=0>")


async def test_cancelled_while_connecting_leaves_nothing(fast, resolves, black_hole):
    resolves("127.0.0.2")
    asking = asyncio.ensure_future(ask(fast, Origin("http", "one.example", black_hole)))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    (pool,) = fast.pools
    assert repr(pool).endswith("idle=0 in_use=0 connecting=0>")


async def test_ipv6_literal(fast):
    async with WireServer(answers(ANSWER), host="::1") as server:
        assert await fetch(fast, Origin("http", "::1", server.port)) == b"hi"


@pytest.mark.parametrize("host", ["x" * 70, "a..b"])
async def test_impossible_name_is_connect_failed(fast, host):
    with pytest.raises(ConnectFailed):
        await ask(fast, Origin("http", host, 80))
