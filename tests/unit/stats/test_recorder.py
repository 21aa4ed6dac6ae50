"""Counting never waits for the store, and each count reaches it exactly once."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.counters import EndpointCounts, RequestCounts
from stats.queries import read_numbers
from stats.record import AttemptRecord
from stats.recorder import GAUGES, PREFIX, Recorder
from tests.unit.virtual_time import run


class FakeStore:
    """Hashes, and the recorder's script by its keys and arguments. `next`: how the following calls go."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, str]] = {}
        self.applied: dict[str, int] = {}  # the last batch of each worker
        self.sent: list[int] = []  # numbers of batches
        self.next: list[str] = []  # "lost" (before it arrived), "reply lost", "refused", "slow"

    async def run(self, *commands: Any) -> list[Any]:
        how = self.next.pop(0) if self.next else ""
        await asyncio.sleep(1.0 if how == "slow" else 0.001)
        self.sent += [command[3 + command[2]] for command in commands if command[0] == "EVAL"]
        if how == "lost":
            raise ConnectionError
        if how == "refused":
            return [ValueError("OOM") for _ in commands]
        replies = [getattr(self, command[0].lower())(*command[1:]) for command in commands]
        if how == "reply lost":
            raise ConnectionError
        await asyncio.sleep(2.0 if how == "slow reply" else 0.001)
        return replies

    def eval(self, script: str, count: int, *words: Any) -> int:
        keys, arguments = list(words[:count]), [str(word) for word in words[count:]]
        number = int(arguments.pop(0))
        if number <= self.applied.get(keys[0], 0):
            return 0
        self.applied[keys[0]] = number
        for key in keys[1:]:
            fields = self.hashes.setdefault(key, {})
            for _ in range(int(arguments.pop(0))):
                name, value = arguments.pop(0), int(arguments.pop(0))
                fields[name] = str(int(fields.get(name, 0)) + value)
            for _ in range(int(arguments.pop(0))):
                name = arguments.pop(0)
                fields[name] = arguments.pop(0)
        assert arguments == []
        return 1

    def hgetall(self, key: str) -> list[bytes]:
        return [word.encode() for pair in self.hashes.get(key, {}).items() for word in pair]

    def hset(self, key: str, name: str, value: str) -> int:
        self.hashes.setdefault(key, {})[name] = value
        return 1

    def hdel(self, key: str, *names: str) -> int:
        return sum(self.hashes[key].pop(name, None) is not None for name in names)

    def requests(self) -> RequestCounts:
        return RequestCounts.from_fields(self.hashes.get(f"{PREFIX}requests", {}))

    def endpoint(self, endpoint_id: str) -> EndpointCounts:
        return EndpointCounts.from_fields(self.hashes.get(f"{PREFIX}endpoint:{endpoint_id}", {}))


def ended(outcome: str = "success", error: str = "", endpoint: str = "e") -> tuple[AttemptRecord, int, int]:
    return AttemptRecord("", endpoint, outcome, error, 0, 0.0, 250.0), 3, 4


def test_a_flush_tells_the_store_everything_in_one_call():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store, clock=lambda: 1000.5)
        for outcome, error in (
            ("success", ""),
            ("failure", "status 500"),
            ("rejected", "status 400"),
            ("cancelled", ""),
        ):
            recorder.attempt_ended(*ended(outcome, error))
            recorder.request_ended(outcome)
        recorder.attempt_ended(*ended(endpoint="other"))
        await recorder.flush()
        assert len(store.sent) == 1
        assert store.requests() == RequestCounts(1, 1, 1, 1)
        got = store.endpoint("e")
        assert (got.success, got.failure, got.rejected, got.cancelled) == (1, 1, 1, 1)
        assert (got.input_tokens, got.output_tokens) == (12, 16)
        assert (got.last_error, got.last_error_at, got.last_success_at) == ("status 500", 1000.5, 1000.5)
        assert sum(got.buckets.values()) == 1, "only successes tell how fast the endpoint is"
        assert store.endpoint("other").success == 1

    run(scenario())


def test_nothing_new_is_not_told():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        await recorder.flush()
        recorder.request_ended("success")
        await recorder.flush()
        await recorder.flush()
        assert len(store.sent) == 1

    run(scenario())


@pytest.mark.parametrize("trouble", ["lost", "reply lost", "refused"])
def test_a_batch_without_a_reply_is_sent_again_and_applied_once(trouble):
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        recorder.request_ended("success")
        store.next = [trouble, trouble]
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await recorder.flush()
        recorder.request_ended("failure")
        await recorder.flush()
        await recorder.flush()
        assert len(store.sent) == 4
        assert len(set(store.sent[:3])) == 1, "the same id until it is known to have arrived"
        assert store.requests() == RequestCounts(success=1, failure=1)

    run(scenario())


@pytest.mark.parametrize("troubles", [[], ["lost"], ["reply lost", "lost", "refused"], ["slow reply"]])
def test_a_stop_tells_everything(troubles):
    """Also what was counted while a batch was under way, which the stop has cut off."""

    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        recorder.request_ended("success")
        store.next = ["slow reply"]
        flushing = asyncio.get_running_loop().create_task(recorder.flush())
        await asyncio.sleep(0.5)
        recorder.request_ended("failure")
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        store.next = list(troubles)
        assert await recorder.stop(within_s=3)
        assert store.requests() == RequestCounts(success=1, failure=1)

    run(scenario())


@pytest.mark.parametrize("count", [1, 127, 128, 300])
def test_attempts_count_as_soon_as_anybody_reads_or_the_worker_stops(count):
    async def story():
        store = FakeStore()
        recorder = Recorder(store)
        for _ in range(count):
            recorder.attempt_ended(*ended())
        assert recorder.unsent().endpoints["e"].success == count
        for _ in range(count):
            recorder.attempt_ended(*ended("failure", "500"))
        assert recorder.own().endpoints["e"].failure == count
        for _ in range(count):
            recorder.attempt_ended(*ended())
        assert await recorder.stop()
        assert (store.endpoint("e").success, store.endpoint("e").failure) == (2 * count, count)

    run(story())


def test_a_stop_does_not_wait_for_ever_for_the_store():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        recorder.request_ended("success")
        store.next = ["lost"] * 100
        begun = asyncio.get_running_loop().time()
        assert not await recorder.stop(within_s=3)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(3, abs=0.01)

    run(scenario())


def test_a_batch_that_was_applied_is_known_however_long_the_store_was_away():
    """By one key for each worker, not one for each batch."""

    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        for _ in range(50):
            recorder.request_ended("success")
            await recorder.flush()
        assert store.requests().success == 50
        assert store.applied == {f"{PREFIX}batch:{recorder.worker}": 50}

    run(scenario())


def test_counting_goes_on_while_the_store_is_away():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        store.next = ["lost"] * 20
        flushing = asyncio.get_running_loop().create_task(recorder.flush_forever(dict))
        for _ in range(30):
            recorder.request_ended("success")
            recorder.attempt_ended(*ended())
            await asyncio.sleep(0.1)
        assert recorder.own().requests.success == 30
        store.next = []
        await asyncio.sleep(1)
        flushing.cancel()
        assert (store.requests().success, store.endpoint("e").success) == (30, 30)

    run(scenario())


STEPS = st.lists(st.sampled_from(["count", "flush", "wait", "stats"]), max_size=25)
TROUBLES = st.lists(st.sampled_from(["", "lost", "reply lost", "refused", "slow", "slow reply"]), max_size=15)


@given(STEPS, TROUBLES)
def test_whatever_happens_each_count_arrives_exactly_once(steps, troubles):
    """Flushes overlap, as those of the timer and of /stats do."""

    async def scenario() -> None:
        store = FakeStore()
        recorder, tasks, counted = Recorder(store), [], 0
        loop = asyncio.get_running_loop()
        store.next = list(troubles)
        for step in steps:
            if step == "count":
                recorder.request_ended("success")
                counted += 1
            elif step == "flush":
                tasks.append(loop.create_task(recorder.flush()))
            elif step == "stats":
                tasks.append(loop.create_task(stats(store, recorder, counted)))
            else:
                await asyncio.sleep(0.4)
            assert recorder.own().requests.success == counted
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, ConnectionError) for end in ends), ends
        store.next = []
        await recorder.flush()
        await recorder.flush()
        assert store.requests().success == counted
        assert recorder.unsent().empty()

    async def stats(store: FakeStore, recorder: Recorder, at_least: int) -> None:
        numbers = await read_numbers(store, recorder, ["e"], {})
        assert at_least <= numbers.counts.requests.success <= recorder.own().requests.success

    run(scenario())


def test_stats_count_what_was_not_flushed_yet():
    async def scenario() -> None:
        store = FakeStore()
        one, other = Recorder(store), Recorder(store)
        one.request_ended("success")
        await one.flush()
        other.request_ended("failure")
        other.attempt_ended(*ended())
        numbers = await read_numbers(store, other, ["e", "idle"], {"e": 2})
        assert numbers.shared
        assert numbers.counts.requests == RequestCounts(success=1, failure=1)
        assert numbers.counts.endpoints["e"].success == 1
        assert numbers.counts.endpoints["idle"] == EndpointCounts()
        assert numbers.in_flight["e"] == 2

    run(scenario())


def test_without_the_store_stats_are_this_workers_own():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        recorder.request_ended("success")
        await recorder.flush()
        recorder.request_ended("success")
        store.next = ["lost"] * 9
        numbers = await read_numbers(store, recorder, ["e"], {"e": 1})
        assert (numbers.shared, numbers.counts.requests.success, numbers.in_flight) == (False, 2, {"e": 1})

    run(scenario())


def test_requests_in_flight_are_those_of_all_living_workers():
    async def scenario() -> None:
        import time

        store, now = FakeStore(), time.time()
        recorder = Recorder(store)
        store.hashes[GAUGES] = {
            "other": f"{now:.3f} e=3 f=1",
            "idle": f"{now:.3f} ",
            recorder.worker: f"{now:.3f} e=9",
            "silent": f"{now - 10:.3f} e=50",
            "gone": f"{now - 100:.3f} e=70",
            "of the future": "garbage",
            "empty": "",
            "odd": f"{now:.3f} e=x f",
        }
        numbers = await read_numbers(store, recorder, ["e", "f"], {"e": 2, "f": 0})
        assert (numbers.in_flight["e"], numbers.in_flight["f"]) == (5, 1)
        assert "gone" not in store.hashes[GAUGES]
        assert "silent" in store.hashes[GAUGES]

    run(scenario())


def test_gauges_are_told_once_a_second():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store, clock=lambda: 5.0)
        flushing = asyncio.get_running_loop().create_task(recorder.flush_forever(lambda: {"e": 2, "idle": 0}))
        await asyncio.sleep(0.5)
        flushing.cancel()
        assert store.hashes[GAUGES] == {recorder.worker: "5.000 e=2"}

    run(scenario())


def test_where_the_store_refuses_to_tell_stats_are_this_workers_own():
    class Foreign(FakeStore):
        def hgetall(self, key: str) -> Any:
            return ValueError("WRONGTYPE")

    async def scenario() -> None:
        store = Foreign()
        recorder = Recorder(store)
        recorder.request_ended("success")
        numbers = await read_numbers(store, recorder, ["e"], {})
        assert (numbers.shared, numbers.counts.requests.success) == (False, 1)

    run(scenario())
