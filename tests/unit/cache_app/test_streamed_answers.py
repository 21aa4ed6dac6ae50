"""Answers that are streams: who is asked, who joins, and what is kept."""

import asyncio

import pytest

from cache_app.store import ANSWER
from tests.unit.cache_app.asking import (
    Streamed,
    Upstream,
    Worker,
    bad,
    delete,
    fails,
    fails_for_all,
    place_of,
    until_over,
)
from tests.unit.cache_app.clients import settle
from tests.unit.cache_app.memory_store import MemoryStore
from tests.unit.virtual_time import run

PLACE = place_of(b"k")
COMES_IN_S = 1.0 + 4.0  # asked for, and its three bytes and the end


def workers(count: int, *plans, **more) -> list[Worker]:
    store, upstream = MemoryStore(), Upstream(list(plans), streams=True, **more)
    return [Worker(store, upstream) for _ in range(count)]


def test_equal_requests_at_a_time_get_one_stream():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks() for _ in range(20)]
        await until_over(*gots)
        assert [got.where for got in gots] == ["asked"] + ["flight"] * 19
        assert {got.body for got in gots} == {b"k 0"}
        assert worker.upstream.calls[b"k"] == 1

    run(story())


def test_who_comes_in_the_middle_gets_it_from_the_first_byte():
    async def story():
        (worker,) = workers(1)
        first = worker.asks()
        await asyncio.sleep(COMES_IN_S - 1.5)
        late = worker.asks()
        await until_over(first, late)
        assert (late.where, late.body) == ("flight", b"k 0")
        assert late.over_at == first.over_at

    run(story())


def test_it_is_kept_when_it_has_ended():
    async def story():
        one, other = workers(2)
        await until_over(one.asks())
        await until_over(here := one.asks(), there := other.asks())
        assert (here.where, there.where) == ("process", "store")
        assert here.body == there.body == b"k 0"

    run(story())


def test_it_is_kept_by_those_who_stay():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks() for _ in range(3)]
        await asyncio.sleep(2.5)
        gots[0].client.leave()
        await until_over(*gots)
        await until_over(later := worker.asks())
        assert (later.where, later.body) == ("process", b"k 0")

    run(story())


def test_what_everybody_left_is_closed_at_once_and_not_kept():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks() for _ in range(3)]
        await asyncio.sleep(2.5)
        for got in gots:
            got.client.leave()
        await settle()
        assert len(worker.upstream.given[0].closed_at) == 1
        assert worker.cache.idle()
        await until_over(later := worker.asks())
        assert (later.where, later.body) == ("asked", b"k 1")

    run(story())


def test_the_call_ends_when_all_leave_before_the_first_byte():
    async def story():
        (worker,) = workers(1, after_s=100)
        gots = [worker.asks() for _ in range(3)]
        await asyncio.sleep(0.5)
        for got in gots:
            got.client.leave()
        await settle()
        assert worker.upstream.under_way[b"k"] == 0
        assert worker.cache.idle()

    run(story())


def test_a_leader_that_leaves_before_the_first_byte_does_not_hurt_the_others():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks() for _ in range(3)]
        await asyncio.sleep(0.5)
        gots[0].client.leave()
        await until_over(*gots)
        assert [got.where for got in gots] == ["left", "flight", "flight"]
        assert {got.body for got in gots[1:]} == {b"k 0"}

    run(story())


@pytest.mark.parametrize("plan", [bad, fails])
def test_one_takes_over_when_the_leader_brings_no_stream(plan):
    async def story():
        (worker,) = workers(1, plan)
        gots = [worker.asks() for _ in range(10)]
        await until_over(*gots)
        assert [got.where for got in gots[1:]] == ["asked"] + ["flight"] * 8
        assert {got.body for got in gots[1:]} == {b"k 1"}
        assert worker.upstream.most_at_a_time == 1

    run(story())


def test_a_stream_too_large_to_be_held_is_not_joined():
    async def story():
        (worker,) = workers(1)
        first = worker.asks(most_bytes=1)
        await asyncio.sleep(COMES_IN_S - 1.5)
        late = worker.asks(most_bytes=1)
        await until_over(first, late)
        assert (first.body, late.body) == (b"k 0", b"k 1")
        assert late.where == "asked"
        assert all(len(stream.closed_at) == 1 for stream in worker.upstream.given)

    run(story())


def test_a_client_that_is_too_slow_for_what_is_held_is_told():
    async def story():
        (worker,) = workers(1)
        first, slow = worker.asks(most_bytes=1), worker.asks(most_bytes=1, pause_s=10)
        await until_over(first, slow)
        assert (first.body, slow.where) == (b"k 0", "lagging")

    run(story())


def test_a_stream_too_large_to_be_kept_is_told():
    async def story():
        (worker,) = workers(1)
        await until_over(worker.asks(most_bytes=1), worker.asks(b"l"))
        assert worker.upstream.too_large == 1

    run(story())


def test_all_streams_of_a_worker_share_what_may_be_held(monkeypatch):
    monkeypatch.setattr("cache_app.answers.HELD_BY_STREAMS", 5)

    async def story():
        (worker,) = workers(1)
        gots = [worker.asks(key) for key in (b"k", b"l")]
        await until_over(*gots)
        assert [got.body for got in gots] == [b"k 0", b"l 0"]
        assert worker.upstream.too_large == 1
        await until_over(alone := worker.asks(b"m"))
        await until_over(again := worker.asks(b"m"))
        assert (alone.where, again.where) == ("asked", "process")

    run(story())


def test_a_failure_that_is_one_for_all_reaches_all_who_waited():
    async def story():
        (worker,) = workers(1, fails_for_all)
        gots = [worker.asks() for _ in range(5)]
        await until_over(*gots)
        assert [got.where for got in gots] == ["failed"] * 5
        assert worker.upstream.calls[b"k"] == 1
        assert worker.cache.idle()

    run(story())


def test_what_was_asked_for_before_a_deletion_is_kept_nowhere():
    async def story():
        one, other = workers(2)
        asked = one.asks()
        await asyncio.sleep(2.5)
        await delete(one.process.line.store)
        await until_over(asked)
        await asyncio.sleep(1)
        assert asked.body == b"k 0"
        assert one.process.line.store.value(ANSWER, PLACE) is None
        await until_over(again := one.asks(), elsewhere := other.asks())
        assert {again.where, elsewhere.where} == {"asked"}

    run(story())


def test_without_a_store_it_is_shared_and_kept_in_memory():
    async def story():
        (worker,) = workers(1)
        worker.process.line.gone = True
        gots = [worker.asks() for _ in range(5)]
        await until_over(*gots)
        await until_over(later := worker.asks())
        assert {got.body for got in [*gots, later]} == {b"k 0"}
        assert later.where == "process"

    run(story())


def test_a_stream_that_is_there_at_once_reaches_all_who_waited_for_it():
    async def story():
        (worker,) = workers(1, lambda body: Streamed([body], interval_s=0))
        gots = [worker.asks() for _ in range(5)]
        await until_over(*gots)
        assert [got.where for got in gots] == ["asked"] + ["flight"] * 4
        assert {got.body for got in gots} == {b"k 0"}

    run(story())
