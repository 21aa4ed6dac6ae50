"""What the recorder does for /metrics alone."""

import asyncio

from stats.queries import read_numbers
from stats.recorder import Recorder
from tests.unit.stats.test_recorder import FakeStore
from tests.unit.virtual_time import run


def test_dropped_records_are_told_once():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        recorder.dropped_records = lambda: 5
        for _ in range(2):
            told = await read_numbers(store, recorder, [], {}, series=True)
        assert told.counts.series.fields() == {("records_dropped",): 5}

    run(scenario())


def test_flushes_that_failed_are_counted_when_the_store_is_back():
    async def scenario() -> None:
        store = FakeStore()
        recorder = Recorder(store)
        store.next = ["lost"] * 3
        flushing = asyncio.get_running_loop().create_task(recorder.flush_forever(dict))
        await asyncio.sleep(5)
        flushing.cancel()
        await recorder.flush()
        told = await read_numbers(store, recorder, [], {}, series=True)
        assert told.counts.series.fields() == {("store_errors", "counters"): 3}

    run(scenario())
