"""Clients of several processes that come, leave and are cut off at any moment: nobody gets a wrong or a foreign answer,
nothing is asked for twice without need, and nothing is left behind."""

import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cache_app.store import ANSWER, TOKEN_BYTES
from tests.unit.cache_app.asking import (
    Got,
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
from tests.unit.cache_app.clients import at, settle
from tests.unit.cache_app.memory_store import MemoryStore
from tests.unit.virtual_time import run

KEYS = [b"k", b"l"]
SEEDS = st.integers(0, 1 << 32)
STREAMS = st.booleans()
FLIGHTS_END_S = 3.0  # by themselves, once their answer is there or the store was away


@dataclass
class Asked:
    """One client: when it began, and when it was cut off, if it was."""

    key: bytes
    worker: Worker
    got: Got
    began_at: float
    left_at: float | None = None


@dataclass
class Crowd:
    """All clients of a story."""

    rng: random.Random
    workers: list[Worker]
    cut_off: float = 0.2  # of those who go: as by a shutdown, whoever else waits
    asked: list[Asked] = field(default_factory=list)

    def come(self) -> None:
        worker, key, now = self.rng.choice(self.workers), self.rng.choice(KEYS), asyncio.get_running_loop().time()
        most_bytes = self.rng.choice([1 << 20, 1 << 20, 1 << 20, 1])
        got = worker.asks(key, pause_s=self.rng.choice([0, 0, 0.5, 3]), most_bytes=most_bytes)
        self.asked.append(Asked(key, worker, got, now))

    def go(self) -> None:
        """One leaves, or is cut off."""
        staying = [one for one in self.asked if one.left_at is None]
        if staying:
            one = self.rng.choice(staying)
            one.left_at = asyncio.get_running_loop().time()
            leave = one.got.client.leave if self.rng.random() >= self.cut_off else one.got.client.task.cancel
            leave()

    async def all_over(self) -> None:
        while any(not one.got.client.task.done() for one in self.asked):
            await until_over(*(one.got for one in self.asked))

    def nobody_wants(self, key: bytes) -> bool:
        return all(one.left_at is not None or one.got.client.task.done() for one in self.asked if one.key == key)


def crowd_of(rng: random.Random, upstream: Upstream, processes: int) -> Crowd:
    store = MemoryStore()
    return Crowd(rng, [Worker(store, upstream, rng.choice([0, 0.001, 0.01])) for _ in range(processes)])


def some_plans(rng: random.Random) -> list:
    return [
        plan for _ in range(rng.randint(0, 4)) if (plan := rng.choice([None, bad, fails, fails_for_all, slow_stream]))
    ]


def slow_stream(body: bytes) -> Streamed:
    return Streamed([body[:1], body[1:]], interval_s=7)


def nothing_is_left(crowd: Crowd) -> None:
    upstream = crowd.workers[0].upstream
    assert all(worker.cache.idle() for worker in crowd.workers)
    assert not any(upstream.under_way.values())
    assert all(len(stream.closed_at) == 1 for stream in upstream.given)
    assert all(one.got.client.holder is None for one in crowd.asked)
    lying = [crowd.workers[0].process.line.store.value(ANSWER, place_of(key)) for key in KEYS]
    assert not any(len(value) == TOKEN_BYTES for value in lying if value is not None)


@settings(max_examples=200)
@given(SEEDS, STREAMS)
def test_everybody_who_stays_gets_the_right_answer_and_nothing_is_left(seed, streams):
    run(_anything(random.Random(seed), streams))


async def _anything(rng: random.Random, streams: bool) -> None:
    plans = [plan for plan in some_plans(rng) if streams or plan is not slow_stream]
    upstream = Upstream(plans, after_s=rng.choice([0, 0.002, 1, 3]), streams=streams)
    crowd = crowd_of(rng, upstream, processes=rng.randint(1, 3))
    store = crowd.workers[0].process.line.store
    for _ in range(rng.randint(1, 12)):
        at(rng.choice([0, 0.001, rng.uniform(0, 0.01), rng.uniform(0, 12)]), crowd.come)
    for _ in range(rng.randint(0, 8)):
        at(rng.choice([0.0005, 0.001, 1, rng.uniform(0, 0.02), rng.uniform(0, 15)]), crowd.go)
    for _ in range(rng.choice([0, 0, 1])):
        at(rng.uniform(0, 8), store.kept.clear)
    for worker in crowd.workers:
        if rng.random() < 0.2:
            at(rng.uniform(0, 5), lambda line=worker.process.line: setattr(line, "gone", True))
            at(rng.uniform(5, 9), lambda line=worker.process.line: setattr(line, "gone", False))
    await asyncio.sleep(16)
    await crowd.all_over()
    await asyncio.sleep(FLIGHTS_END_S)

    for one in crowd.asked:
        got = one.got
        if got.where in ("left", ""):
            assert one.left_at is not None
        elif got.where == "lagging":
            assert streams
        elif got.where == "failed" or got.body.startswith(b"bad "):
            assert got.where in ("failed", "asked")  # never found
        else:
            assert got.body.startswith(one.key + b" ")
            assert int(got.body[len(one.key) :]) < upstream.calls[one.key]
    nothing_is_left(crowd)


@settings(max_examples=100)
@given(SEEDS, STREAMS)
def test_good_answers_are_asked_for_once_at_a_time(seed, streams):
    run(_only_good_answers(random.Random(seed), streams))


async def _only_good_answers(rng: random.Random, streams: bool) -> None:
    upstream = Upstream(after_s=rng.choice([0.002, 1, 3]), streams=streams)
    crowd = crowd_of(rng, upstream, processes=1 if streams else rng.randint(1, 3))
    crowd.cut_off = 0.0
    for worker in crowd.workers:
        worker.asks = lambda key, worker=worker, **more: Worker.asks(worker, key, pause_s=more["pause_s"])
    for _ in range(rng.randint(1, 12)):
        at(rng.choice([0, rng.uniform(0, 0.01), rng.uniform(0, 12)]), crowd.come)
    # Who sees a third leader, for whatever reason the first two went, asks on its own.
    for _ in range(rng.randint(0, 8) if len(crowd.workers) == 1 else rng.randint(0, 1)):
        at(rng.choice([0.0005, rng.uniform(0, 0.02), rng.uniform(0, 12)]), crowd.go)
    await asyncio.sleep(13)
    await crowd.all_over()
    await asyncio.sleep(FLIGHTS_END_S)
    assert upstream.most_at_a_time <= 1
    nothing_is_left(crowd)


@settings(max_examples=100)
@given(SEEDS, STREAMS)
def test_what_nobody_waits_for_any_more_ends_at_once(seed, streams):
    run(_all_leave(random.Random(seed), streams))


async def _all_leave(rng: random.Random, streams: bool) -> None:
    plans = [slow_stream] * 4 if streams else []
    upstream = Upstream(plans, after_s=rng.choice([0.002, 3, 100]), streams=streams)
    crowd = crowd_of(rng, upstream, processes=rng.randint(1, 2))
    for _ in range(rng.randint(1, 8)):
        at(rng.choice([0, rng.uniform(0, 0.01), rng.uniform(0, 5)]), crowd.come)
    await asyncio.sleep(rng.choice([5.001, rng.uniform(5, 9)]))
    while any(one.left_at is None for one in crowd.asked):
        crowd.go()
        await settle()
        for key in KEYS:
            if crowd.nobody_wants(key):
                assert upstream.under_way[key] == 0
    assert all(stream.closed_at for stream in upstream.given)
    await asyncio.sleep(FLIGHTS_END_S)
    nothing_is_left(crowd)


@settings(max_examples=100)
@given(SEEDS, STREAMS)
def test_what_was_asked_for_before_a_deletion_answers_nobody_who_comes_after_it(seed, streams):
    run(_deletions(random.Random(seed), streams))


async def _deletions(rng: random.Random, streams: bool) -> None:
    upstream = Upstream(after_s=rng.choice([0.002, 1, 3]), streams=streams)
    crowd = crowd_of(rng, upstream, processes=rng.randint(1, 3))
    for _ in range(rng.randint(1, 12)):
        at(rng.choice([0, rng.uniform(0, 0.01), rng.uniform(0, 6)]), crowd.come)
    await asyncio.sleep(rng.uniform(0, 4))
    before = dict(upstream.calls)
    under_way = {key for worker in crowd.workers for key in worker.under_way()}
    await delete(crowd.workers[0].process.line.store)
    await asyncio.sleep(0.02)  # until all have heard of it
    deleted_at = asyncio.get_running_loop().time()
    for _ in range(rng.randint(1, 6)):
        at(rng.uniform(0, 6), crowd.come)
    await asyncio.sleep(8)
    await crowd.all_over()

    for one in crowd.asked:
        if one.got.where == "lagging":
            continue
        if one.began_at > deleted_at and one.key not in under_way:
            assert int(one.got.body[len(one.key) :]) >= before.get(one.key, 0)
