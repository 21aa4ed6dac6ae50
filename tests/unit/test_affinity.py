"""Who made what: remembered here and in the store, per client scope, and never a reason to fail."""

import asyncio
from typing import Any

from routing.affinity import Affinity
from tests.unit.virtual_time import run


class Store:
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls: set[int] = set()
        self.delay = 0.0
        self.away = False
        self.reads = 0
        self.writes = 0

    async def run(self, *commands: Any) -> list[Any]:
        await asyncio.sleep(self.delay)
        if self.away:
            raise ConnectionError
        replies: list[Any] = []
        for name, *words in commands:
            if name == "MGET":
                self.reads += 1
                replies.append([self.values.get(key) for key in words])
            else:
                self.values[words[0]] = words[1].encode()
                self.writes += 1
                self.ttls.add(words[3])
                replies.append(b"OK")
        return replies


def test_what_one_worker_kept_another_finds():
    async def scenario() -> None:
        store = Store()
        Affinity(store).keep("", ["resp_1", "resp_2"], "endpoint", 60)
        await asyncio.sleep(0.01)
        assert await Affinity(store).makers("", ["resp_2", "unknown", "resp_1"]) == ["endpoint", None, "endpoint"]
        assert store.ttls == {60}

    run(scenario())


def test_the_worker_that_kept_it_needs_no_store():
    async def scenario() -> None:
        store = Store()
        store.away = True
        affinity = Affinity(store)
        affinity.keep("", ["resp_1"], "endpoint", 60)
        await asyncio.sleep(0.01)
        assert await affinity.makers("", ["resp_1"]) == ["endpoint"]
        assert store.reads == 0

    run(scenario())


def test_another_clients_id_is_unknown():
    async def scenario() -> None:
        store = Store()
        affinity = Affinity(store)
        affinity.keep("client a", ["resp_1"], "endpoint", 60)
        await asyncio.sleep(0.01)
        assert await affinity.makers("client b", ["resp_1"]) == [None]
        assert await Affinity(store).makers("client b", ["resp_1"]) == [None]

    run(scenario())


def test_the_store_is_waited_for_50_ms_at_most():
    async def scenario() -> None:
        store = Store()
        store.delay = 10.0
        began = asyncio.get_running_loop().time()
        assert await Affinity(store).makers("", ["resp_1"]) == [None]
        assert asyncio.get_running_loop().time() - began <= 0.051

    run(scenario())


def test_a_store_that_is_away_knows_nothing():
    async def scenario() -> None:
        store = Store()
        store.away = True
        assert await Affinity(store).makers("", ["resp_1"]) == [None]

    run(scenario())


def test_the_same_news_are_written_once():
    async def scenario() -> None:
        store = Store()
        affinity = Affinity(store)
        affinity.keep("", ["resp_1"], "endpoint", 60)
        await asyncio.sleep(0.01)
        store.values.clear()
        affinity.keep("", ["resp_1"], "endpoint", 60)
        await asyncio.sleep(0.01)
        assert store.values == {}

    run(scenario())


def test_memory_is_bounded_and_forgets_the_oldest():
    async def scenario() -> None:
        store = Store()
        affinity = Affinity(store)
        affinity.keep("", [f"resp_{i}" for i in range(10_001)], "endpoint", 60)
        store.away = True
        assert await affinity.makers("", ["resp_0", "resp_1", "resp_10000"]) == [None, "endpoint", "endpoint"]
        await asyncio.sleep(0.01)

    run(scenario())


def test_keys_hold_nothing_of_the_clients_text():
    async def scenario() -> None:
        store = Store()
        affinity = Affinity(store)
        affinity.keep("", ["a\r\nFLUSHALL\r\n", "x" * 100_000, "\ud800", ""], "endpoint", 60)
        await asyncio.sleep(0.01)
        assert {len(key) for key in store.values} == {len("llmproxy:affinity:") + 32}
        assert await affinity.makers("", ["x" * 100_000, "\ud800"]) == ["endpoint"] * 2

    run(scenario())


def test_memory_forgets_when_its_time_to_live_is_over():
    async def scenario() -> None:
        store = Store()
        affinity = Affinity(store, asyncio.get_running_loop().time)
        affinity.keep("", ["resp_1"], "endpoint", 60)
        await asyncio.sleep(59)
        store.values.clear()
        assert await affinity.makers("", ["resp_1"]) == ["endpoint"]
        await asyncio.sleep(1)
        assert await affinity.makers("", ["resp_1"]) == [None]

    run(scenario())


def test_what_is_in_use_lives_on_and_is_told_the_store_four_times_in_its_life_at_most():
    async def scenario() -> None:
        store = Store()
        affinity = Affinity(store, asyncio.get_running_loop().time)
        for _ in range(120):
            affinity.keep("", ["conv_1"], "endpoint", 60)
            await asyncio.sleep(1)
        assert await affinity.makers("", ["conv_1"]) == ["endpoint"]
        assert (store.reads, store.writes) == (0, 8)

    run(scenario())
