"""One stream for many: all of its bytes for everyone who stays, and its end when nobody does."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_app.shared_stream import Budget, Lagging, SharedStream
from tests.unit.cache_app.clients import Client, PacedSource, SourceFailed, at, settle
from tests.unit.virtual_time import run

ABC = [b"a", b"b", b"c"]
PLENTY = 1 << 20


def shared(
    source: PacedSource, most_bytes: int = PLENTY, budget: Budget | None = None
) -> tuple[SharedStream, list[bytes | None]]:
    """The stream, and what it says at its end of what may be kept. A reader may be as far behind as is held."""
    ends: list[bytes | None] = []
    budget = budget or Budget(PLENTY)
    stream = SharedStream(source, most_bytes, budget, lambda stream: ends.append(stream.whole()), most_lag=most_bytes)
    return stream, ends


@dataclass
class Reading:
    """One client's reading, and how it ended: `ended`, `lagging`, `left`, `failed` or `came too late`."""

    stream: SharedStream
    client: Client = field(default_factory=Client)
    got: list[bytes] = field(default_factory=list)
    how: str = "reading"
    over_at: float = 0.0

    async def read(self, pause_s: float = 0.0, begin_after_s: float = 0.0) -> None:
        if not self.stream.joinable:
            self.how = "came too late"
            return
        reader = self.stream.join(self.client)
        try:
            await asyncio.sleep(begin_after_s)
            while (piece := await reader.piece()) is not None:
                self.got.append(piece)
                if pause_s:
                    await asyncio.sleep(pause_s)
            self.how = "ended"
        except Lagging:
            self.how = "lagging"
        except SourceFailed:
            self.how = "failed"
        except asyncio.CancelledError:
            self.how = "left"
        finally:
            self.over_at = asyncio.get_running_loop().time()
            reader.leave()


def joined(stream: SharedStream, pause_s: float = 0.0, begin_after_s: float = 0.0) -> Reading:
    """A client that reads from now on."""
    reading = Reading(stream)
    reading.client.begin(reading.read(pause_s, begin_after_s))
    return reading


async def until_all_over(*readings: Reading) -> None:
    await asyncio.gather(*(reading.client.task for reading in readings), return_exceptions=True)


def test_everybody_gets_all_bytes_from_the_first_on():
    async def story():
        source = PacedSource(ABC)
        stream, ends = shared(source)
        first = joined(stream)
        await asyncio.sleep(2.5)
        late = joined(stream)
        await until_all_over(first, late)
        assert first.got == late.got == ABC
        assert ends == [b"abc"]

    run(story())


def test_what_has_come_is_there_for_a_late_reader_at_once():
    async def story():
        stream, _ = shared(PacedSource(ABC))
        joined(stream)
        await asyncio.sleep(2.5)
        late = joined(stream)
        await settle()
        assert late.got == ABC[:2]
        late.client.leave()

    run(story())


def test_a_reader_that_stands_still_holds_up_nobody():
    async def story():
        stream, _ = shared(PacedSource(ABC))
        slow, quick = joined(stream, pause_s=100), joined(stream)
        began = asyncio.get_running_loop().time()
        await until_all_over(quick)
        assert quick.over_at - began == pytest.approx(4)
        await until_all_over(slow)
        assert slow.got == ABC

    run(story())


def test_the_source_is_closed_once_at_its_end():
    async def story():
        source = PacedSource(ABC)
        stream, _ = shared(source)
        await until_all_over(joined(stream), joined(stream))
        assert len(source.closed_at) == 1

    run(story())


def test_the_last_to_leave_closes_the_source_and_nothing_is_whole():
    async def story():
        source = PacedSource(ABC)
        stream, ends = shared(source)
        readings = [joined(stream), joined(stream)]
        await asyncio.sleep(1.5)
        readings[0].client.leave()
        await settle()
        assert not source.closed_at
        readings[1].client.leave()
        await settle()
        assert len(source.closed_at) == 1
        assert ends == [None]

    run(story())


def test_a_stream_that_has_said_its_end_is_whole_though_all_leave_before_it_ends():
    async def story():
        source = PacedSource(ABC, says_its_end=True)
        stream, ends = shared(source)
        reading = joined(stream)
        await asyncio.sleep(3.5)
        reading.client.leave()
        await settle()
        assert ends == [b"abc"]
        assert len(source.closed_at) == 1

    run(story())


@pytest.mark.parametrize(("read_s", "all_of_it"), [(2.5, False), (3.5, True)])
def test_who_has_read_the_end_has_all(read_s, all_of_it):
    async def story():
        stream, _ = shared(PacedSource(ABC, says_its_end=True))
        quick, client = joined(stream), Client()
        reader = stream.join(client)
        await asyncio.sleep(read_s)
        assert not reader.has_all
        for _ in range(int(read_s)):
            await reader.piece()
        assert reader.has_all is all_of_it
        reader.leave()
        await until_all_over(quick)

    run(story())


def test_a_client_that_has_left_reads_on_to_the_next_piece_for_the_others():
    async def story():
        stream, _ = shared(PacedSource(ABC))
        reads, waits = joined(stream), joined(stream)
        await asyncio.sleep(1.5)
        reads.client.leave()
        await until_all_over(reads, waits)
        assert reads.how == "left"
        assert reads.over_at == waits.over_at - 2
        assert waits.got == ABC

    run(story())


def test_the_source_is_closed_at_once_when_the_last_leaves_after_the_one_who_reads():
    async def story():
        source = PacedSource(ABC, interval_s=100)
        stream, _ = shared(source)
        reads, waits = joined(stream), joined(stream)
        await settle()
        reads.client.leave()
        await settle()
        waits.client.leave()
        await settle()
        assert (reads.how, waits.how) == ("left", "left")
        assert len(source.closed_at) == 1

    run(story())


def test_another_reads_on_when_the_one_who_reads_is_cancelled():
    async def story():
        stream, ends = shared(PacedSource(ABC))
        reads, waits = joined(stream), joined(stream)
        await asyncio.sleep(1.5)
        reads.client.task.cancel()
        await until_all_over(reads, waits)
        assert waits.got == ABC
        assert ends == [b"abc"]

    run(story())


def test_an_error_of_the_source_reaches_everybody():
    async def story():
        source = PacedSource(ABC, fails_at=1)
        stream, ends = shared(source)
        readings = [joined(stream), joined(stream)]
        await until_all_over(*readings)
        assert [(reading.how, reading.got) for reading in readings] == [("failed", [b"a"])] * 2
        assert ends == [None]
        assert len(source.closed_at) == 1

    run(story())


def test_nobody_joins_what_is_too_large_to_be_held():
    async def story():
        stream, ends = shared(PacedSource(ABC), most_bytes=2)
        reading = joined(stream)
        await asyncio.sleep(2.5)
        assert stream.joinable
        await until_all_over(reading)
        assert not stream.joinable
        assert reading.got == ABC
        assert ends == [None]

    run(story())


def test_a_reader_further_behind_than_is_held_is_told():
    async def story():
        stream, _ = shared(PacedSource(ABC), most_bytes=2)
        quick, slow = joined(stream), joined(stream, begin_after_s=10)
        await until_all_over(quick, slow)
        assert (slow.how, slow.got) == ("lagging", [])

    run(story())


def test_a_reader_left_behind_does_not_disturb_what_the_others_get():
    async def story():
        pieces = [b"%d" % number for number in range(10)]
        stream, _ = shared(PacedSource(pieces), most_bytes=3)
        quick, slow = joined(stream), joined(stream, pause_s=100)
        steady = joined(stream, pause_s=1.5)
        await until_all_over(quick, slow, steady)
        assert quick.got == steady.got == pieces
        assert slow.how == "lagging"

    run(story())


def test_what_all_have_taken_is_not_held_once_it_is_too_large():
    async def story():
        stream, _ = shared(PacedSource([b"x" * 10] * 50), most_bytes=100)
        readings = [joined(stream), joined(stream)]
        await asyncio.sleep(30.5)
        assert sum(map(len, stream._pieces)) <= 20
        await until_all_over(*readings)

    run(story())


@pytest.mark.parametrize("left", [0, 2])
def test_what_goes_beyond_the_workers_budget_is_passed_on_and_not_kept(left):
    async def story():
        budget = Budget(left)
        stream, ends = shared(PacedSource(ABC), budget=budget)
        reading = joined(stream)
        await until_all_over(reading)
        assert reading.got == ABC
        assert (ends, stream.too_large) == ([None], True)
        assert budget.left == left

    run(story())


def test_a_stream_that_leaves_gives_its_bytes_back():
    async def story():
        budget = Budget(5)
        stream, _ = shared(PacedSource(ABC), budget=budget)
        reading = joined(stream)
        await asyncio.sleep(2.5)
        assert budget.left == 3
        reading.client.leave()
        await settle()
        assert budget.left == 5
        assert not stream.too_large

    run(story())


def test_what_a_slow_reader_has_not_taken_counts_after_the_end_too():
    async def story():
        budget = Budget(10)
        stream, _ = shared(PacedSource(ABC), budget=budget)
        slow, quick = joined(stream, pause_s=100), joined(stream)
        await until_all_over(quick)
        assert budget.left == 7
        await until_all_over(slow)
        assert budget.left == 10

    run(story())


@settings(max_examples=150)
@given(st.integers(0, 1 << 32))
def test_whoever_stays_gets_every_byte_whatever_the_others_do(seed):
    run(_random_story(random.Random(seed)))


async def _random_story(rng: random.Random) -> None:
    pieces = [rng.randbytes(rng.randint(1, 9)) for _ in range(rng.randint(0, 15))]
    size = sum(map(len, pieces))
    most_bytes = rng.choice([PLENTY, size, size // 2, 5, 1])
    source = PacedSource(pieces, interval_s=rng.choice([0, 1, 3]), fails_at=rng.choice([None, None, rng.randint(0, 9)]))
    source.says_its_end = rng.random() < 0.5
    budget = Budget(rng.choice([PLENTY, size, 3]))
    most_bytes, left = min(most_bytes, budget.left), budget.left
    stream, ends = shared(source, most_bytes, budget)
    readings, left_at = await _come_and_go(rng, stream)

    for number, reading in enumerate(readings):
        assert reading.got == pieces[: len(reading.got)]
        assert reading.how != "ended" or reading.got == pieces
        assert reading.how != "lagging" or size > most_bytes
        assert reading.how != "left" or number in left_at
        assert reading.client.holder is None
    wanted_until = [left_at[i] if reading.how == "left" else reading.over_at for i, reading in enumerate(readings)]
    assert len(source.closed_at) == 1
    assert source.closed_at[0] <= max(wanted_until)
    assert ends in ([None], [b"".join(pieces)])
    assert budget.left == left


async def _come_and_go(rng: random.Random, stream: SharedStream) -> tuple[list[Reading], dict[int, float]]:
    """All that read, and when some of them left."""
    readings = [joined(stream, rng.choice([0, 0, 1, 5]))]
    left_at: dict[int, float] = {}

    def join() -> None:
        readings.append(joined(stream, rng.choice([0, 0, 1, 5, 50]), rng.choice([0, 0, 30])))

    def lose(number: int) -> None:
        if number < len(readings):
            left_at.setdefault(number, asyncio.get_running_loop().time())
            leave = rng.choice([readings[number].client.leave, readings[number].client.task.cancel])
            leave()

    for _ in range(rng.randint(0, 5)):
        at(rng.choice([0, rng.uniform(0, 30)]), join)
    for number in range(7):
        if rng.random() < 0.5:
            at(rng.choice([0, 1, 3, rng.uniform(0, 40)]), lambda number=number: lose(number))
    await asyncio.sleep(50)
    await until_all_over(*readings)
    return readings, left_at
