"""The cache's use of a real store: its scripts, leases, deletions, and what else may lie under its keys."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cache_app import store as cache_store
from cache_app.deletion import channel, delete_answers
from cache_app.entry import Entry
from cache_app.store import (
    FIRST_LEASE_MS,
    GENERATION_BYTES,
    LARGE,
    LEASE_MS,
    AnswerStore,
    Look,
    Place,
    generation_key,
)
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_line import store_line
from llmproxy_site.store_link import StoreLink
from tests.fakes.valkey import Valkey

NAMESPACE = "llmproxy.cache"
DIGEST = bytes(range(32))
PLACE = Place("g1", b"0123456789abcdef", DIGEST)
IN_PROCESS = StoreAddress("in_process", "memory://")
PATIENT = 10.0  # a busy machine is no store that is away


class Tally:
    """A ledger."""

    def __init__(self) -> None:
        self.written_bytes: list[int] = []
        self.troubles: list[tuple[str, str]] = []

    def written(self, size: int) -> None:
        self.written_bytes.append(size)

    def trouble(self, what: str, reason: str) -> None:
        self.troubles.append((what, reason))


class Process:
    """One process's access to the store."""

    def __init__(self, address: StoreAddress, namespace: str = NAMESPACE) -> None:
        self.line = store_line(address, reply_timeout_s=PATIENT)
        self.link = StoreLink(address, reply_timeout_s=PATIENT)
        self.tally = Tally()
        self.namespace = namespace
        self.answers = AnswerStore(self.line, self.link, namespace, self.tally)

    async def look(self, place: Place = PLACE) -> Look:
        return await self.answers.look(place, time.time())

    async def get(self, place: Place = PLACE) -> Entry | None:
        return (await self.answers.get(place, time.time())).entry

    async def keep(self, body: bytes = b"{}", place: Place = PLACE) -> None:
        self.answers.keep(place, entry(body, place.digest), (await self.look(place)).right)
        await self.told(1)

    async def told(self, times: int) -> None:
        async with asyncio.timeout(PATIENT):
            while len(self.tally.written_bytes) + len(self.tally.troubles) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def delete(self, group: str | None = None) -> int:
        return await delete_answers(self.link, self.namespace, group)

    async def ask(self, *words: Any) -> Any:
        return await self.line.ask(*words)

    async def keys(self) -> set[bytes]:
        return set(await self.ask("KEYS", "*"))

    async def aclose(self) -> None:
        await self.answers.aclose()
        await self.line.aclose()
        await self.link.aclose()


def entry(body: bytes, digest: bytes = DIGEST, lasts_s: float = 3600.0) -> Entry:
    now = time.time()
    return Entry(digest, now, now + lasts_s, b"application/json", (), "e", b"e", (), (0, 0), None, body)


def answer(place: Place = PLACE) -> bytes:
    return b"%b:g1:a:%b" % (NAMESPACE.encode(), place.key)


@pytest.fixture
async def process(store: StoreAddress) -> AsyncIterator[Any]:
    """`process()` makes one of several on a real, empty store; `process(namespace)` with another namespace."""
    made: list[Process] = []

    def make(*arguments: Any) -> Process:
        made.append(Process(store, *arguments))
        return made[-1]

    yield make
    await asyncio.gather(*(one.aclose() for one in made))


# -- on any store


@pytest.fixture(params=["valkey", "in_process"])
async def two(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[tuple[Process, Process]]:
    address = valkey.address if request.param == "valkey" else IN_PROCESS
    both = Process(address), Process(address)
    await both[0].ask("FLUSHALL")
    yield both
    await asyncio.gather(*(one.aclose() for one in both))


async def test_an_answer_is_kept_for_all_processes(two):
    one, other = two
    await one.keep(b"\x00\xff")
    assert (await other.look()).entry.body == b"\x00\xff"
    assert (await other.get()).body == b"\x00\xff"
    assert len(one.tally.written_bytes) == 1


async def test_one_asks_and_the_other_waits_for_it(two):
    one, other = two
    right = (await one.look()).right
    waiting = asyncio.ensure_future(other.look())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    one.answers.keep(PLACE, entry(b"{}"), right)
    assert (await waiting).entry.body == b"{}"


async def test_another_may_ask_when_the_first_gives_up(two):
    one, other = two
    right = (await one.look()).right
    waiting = asyncio.ensure_future(other.look())
    await asyncio.sleep(0.05)
    one.answers.abandon(PLACE, right)
    assert (await waiting).right.token


async def test_who_is_cut_off_while_looking_gives_back_the_right_to_ask(two):
    one, other = two
    looking = asyncio.ensure_future(one.look())
    await asyncio.sleep(0)
    looking.cancel()
    await one.ask("PING")
    began = time.monotonic()
    assert (await other.look()).right.token
    assert time.monotonic() - began < 1


async def test_who_is_cut_off_takes_nothing_from_those_who_look_with_it(two):
    one, _ = two
    looking = [asyncio.ensure_future(one.look(place)) for place in places(20)]
    await asyncio.sleep(0)  # all are asked together
    for number in range(0, 20, 3):
        looking[number].cancel()
    looks = await asyncio.gather(*looking, return_exceptions=True)
    assert [isinstance(look, asyncio.CancelledError) for look in looks] == [number % 3 == 0 for number in range(20)]
    assert all(look.right.token for number, look in enumerate(looks) if number % 3)
    assert one.tally.troubles == []


@pytest.mark.parametrize("group", [None, "g1"])
async def test_what_was_asked_for_before_a_deletion_is_not_found(two, group):
    one, other = two
    waited_for, unshared = (await one.look()).right, (await one.answers.get(PLACE, time.time())).right
    await other.delete(group)
    for written, right in enumerate((waited_for, unshared), 1):
        one.answers.keep(PLACE, entry(b"{}"), right)
        await one.told(written)
        assert await other.get() is None


async def test_a_deletion_of_another_group_does_not_matter(two):
    one, other = two
    right = (await one.look()).right
    await other.delete("g2")
    one.answers.keep(PLACE, entry(b"{}"), right)
    await one.told(1)
    assert (await other.get()).body == b"{}"


async def test_who_asks_after_a_deletion_need_not_wait_for_who_asked_before(two):
    one, other = two
    await one.look()
    await other.delete()
    assert (await other.look()).right.token


async def test_a_large_answer_is_read_as_it_was_written(two):
    one, other = two
    body = os.urandom(LARGE + 1)
    await one.keep(body)
    assert (await other.look()).entry.body == body
    assert (await other.get()).body == body


async def test_a_deletion_takes_large_answers_whole(two):
    one, _ = two
    await one.keep(os.urandom(LARGE + 1))
    assert await one.delete() == 1
    assert await one.keys() == {generation_key(NAMESPACE)}


# -- leases


async def test_a_flight_lasts_for_its_lease(process):
    one = process()
    await one.look()
    assert 0 < await one.ask("PTTL", answer()) <= FIRST_LEASE_MS
    await asyncio.sleep(cache_store.RENEW_S + 0.1)
    assert FIRST_LEASE_MS < await one.ask("PTTL", answer()) <= LEASE_MS


async def test_a_lease_is_renewed_as_long_as_its_process_lives(process, monkeypatch):
    monkeypatch.setattr(cache_store, "LEASE_MS", 400)
    monkeypatch.setattr(cache_store, "RENEW_S", 0.05)
    one, other = process(), process()
    token = (await one.look()).right.token
    waiting = asyncio.ensure_future(other.look())
    await asyncio.sleep(1.0)
    assert await one.ask("GET", answer()) == token
    assert not waiting.done()
    waiting.cancel()


async def test_many_leases_are_renewed_and_what_took_a_tokens_place_is_left_alone(process):
    one, other = process(), process()
    held = places(2 * cache_store._RENEWED_TOGETHER + 10)
    await asyncio.gather(*(one.look(place) for place in held))
    await other.ask("DEL", answer(held[-1]))
    await other.ask("RPUSH", answer(held[-1]), "theirs")
    other.answers.keep(held[0], entry(b"{}", held[0].digest), (await other.answers.get(held[0], 0.0)).right)
    await other.told(1)
    await asyncio.sleep(cache_store.RENEW_S + 0.1)
    kept, *tokens, foreign = [await other.ask("PTTL", answer(place)) for place in held]
    assert kept > 3_000_000
    assert all(FIRST_LEASE_MS < ttl <= LEASE_MS for ttl in tokens)
    assert foreign == -1


async def test_one_takes_over_when_the_process_has_died(process, monkeypatch):
    monkeypatch.setattr(cache_store, "FIRST_LEASE_MS", 300)
    one, *others = process(), process(), process(), process()
    await one.look()
    await one.answers.aclose()
    began = time.monotonic()
    waiting = [asyncio.ensure_future(other.look()) for other in others]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [bool(look.result().right.token) for look in done] == [True]
    assert 0.2 < time.monotonic() - began < 2
    assert len(pending) == 2
    for look in pending:
        look.cancel()


async def test_an_old_flights_end_does_not_end_a_newer_one(process):
    one, other = process(), process()
    old = (await one.look()).right
    await one.ask("DEL", answer())
    newer = (await other.look()).right
    one.answers.abandon(PLACE, old)
    await one.ask("PING")
    assert await one.ask("GET", answer()) == newer.token


async def test_a_late_answer_takes_the_place_of_a_newer_flight(process):
    one, other = process(), process()
    late = (await one.look()).right
    await one.ask("DEL", answer())
    newer = (await other.look()).right
    one.answers.keep(PLACE, entry(b"late"), late)
    await one.told(1)
    assert (await other.get()).body == b"late"
    other.answers.abandon(PLACE, newer)
    await other.ask("PING")
    assert (await one.get()).body == b"late"


async def test_an_answer_and_its_large_value_expire_together(process):
    one = process()
    one.answers.keep(PLACE, entry(os.urandom(LARGE + 1), lasts_s=100.0), (await one.look()).right)
    await one.told(1)
    ttls = [await one.ask("PTTL", key) for key in await one.keys()]
    assert len(ttls) == 2
    assert all(95_000 < ttl <= 100_000 for ttl in ttls)


# -- deletions


def places(count: int, group: str = "g1") -> list[Place]:
    return [Place(group, b"%016x" % number, DIGEST) for number in range(count)]


async def kept(one: Process, *all_places: Place) -> None:
    for place in all_places:
        right = (await one.answers.get(place, time.time())).right
        one.answers.keep(place, entry(b"{}"), right)
    await one.told(len(all_places))


async def test_all_answers_are_deleted_and_counted_over_many_pages(process):
    one = process()
    await kept(one, *places(2500))
    assert await one.delete() == 2500
    assert await one.keys() == {generation_key(NAMESPACE)}
    assert await one.delete() == 0


async def test_flights_do_not_count_as_answers(process):
    one = process()
    await one.look()
    assert await one.delete() == 0
    assert await one.keys() == {generation_key(NAMESPACE)}


async def test_one_groups_answers_are_deleted_alone(process):
    one = process()
    await kept(one, *places(3, "g1"), *places(2, "g11"))
    assert await one.delete("g1") == 3
    assert await one.delete("g11") == 2


async def test_nothing_else_in_the_store_is_deleted(process):
    one = process()
    await kept(one, *places(1))
    others = [
        b"llmproxy:requests",
        b"llmproxy.cached:g1:a:0000",
        b"llmproxy.cache:g1:z:0000",
        b"llmproxy.cache:g1:a",
        b"llmproxy.cache:g1:a:0000:more",
        b"llmproxy.cache",
    ]
    for key in others:
        await one.ask("SET", key, "theirs")
    assert await one.delete() == 1
    assert await one.keys() == {generation_key(NAMESPACE), *others}


@pytest.mark.parametrize("namespace", ["a*", "a?c", "[abc]", "a\\*", "{a}b", "ä ö"])
async def test_a_namespace_means_itself_whatever_stands_in_it(process, namespace):
    one, other = process(namespace), process("abc")
    await kept(one, *places(2))
    await kept(other, *places(3))
    assert await one.delete() == 2
    assert (await other.get(places(1)[0])) is not None


async def test_a_namespace_that_another_begins_with_stays_alone(process):
    one, other = process("a"), process("a:g1:a")
    await kept(one, *places(1))
    await kept(other, *places(1))
    assert await one.delete() == 1
    assert await other.delete() == 1


async def test_a_deletion_is_told_before_and_after(process):
    one, told, listening = process(), [], asyncio.Event()

    async def heard() -> None:
        listening.set()

    hearing = asyncio.ensure_future(one.link.listen(channel(NAMESPACE), told.append, heard))
    await listening.wait()
    await one.delete("g1")
    async with asyncio.timeout(PATIENT):
        while len(told) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert told == [b"g1", b"g1"]
    hearing.cancel()


async def test_a_deletion_without_a_store_says_so(tmp_path):
    link = StoreLink(StoreAddress("given", f"unix://{tmp_path}/nobody"))
    with pytest.raises(ConnectionError):
        await delete_answers(link, NAMESPACE)
    await link.aclose()


async def test_a_deletion_that_the_store_refuses_says_so(process):
    one = process()
    await one.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        with pytest.raises(ConnectionError):
            await one.delete()
    finally:
        await one.ask("CONFIG", "SET", "min-replicas-to-write", "0")


# -- what else may lie there


@pytest.mark.parametrize("begin", [b"", bytes(2 * GENERATION_BYTES)])
@pytest.mark.parametrize("value", [b"", b"\x00", b"large", b"nonsense", b"\x01" + bytes(100), b"\xff" * 100])
async def test_what_cannot_be_read_is_a_miss_and_is_written_over(process, begin, value):
    one = process()
    await one.ask("SET", answer(), begin + value)
    look = await one.look()
    assert look.entry is None
    one.answers.keep(PLACE, entry(b"{}"), look.right)
    await one.told(1)
    assert (await one.get()).body == b"{}"


async def test_an_answer_to_another_request_under_this_key_is_a_miss(process):
    one = process()
    await one.keep(b"theirs", Place(PLACE.group, PLACE.key, bytes(32)))
    assert await one.get() is None
    assert (await one.look()).entry is None


@pytest.mark.parametrize("key", [answer(), generation_key(NAMESPACE), generation_key(NAMESPACE, "g1")])
async def test_a_foreign_type_under_one_of_the_keys_is_a_miss_that_ends(process, key):
    one = process()
    await one.ask("RPUSH", key, "theirs")
    async with asyncio.timeout(2):
        look = await one.look()
    assert look.entry is None
    one.answers.keep(PLACE, entry(b"{}"), look.right)
    await one.told(1)
    assert (await one.get()).body == b"{}"


async def test_a_full_store_is_a_miss_and_told(process):
    one = process()
    right = (await one.answers.get(PLACE, time.time())).right
    await one.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        assert await one.look() == Look(None, right)
        one.answers.keep(PLACE, entry(b"{}"), right)
        one.answers.keep(PLACE, entry(os.urandom(LARGE + 1)), right)
        await one.told(3)
    finally:
        await one.ask("CONFIG", "SET", "maxmemory", "0")
    assert one.tally.troubles == [("read", "OutOfMemoryError"), *[("write", "OutOfMemoryError")] * 2]
    assert await one.keys() == set()


async def test_who_asks_as_the_store_becomes_full_does_not_hold_up_others(process):
    one = process()
    right = (await one.look()).right
    await one.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        one.answers.keep(PLACE, entry(b"{}"), right)
        await one.told(1)
    finally:
        await one.ask("CONFIG", "SET", "maxmemory", "0")
    assert [what for what, _ in one.tally.troubles] == ["write"]
    assert await one.ask("EXISTS", answer()) == 0


async def test_an_entry_is_read_after_the_stores_scripts_were_flushed(process):
    one = process()
    await one.keep()
    await one.ask("SCRIPT", "FLUSH")
    assert (await one.look()).entry is not None


async def test_waiting_looks_ten_times_a_second_at_most(process):
    one, other = process(), process()
    await one.look()
    before = await _looks(one)
    waiting = asyncio.ensure_future(other.look())
    await asyncio.sleep(1.0)
    waiting.cancel()
    assert 10 <= await _looks(one) - before <= 30  # each reads the generation, too


async def _looks(one: Process) -> int:
    stats = (await one.ask("INFO", "commandstats")).decode()
    line = next(line for line in stats.splitlines() if line.startswith("cmdstat_mget:"))
    return int(line.partition("calls=")[2].partition(",")[0])
