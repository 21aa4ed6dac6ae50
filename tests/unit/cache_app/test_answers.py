"""Answers that come whole: who is asked, who waits, and what is kept."""

import asyncio

import pytest
from structlog.testing import capture_logs

from cache_app import store
from cache_app.store import ANSWER
from tests.unit.cache_app.asking import (
    UNIX_NOW,
    Upstream,
    Wanted,
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


def workers(count: int, *plans, **more) -> list[Worker]:
    store, upstream = MemoryStore(), Upstream(list(plans), **more)
    return [Worker(store, upstream) for _ in range(count)]


def test_a_second_request_is_answered_from_this_process():
    async def story():
        (worker,) = workers(1)
        await until_over(first := worker.asks())
        await until_over(second := worker.asks())
        assert (first.where, second.where) == ("asked", "process")
        assert first.body == second.body == b"k 0"
        assert worker.upstream.calls[b"k"] == 1

    run(story())


@pytest.mark.parametrize("place", ["its entry", "its bytes"])
def test_a_fault_in_keeping_one_answer_spoils_neither_it_nor_the_others(place, monkeypatch):
    def entry(wanted, answer, body):
        if place == "its entry" and wanted.place == PLACE:
            raise ValueError("a mistake of ours")
        return made(wanted, answer, body)

    def encode(entry, begin):
        if place == "its bytes" and entry.digest == PLACE.digest:
            raise ValueError("a mistake of ours")
        return encoded(entry, begin)

    made, encoded = Wanted.entry, store.encode
    monkeypatch.setattr(Wanted, "entry", entry)
    monkeypatch.setattr(store, "encode", encode)

    async def story():
        one, other = workers(2)
        gots = [one.asks(key) for key in (b"k", b"l", b"m")]
        await until_over(*gots)
        assert [got.where for got in gots] == ["asked"] * 3
        await asyncio.sleep(0.01)
        assert len(one.process.tally.sizes) == 2
        assert one.process.line.store.value(ANSWER, PLACE) is None
        await until_over(elsewhere := other.asks(b"m"))
        assert elsewhere.where == "store"

    with capture_logs() as logs:
        run(story())
    assert [line["event"] for line in logs] == ["an answer could not be kept"]


def test_another_process_finds_it_in_the_store_and_then_in_its_own_memory():
    async def story():
        one, other = workers(2)
        await until_over(one.asks())
        await until_over(first := other.asks())
        await until_over(second := other.asks())
        assert (first.where, second.where) == ("store", "process")
        assert first.body == second.body == b"k 0"

    run(story())


def test_equal_requests_at_a_time_make_one_call():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks() for _ in range(20)]
        await until_over(*gots)
        assert [got.where for got in gots] == ["asked"] + ["flight"] * 19
        assert {got.body for got in gots} == {b"k 0"}

    run(story())


def test_equal_requests_to_several_processes_make_one_call():
    async def story():
        several = workers(4)
        gots = [worker.asks() for _ in range(3) for worker in several]
        await until_over(*gots)
        assert several[0].upstream.calls[b"k"] == 1
        assert {got.body for got in gots} == {b"k 0"}

    run(story())


def test_other_requests_do_not_wait():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks(key) for key in (b"k", b"l")]
        await until_over(*gots)
        assert [got.body for got in gots] == [b"k 0", b"l 0"]
        assert worker.upstream.calls == {b"k": 1, b"l": 1}

    run(story())


@pytest.mark.parametrize("plan", [bad, fails])
def test_one_takes_over_when_the_leader_has_nothing_to_share(plan):
    async def story():
        (worker,) = workers(1, plan)
        gots = [worker.asks() for _ in range(10)]
        await until_over(*gots)
        assert [got.where for got in gots[1:]] == ["asked"] + ["flight"] * 8
        assert {got.body for got in gots[1:]} == {b"k 1"}
        assert worker.upstream.most_at_a_time == 1

    run(story())


@pytest.mark.parametrize("plan", [bad, fails])
def test_another_process_takes_over_when_the_leader_has_nothing_to_share(plan):
    async def story():
        one, other = workers(2, plan)
        first = one.asks()
        await settle()
        second = other.asks()
        await until_over(first, second)
        assert (second.where, second.body) == ("asked", b"k 1")
        assert second.over_at - first.over_at < 1.2

    run(story())


def test_who_has_waited_for_two_that_failed_asks_on_its_own():
    async def story():
        (worker,) = workers(1, fails, fails)
        gots = [worker.asks() for _ in range(5)]
        await until_over(*gots)
        assert [got.where for got in gots] == ["failed", "failed", "asked", "asked", "asked"]
        assert worker.upstream.most_at_a_time == 3

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


def test_a_leaders_client_may_leave_while_others_wait():
    async def story():
        (worker,) = workers(1)
        gots = [worker.asks() for _ in range(3)]
        await asyncio.sleep(0.5)
        gots[0].client.leave()
        await until_over(*gots)
        assert [got.where for got in gots] == ["left", "flight", "flight"]
        assert worker.upstream.calls[b"k"] == 1

    run(story())


def test_the_call_ends_at_once_when_all_have_left():
    async def story():
        (worker,) = workers(1, after_s=100)
        gots = [worker.asks() for _ in range(3)]
        await asyncio.sleep(0.5)
        for got in gots:
            got.client.leave()
        await settle()
        assert worker.upstream.under_way[b"k"] == 0
        assert worker.cache.idle()
        await asyncio.sleep(0.01)
        assert worker.process.line.store.value(ANSWER, PLACE) is None

    run(story())


def test_what_is_for_the_moment_reaches_those_who_wait_and_is_not_kept():
    async def story():
        one, other = workers(2)
        gots = [one.asks(lasts_s=0.0) for _ in range(3)]
        await until_over(*gots)
        assert [got.where for got in gots] == ["asked", "flight", "flight"]
        await asyncio.sleep(0.01)
        assert one.process.tally.sizes == []
        await until_over(later := one.asks(), elsewhere := other.asks())
        assert {later.body, elsewhere.body} == {b"k 1"}

    run(story())


def test_what_was_asked_for_before_a_deletion_is_kept_nowhere():
    async def story():
        one, other = workers(2)
        asked = one.asks()
        await asyncio.sleep(0.5)
        await delete(one.process.line.store)
        await until_over(asked)
        await asyncio.sleep(1)
        assert asked.body == b"k 0"
        assert one.process.line.store.value(ANSWER, PLACE) is None
        await until_over(again := one.asks(), elsewhere := other.asks())
        assert {again.body, elsewhere.body} == {b"k 1"}

    run(story())


def test_what_was_read_before_a_deletion_is_not_kept_in_memory():
    async def story():
        one, other = workers(2)
        await until_over(one.asks())
        reads = other.asks()
        await asyncio.sleep(0.0015)
        other.cache.tier.clear()
        await until_over(reads)
        assert reads.where == "store"
        assert len(other.cache.tier) == 0

    run(story())


def test_only_what_is_kept_is_found_without_asking():
    async def story():
        one, other = workers(2)
        assert await one.cache.find(PLACE) is None
        await until_over(one.asks())
        assert (await one.cache.find(PLACE)).where == "process"
        assert [(await other.cache.find(PLACE)).where for _ in range(2)] == ["store", "process"]

    run(story())


def test_without_a_store_equal_requests_in_a_process_make_one_call():
    async def story():
        (worker,) = workers(1)
        worker.process.line.gone = True
        gots = [worker.asks() for _ in range(5)]
        await until_over(*gots)
        assert {got.body for got in gots} == {b"k 0"}
        await until_over(later := worker.asks())
        assert later.where == "process"

    run(story())


def test_an_entry_expires_in_memory_too():
    async def story():
        (worker,) = workers(1)
        await until_over(worker.asks(lasts_s=10.0))
        worker.cache._clock = lambda: UNIX_NOW + 10
        await until_over(later := worker.asks())
        assert later.where == "asked"

    run(story())
