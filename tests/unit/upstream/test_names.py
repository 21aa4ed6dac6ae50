"""Look-ups of names: one at a time for a name, kept for a moment, none for IP addresses."""

import asyncio
import socket
from typing import Any

import pytest

from routing.upstream.names import KEPT_S, Names
from tests.unit.virtual_time import run


class Resolver:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.takes_s = 0.1
        self.fails = False

    async def __call__(self, host: str, port: int) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise socket.gaierror
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.2", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0)),
        ]


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


def test_one_name_is_looked_up_once_at_a_time(resolver):
    async def scenario() -> None:
        names = Names(resolver)
        answers = await asyncio.gather(*(names.addresses("one.example", 80 + i % 2) for i in range(20)))
        assert resolver.asked == ["one.example"]
        assert {address[1] for answer in answers for _, address in answer} == {80, 81}

    run(scenario())


def test_families_take_turns(resolver):
    found = run(Names(resolver).addresses("one.example", 80))
    assert [address[0] for _, address in found] == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]


def test_addresses_are_kept_for_a_moment(resolver):
    async def scenario() -> None:
        names = Names(resolver)
        for _ in range(3):
            await names.addresses("one.example", 80)
        assert len(resolver.asked) == 1
        await asyncio.sleep(KEPT_S)
        await names.addresses("one.example", 80)
        assert len(resolver.asked) == 2

    run(scenario())


def test_a_hanging_name_delays_no_other(resolver):
    async def scenario() -> None:
        names = Names(resolver)
        resolver.takes_s = 30.0
        waiting = [asyncio.ensure_future(names.addresses("hangs.example", 80)) for _ in range(50)]
        await asyncio.sleep(0)
        resolver.takes_s = 0.1
        async with asyncio.timeout(0.2):
            await names.addresses("other.example", 80)
        assert resolver.asked == ["hangs.example", "other.example"]
        await asyncio.gather(*waiting)

    run(scenario())


def test_who_gives_up_leaves_the_others_their_answer(resolver):
    async def scenario() -> None:
        names = Names(resolver)
        first = asyncio.ensure_future(names.addresses("one.example", 80))
        second = asyncio.ensure_future(names.addresses("one.example", 80))
        await asyncio.sleep(0.01)
        first.cancel()
        assert len(await second) == 3

    run(scenario())


def test_a_failure_is_told_to_all_and_not_kept(resolver):
    async def scenario() -> None:
        names = Names(resolver)
        resolver.fails = True
        got = await asyncio.gather(*(names.addresses("one.example", 80) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in got] == [socket.gaierror] * 3
        resolver.fails = False
        assert len(await names.addresses("one.example", 80)) == 3

    run(scenario())


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", (socket.AF_INET6, ("::1", 80, 0, 0))),
    ],
)
def test_an_ip_address_is_not_looked_up(resolver, host, address):
    assert (run(Names(resolver).addresses(host, 80)), resolver.asked) == ([address], [])
