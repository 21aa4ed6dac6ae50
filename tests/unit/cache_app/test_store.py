"""Who may ask, for how long others wait for that, and what is told of a store that fails."""

import asyncio
import os

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from structlog.testing import capture_logs

from cache_app.entry import encode
from cache_app.store import (
    ANSWER,
    FIRST_LEASE_MS,
    GENERATION_BYTES,
    LARGE,
    LARGE_ANSWER,
    LEASE_MS,
    Look,
    Place,
    Right,
)
from tests.unit.cache_app.asking import delete
from tests.unit.cache_app.entries import DIGEST, entry
from tests.unit.cache_app.memory_store import PATIENCE_S, PLACE, MemoryStore, Process
from tests.unit.virtual_time import run

UNIX_NOW = 2000.0
KEPT = entry(b"kept")
LARGE_KEPT = entry(os.urandom(LARGE))
LEASE_S = LEASE_MS / 1000
FIRST_LEASE_S = FIRST_LEASE_MS / 1000
LONGEST_POLL_S = 0.1
FREE = Right(bytes(2 * GENERATION_BYTES))  # without a flight
FOUND, NOTHING = Look(KEPT, FREE), Look(None, FREE)


def now() -> float:
    return asyncio.get_running_loop().time()


def processes(count: int) -> list[Process]:
    store = MemoryStore()
    return [Process(store) for _ in range(count)]


async def looks(process: Process) -> Look:
    return await process.answers.look(PLACE, UNIX_NOW)


def begins_to_look(process: Process) -> "asyncio.Task[Look]":
    return asyncio.get_running_loop().create_task(looks(process))


# -- leading and waiting


def test_who_finds_nothing_may_ask():
    async def story():
        (one,) = processes(1)
        look = await looks(one)
        assert look.entry is None
        assert look.right.token == one.line.store.value(ANSWER)

    run(story())


def test_what_is_kept_is_found_by_all():
    async def story():
        one, other = processes(2)
        one.answers.keep(PLACE, KEPT, (await looks(one)).right)
        assert await looks(other) == FOUND
        assert await other.answers.get(PLACE, UNIX_NOW) == FOUND

    run(story())


def test_others_wait_and_get_the_answer_soon_after_it_is_there():
    async def story():
        one, other = processes(2)
        right = (await looks(one)).right
        waiting = begins_to_look(other)
        await asyncio.sleep(30)
        kept_at = now()
        one.answers.keep(PLACE, KEPT, right)
        assert await waiting == FOUND
        assert now() - kept_at < LONGEST_POLL_S + 0.01

    run(story())


def test_quick_answers_are_not_waited_for_long():
    async def story():
        one, other = processes(2)
        right = (await looks(one)).right
        waiting = begins_to_look(other)
        await asyncio.sleep(0.005)
        one.answers.keep(PLACE, KEPT, right)
        began = now()
        await waiting
        assert now() - began < 0.02

    run(story())


def test_waiting_looks_ten_times_a_second_at_most():
    async def story():
        one, other = processes(2)
        await looks(one)
        waiting = begins_to_look(other)
        await asyncio.sleep(10)
        assert len(other.line.asked) <= 2 * 105
        waiting.cancel()

    run(story())


def test_another_may_ask_when_the_first_gives_up():
    async def story():
        one, other = processes(2)
        right = (await looks(one)).right
        waiting = begins_to_look(other)
        await asyncio.sleep(5)
        one.answers.abandon(PLACE, right)
        gave_up_at = now()
        assert (await waiting).right.token == other.line.store.value(ANSWER)
        assert now() - gave_up_at < LONGEST_POLL_S + 0.01

    run(story())


def test_exactly_one_takes_over_from_a_process_that_died():
    async def story():
        one, *others = processes(5)
        await looks(one)
        await one.answers.aclose()  # it renews nothing any more
        died_at = now()
        waiting = [begins_to_look(other) for other in others]
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [bool(task.result().right.token) for task in done] == [True]
        assert FIRST_LEASE_S - 0.01 < now() - died_at < FIRST_LEASE_S + LONGEST_POLL_S + 0.01
        for task in pending:
            task.cancel()

    run(story())


def test_one_takes_over_from_a_process_that_died_after_a_while():
    async def story():
        one, other = processes(2)
        await looks(one)
        await asyncio.sleep(10 * FIRST_LEASE_S)
        await one.answers.aclose()
        died_at = now()
        assert (await looks(other)).right.token
        assert FIRST_LEASE_S < now() - died_at < LEASE_S + LONGEST_POLL_S + 0.01

    run(story())


def test_who_has_waited_for_two_that_failed_asks_on_its_own():
    async def story():
        store = MemoryStore()
        patient = Process(store)
        waiting = None
        for _ in range(3):
            leader = Process(store)
            right = (await looks(leader)).right
            waiting = waiting or begins_to_look(patient)
            await asyncio.sleep(1)
            leader.answers.abandon(PLACE, right)
            await asyncio.sleep(0.001)
        assert await waiting == NOTHING

    run(story())


def test_what_is_abandoned_without_a_flight_of_ours_disturbs_nobody():
    async def story():
        one, other = processes(2)
        await looks(one)
        other.answers.abandon(PLACE, FREE)
        await asyncio.sleep(1)
        assert one.line.store.value(ANSWER)
        assert not other.line.asked

    run(story())


def test_nothing_is_renewed_once_all_flights_have_ended():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, KEPT, (await looks(one)).right)
        await asyncio.sleep(1)
        asked = len(one.line.asked)
        await asyncio.sleep(10)
        assert len(one.line.asked) == asked

    run(story())


# -- a look that comes to nothing


@pytest.mark.parametrize("after_s", [0, 0.0005, 0.0015, 0.0025, 0.0035])
def test_who_leaves_while_looking_gives_back_the_right_to_ask(after_s):
    async def story():
        one, other = processes(2)
        leaving = begins_to_look(one)
        await asyncio.sleep(after_s)
        leaving.cancel()
        await asyncio.sleep(0.01)
        began = now()
        assert (await looks(other)).right.token
        assert now() - began < 0.005

    run(story())


def test_who_leaves_while_waiting_takes_nothing_from_the_leader():
    async def story():
        one, other = processes(2)
        right = (await looks(one)).right
        leaving = begins_to_look(other)
        await asyncio.sleep(0.5)
        leaving.cancel()
        await asyncio.sleep(0.5)
        assert one.line.store.value(ANSWER) == right.token

    run(story())


def test_a_flight_whose_begin_was_not_heard_of_is_taken_over_at_once():
    async def story():
        (one,) = processes(1)
        looking = begins_to_look(one)
        await asyncio.sleep(0.0025)  # it has read that nothing is there, and begins a flight
        one.line.deaf = True
        assert await looking == Look()
        one.line.deaf = False
        lost, began = one.line.store.value(ANSWER), now()
        taken_over = (await looks(one)).right.token
        assert lost and taken_over == one.line.store.value(ANSWER) != lost
        assert now() - began < 0.01

    run(story())


# -- where most look-ups find nothing, the flight is begun with the look-up


async def uses_to_miss(process: Process) -> None:
    for number in range(3):
        elsewhere = Place("g1", b"%016d" % number, DIGEST)
        look = await process.answers.look(elsewhere, UNIX_NOW)
        process.answers.abandon(elsewhere, look.right)
    await asyncio.sleep(0.01)
    process.line.asked.clear()


def test_who_uses_to_miss_may_ask_after_one_round_trip():
    async def story():
        (one,) = processes(1)
        await uses_to_miss(one)
        began = now()
        assert (await looks(one)).right.token == one.line.store.value(ANSWER)
        assert now() - began == pytest.approx(2 * one.line.delay_s)

    run(story())


def test_who_uses_to_miss_and_finds_something_leaves_it_there():
    async def story():
        one, other = processes(2)
        await uses_to_miss(one)
        other.answers.keep(PLACE, KEPT, FREE)
        await asyncio.sleep(0.01)
        kept = one.line.store.kept.copy()
        assert await looks(one) == FOUND
        await asyncio.sleep(0.01)
        assert one.line.store.kept == kept

    run(story())


def test_who_uses_to_miss_waits_for_another_all_the_same():
    async def story():
        one, other = processes(2)
        await uses_to_miss(one)
        right = (await looks(other)).right
        waiting = begins_to_look(one)
        await asyncio.sleep(0.5)
        assert one.line.store.value(ANSWER) == right.token
        other.answers.keep(PLACE, KEPT, right)
        assert await waiting == FOUND

    run(story())


@pytest.mark.parametrize("after_s", [0, 0.0005, 0.0015])
def test_who_uses_to_miss_and_leaves_while_looking_gives_back_the_right(after_s):
    async def story():
        one, other = processes(2)
        await uses_to_miss(one)
        leaving = begins_to_look(one)
        await asyncio.sleep(after_s)
        leaving.cancel()
        await asyncio.sleep(0.01)
        assert one.line.store.value(ANSWER) is None
        assert (await looks(other)).right.token

    run(story())


def test_a_begin_that_was_not_heard_of_holds_others_for_its_first_lease_only():
    async def story():
        one, other = processes(2)
        await uses_to_miss(one)
        one.line.deaf = True
        assert await looks(one) == Look()
        assert one.line.store.value(ANSWER)
        began = now()
        assert (await looks(other)).right.token
        assert now() - began < FIRST_LEASE_S + LONGEST_POLL_S

    run(story())


def test_who_mostly_finds_something_begins_no_flight_before_it_must():
    async def story():
        one, other = processes(2)
        other.answers.keep(PLACE, KEPT, FREE)
        await asyncio.sleep(0.01)
        for _ in range(30):
            assert await looks(one) == FOUND
        assert {words[0] for words in one.line.asked} == {"MGET"}

    run(story())


# -- keeping


def test_what_was_asked_for_before_a_deletion_is_not_found():
    async def story():
        one, other = processes(2)
        waited_for, unshared = (await looks(one)).right, (await one.answers.get(PLACE, UNIX_NOW)).right
        await delete(one.line.store)
        for right in (waited_for, unshared):
            one.answers.keep(PLACE, KEPT, right)
            await asyncio.sleep(1)
            assert (await other.answers.get(PLACE, UNIX_NOW)).entry is None

    run(story())


def test_a_deletion_of_another_group_does_not_matter():
    async def story():
        (one,) = processes(1)
        right = (await looks(one)).right
        await delete(one.line.store, "another")
        one.answers.keep(PLACE, KEPT, right)
        assert await looks(one) == FOUND

    run(story())


@pytest.mark.parametrize("answer", [KEPT, LARGE_KEPT])
def test_a_deletion_of_the_group_holds_for_large_answers_too(answer):
    async def story():
        (one,) = processes(1)
        right = (await looks(one)).right
        await delete(one.line.store, PLACE.group)
        one.answers.keep(PLACE, answer, right)
        await asyncio.sleep(1)
        assert (await looks(one)).entry is None

    run(story())


def test_without_a_flight_it_is_kept_all_the_same():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, KEPT, FREE)
        assert await one.answers.get(PLACE, UNIX_NOW) == FOUND

    run(story())


def test_what_was_written_is_told_with_its_size():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, KEPT, FREE)
        await asyncio.sleep(1)
        assert one.tally.sizes == [len(FREE.generation + encode(KEPT))]

    run(story())


@pytest.mark.parametrize("lasts_s", [0.0001, 0.5, 604800])
def test_it_is_kept_for_as_long_as_it_is_good(lasts_s):
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, entry(made_at=UNIX_NOW, expires_at=UNIX_NOW + lasts_s), FREE)
        await asyncio.sleep(0.001)
        ((_, until),) = one.line.store.kept.values()
        assert until - now() == pytest.approx(max(lasts_s, 0.001))

    run(story())


def test_where_the_store_told_us_nothing_nothing_is_kept():
    async def story():
        (one,) = processes(1)
        one.line.gone = True
        right = (await looks(one)).right
        one.line.gone = False
        one.answers.keep(PLACE, KEPT, right)
        await asyncio.sleep(1)
        assert one.line.store.value(ANSWER) is None

    run(story())


def test_an_answer_that_is_on_its_way_at_a_deletion_is_not_kept():
    async def story():
        one, other = processes(2)
        one.line.delay_s = 0.005  # so it arrives between two commands of the deletion
        right = (await looks(one)).right
        one.answers.keep(PLACE, KEPT, right)
        await delete(one.line.store)
        await asyncio.sleep(1)
        assert (await looks(other)).entry is None

    run(story())


def test_while_this_process_asks_it_waits_for_itself():
    """Two caches of one process may: a token with a lease has not served."""

    async def story():
        (one,) = processes(1)
        right = (await looks(one)).right
        waiting = begins_to_look(one)
        await asyncio.sleep(1)
        assert one.line.store.value(ANSWER) == right.token
        one.answers.keep(PLACE, KEPT, right)
        assert await waiting == FOUND

    run(story())


# -- large values


def test_a_large_answer_goes_by_connections_of_its_own():
    async def story():
        one, other = processes(2)
        one.answers.keep(PLACE, LARGE_KEPT, (await looks(one)).right)
        await asyncio.sleep(1)
        assert max(len(word) for words in one.line.asked for word in words if isinstance(word, bytes)) < 100
        assert one.tally.sizes == [len(FREE.generation + encode(LARGE_KEPT))]
        assert await looks(other) == Look(LARGE_KEPT, FREE)
        assert len(other.link.asked) == 1

    run(story())


def test_the_flight_of_a_large_answer_is_renewed_until_it_is_there():
    async def story():
        one, other = processes(2)
        one.link.delay_s = 2 * LEASE_S
        one.answers.keep(PLACE, LARGE_KEPT, (await looks(one)).right)
        assert (await looks(other)).entry == LARGE_KEPT

    run(story())


def test_a_large_answer_that_is_not_there_any_more_is_a_miss():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, LARGE_KEPT, FREE)
        await asyncio.sleep(1)
        del one.line.store.kept[next(key for key in one.line.store.kept if b":" + LARGE_ANSWER + b":" in key)]
        assert await one.answers.get(PLACE, UNIX_NOW) == NOTHING

    run(story())


def test_a_large_answer_of_before_a_deletion_is_not_read_for_a_newer_one():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, LARGE_KEPT, FREE)
        await asyncio.sleep(1)
        key = next(key for key in one.line.store.kept if b":" + LARGE_ANSWER + b":" in key)
        one.line.store.kept[key] = b"x" * len(FREE.generation) + encode(LARGE_KEPT), now() + 60
        assert await one.answers.get(PLACE, UNIX_NOW) == NOTHING

    run(story())


def test_leaving_waits_for_large_answers_that_are_being_written():
    async def story():
        (one,) = processes(1)
        one.link.delay_s = 0.5
        one.answers.keep(PLACE, LARGE_KEPT, FREE)
        await one.answers.aclose()
        assert one.line.store.value(ANSWER)

    run(story())


# -- trouble


def test_a_store_that_is_away_is_a_miss_after_the_lines_patience():
    async def story():
        (one,) = processes(1)
        one.line.gone = True
        began = now()
        assert await looks(one) == Look()
        assert await one.answers.get(PLACE, UNIX_NOW) == Look()
        assert now() - began == pytest.approx(2 * PATIENCE_S)
        assert one.tally.troubles == {("read", "away"): 2}

    run(story())


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (OutOfMemoryError("OOM command not allowed"), "OOM"),
        (ReadOnlyError("You can't write"), "ReadOnlyError"),
        (ResponseError("WRONGTYPE Operation against"), "WRONGTYPE"),
        (ResponseError("unknown command"), "ResponseError"),
    ],
)
def test_a_refusal_is_a_miss_and_told_by_its_class(refusal, reason):
    async def story():
        (one,) = processes(1)
        one.line.refusal = refusal
        assert await looks(one) == Look()
        one.answers.keep(PLACE, KEPT, FREE)
        await asyncio.sleep(1)
        assert one.tally.troubles == {("read", reason): 1, ("write", reason): 1}

    run(story())


def test_a_store_that_takes_no_tokens_still_tells_what_it_has():
    async def story():
        (one,) = processes(1)
        await uses_to_miss(one)
        one.line.store.refuses_tokens = OutOfMemoryError("OOM command not allowed")
        assert await looks(one) == NOTHING
        one.answers.keep(PLACE, KEPT, NOTHING.right)
        assert await looks(one) == FOUND
        assert one.tally.troubles == {("read", "OOM"): 2}

    run(story())


def test_nobody_waits_for_another_in_a_store_that_takes_no_tokens():
    async def story():
        one, other = processes(2)
        await uses_to_miss(other)
        await looks(one)
        one.line.store.refuses_tokens = OutOfMemoryError("OOM command not allowed")
        began = now()
        assert await looks(other) == NOTHING
        assert now() - began < 0.01
        assert other.tally.troubles == {("read", "OOM"): 1}

    run(story())


def test_who_polls_only_looks():
    async def story():
        one, other = processes(2)
        await uses_to_miss(other)
        await looks(one)
        waiting = begins_to_look(other)
        await asyncio.sleep(1)
        waiting.cancel()
        assert [words[0] for words in other.line.asked].count("SET") == 1

    run(story())


def test_a_store_that_is_too_old_is_told_once_with_a_remedy_and_not_asked_again():
    async def story():
        (one,) = processes(1)
        one.line.store.refuses_tokens = ResponseError("syntax error")
        for _ in range(3):
            assert await looks(one) == NOTHING
        assert one.tally.troubles == {("read", "ResponseError"): 1}
        one.answers.keep(PLACE, KEPT, NOTHING.right)
        assert await looks(one) == FOUND

    with capture_logs() as logs:
        run(story())
    assert [(line["log_level"], line["remedy"]) for line in logs] == [("warning", "use Redis 7 or later, or Valkey")]


@pytest.mark.parametrize("answer", [KEPT, LARGE_KEPT])
def test_who_cannot_keep_its_answer_lets_others_ask(answer):
    async def story():
        one, other = processes(2)
        right = (await looks(one)).right
        one.line.refusal = one.link.refusal = OutOfMemoryError("OOM command not allowed")
        one.answers.keep(PLACE, answer, right)
        await asyncio.sleep(0.002)
        one.line.refusal = None
        await asyncio.sleep(0.01)
        began = now()
        assert (await looks(other)).right.token
        assert now() - began < 0.01
        assert one.tally.troubles == {("write", "OOM"): 1}

    run(story())


@pytest.mark.parametrize("ends", [ValueError("a mistake of ours"), asyncio.CancelledError()])
def test_a_large_answer_that_comes_to_nothing_holds_up_nobody(ends, monkeypatch):
    async def story():
        one, other = processes(2)
        right = (await looks(one)).right

        async def fails(*_, **__):
            raise ends

        monkeypatch.setattr(one.link, "run", fails)
        one.answers.keep(PLACE, LARGE_KEPT, right)
        began = now()
        assert (await looks(other)).right.token
        assert now() - began < LEASE_S + LONGEST_POLL_S + 0.1
        assert sum(one.tally.troubles.values()) == 1

    run(story())


@pytest.mark.parametrize("answer", [KEPT, LARGE_KEPT])
def test_an_answer_that_does_not_reach_the_store_is_told(answer):
    async def story():
        (one,) = processes(1)
        one.line.gone = one.link.gone = True
        one.answers.keep(PLACE, answer, FREE)
        await asyncio.sleep(1)
        assert one.tally.troubles == {("write", "away"): 1}
        assert one.tally.sizes == []

    run(story())


def test_a_large_answer_that_cannot_be_read_now_stays():
    async def story():
        one, other = processes(2)
        one.answers.keep(PLACE, LARGE_KEPT, FREE)
        await asyncio.sleep(1)
        other.link.gone = True
        look = await looks(other)
        assert look == Look()
        other.answers.abandon(PLACE, look.right)
        await asyncio.sleep(1)
        assert (await looks(one)).entry == LARGE_KEPT

    run(story())


def test_something_foreign_that_is_large_is_not_sent_back_to_be_compared():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, KEPT, FREE)
        await asyncio.sleep(1)
        (key,) = one.line.store.kept
        one.line.store.kept[key] = os.urandom(LARGE + 1), now() + 60
        look = await looks(one)
        assert look == NOTHING
        assert {words[0] for words in one.line.asked} == {"MGET", "SET"}
        one.answers.keep(PLACE, KEPT, look.right)
        assert (await looks(one)).entry == KEPT

    run(story())


def test_a_large_answer_that_cannot_be_read_is_a_miss():
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, LARGE_KEPT, FREE)
        await asyncio.sleep(1)
        one.link.gone = True
        assert (await looks(one)).entry is None
        assert one.tally.troubles == {("read", "away"): 1}

    run(story())


@pytest.mark.parametrize("begin", [b"", FREE.generation])
@pytest.mark.parametrize("value", [b"", b"\x00", b"nonsense", encode(KEPT)[:-1], encode(entry(digest=bytes(32)))])
def test_what_cannot_be_read_is_a_miss_and_does_not_stay(begin, value):
    async def story():
        (one,) = processes(1)
        one.answers.keep(PLACE, KEPT, FREE)
        await asyncio.sleep(1)
        (key,) = one.line.store.kept
        one.line.store.kept[key] = begin + value, now() + 60
        look = await looks(one)
        assert look.entry is None
        one.answers.keep(PLACE, KEPT, look.right)
        assert (await looks(one)).entry == KEPT

    run(story())
