"""What is kept: of every size, as long as it was asked for, never longer than an operator wants it."""

import asyncio
import json
import random
from itertools import count

import pytest

from tests.fakes import behaviours as b
from tests.fakes.load import Client, verdict
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import Behaviour, RecordedRequest
from tests.integration.in_process import Gateway
from tests.integration.test_cache_faults import GENERAL, eventually, how, kept, post

KIB = 1024


async def connected(running: Gateway) -> Gateway:
    """Past its first word with the store, for which there is little time on a busy machine."""
    await post(running, chat_body(new_nonce(), cache={"no-store": True}))
    return running


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
@pytest.mark.parametrize("size", [1, 15 * KIB, 17 * KIB, 300 * KIB, 1100 * KIB, 3000 * KIB])
@pytest.mark.parametrize("dense", [False, True], ids=["repetitive", "dense"])
async def test_an_answer_of_any_size_comes_back_from_the_store(upstreams, gateway, size, stream, dense):
    (a,) = await upstreams(1)
    running, other = [await connected(await gateway(a, general=GENERAL)) for _ in range(2)]
    rng = random.Random(size)
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyzß€", k=size)) if dense else "ab€ " * (size // 6 + 1)
    a.always = _saying(text)
    body = chat_body(new_nonce(), stream=stream)
    first = await post(running, body)
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 1)
    second = await post(other, body)

    assert (how(first), how(second)) == ("miss", "hit")
    assert second.body == first.body
    assert len(first.body) > size
    assert second.headers["content-type"] == first.headers["content-type"]


def _saying(text: str) -> Behaviour:
    async def play(exchange):
        choice = {"index": 0, "finish_reason": "stop"}
        if not exchange.request.stream:
            said = choice | {"message": {"role": "assistant", "content": text}}
            await exchange.answer(200, json.dumps({"choices": [said]}, ensure_ascii=False).encode())
            return
        said = choice | {"delta": {"content": text}}
        event = b"data: %b\n\n" % json.dumps({"choices": [said]}, ensure_ascii=False).encode()
        await b.stream(event, b"data: [DONE]\n\n").play(exchange)

    return Behaviour(play)


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
async def test_what_is_larger_than_allowed_is_not_kept(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    running = await gateway(a, general=GENERAL | {"cache_params": {"max_entry_bytes": 20_000}})
    for size, last in ((2_000, "hit"), (30_000, "miss")):
        body = chat_body(new_nonce(), size=size, stream=stream)
        assert [how(await post(running, body)) for _ in range(2)] == ["miss", last]
    await eventually(lambda: running.parts.recorder.own().cache["not_kept:too_large"] == 2)


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
async def test_an_answer_ends_with_its_time(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    running, other = [await connected(await gateway(a, general=GENERAL)) for _ in range(2)]
    body = chat_body(new_nonce(), stream=stream, cache={"ttl": 1})
    for _ in range(2):
        assert how(await post(running, body)) == "miss"
        await asyncio.sleep(0.1 if stream else 0)  # equal streams of two workers do not wait for each other
        assert [how(await post(one, body)) for one in (running, other)] == ["hit", "hit"]
        await asyncio.sleep(1.1)
        assert await kept(running) == []


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
async def test_an_upstream_that_is_down_does_not_matter_to_what_is_kept(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    running = await gateway(a, general=GENERAL | {"allowed_fails": 1, "cooldown_time": 30, "num_retries": 0})
    body = chat_body(new_nonce(), stream=stream)
    await post(running, body)
    await a.stop()
    for _ in range(3):
        assert (await post(running, chat_body(new_nonce()))).status in (502, 503)
    assert how(await post(running, body)) == "hit"


# -- deletions


class Versions:
    """An upstream whose answers say which version of the truth they are, slowly, and clients who look at it."""

    def __init__(self, workers: list[Gateway], rng: random.Random) -> None:
        self.now = 1
        self.seen: list[tuple[int, int]] = []  # the oldest version that was still right, and the one that came
        self.oldest = 1
        self._workers, self._rng = workers, rng
        self._questions = [chat_body(f"{n:016x}", stream=stream) for n in range(4) for stream in (False, True)]

    def answer(self, request: RecordedRequest) -> Behaviour:
        said = {"index": 0, "finish_reason": "stop"}
        message = {"role": "assistant", "content": f"version={self.now};"}
        wait = self._rng.choice([0, 0.02, 0.1])
        if not request.stream:
            return b.body(200, json.dumps({"choices": [said | {"message": message}]}).encode(), delay=wait)
        event = b"data: %b\n\n" % json.dumps({"choices": [said | {"delta": message}]}).encode()

        async def play(exchange):
            await exchange.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
            await exchange.chunk(event)
            await exchange.silence(wait)
            await exchange.chunk(b"data: [DONE]\n\n")
            await exchange.write(b"0\r\n\r\n")

        return Behaviour(play)

    async def look_on(self, until: asyncio.Event) -> None:
        while not until.is_set():
            oldest = self.oldest
            got = await post(self._rng.choice(self._workers), self._rng.choice(self._questions))
            self.seen.append((oldest, int(got.body.partition(b"version=")[2].partition(b";")[0])))


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.full)])
async def test_nothing_that_was_asked_for_before_a_deletion_is_served_after_it(upstreams, gateway, rounds):
    """But by those who are on their way already; so the test waits for these before it looks strictly."""
    (a,) = await upstreams(1)
    workers = [await gateway(a, general=GENERAL) for _ in range(2)]
    versions = Versions(workers, random.Random(rounds))
    a.always = versions.answer
    end = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(versions.look_on(end))
        for number in count(2):
            await asyncio.sleep(0.1)
            versions.now = number
            async with Client(workers[number % 2].root) as client:
                assert (await client.request("DELETE", "/cache")).status == 200
            await asyncio.sleep(0.15)  # longer than the upstream takes
            versions.oldest = number
            if number > rounds:
                break
        end.set()

    assert [pair for pair in versions.seen if pair[1] < pair[0]] == []
    assert len(versions.seen) > 20 * rounds
    hits = sum(worker.parts.recorder.own().cache[f"hit:{tier}"] for worker in workers for tier in ("process", "store"))
    assert hits > 5 * rounds


async def test_a_deletion_reaches_what_is_kept_in_parts(upstreams, gateway):
    """Large answers stand under a key of their own."""
    (a,) = await upstreams(1)
    running = await gateway(a, general=GENERAL)
    rng = random.Random(1)
    a.always = _saying("".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=600_000)))
    await post(running, chat_body(new_nonce()))
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 1)
    assert [len(await kept(running, kind)) for kind in "al"] == [1, 1]
    async with Client(running.root) as client:
        assert (await client.request("DELETE", "/cache")).json["deleted_entries"] == 1
    assert [len(await kept(running, kind)) for kind in "al"] == [0, 0]


async def test_a_second_deletion_finds_nothing(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, general=GENERAL)
    nonces = [new_nonce() for _ in range(3)]
    await asyncio.gather(*(post(running, chat_body(nonce)) for nonce in nonces))
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 3)
    async with Client(running.root) as client:
        deleted = [(await client.request("DELETE", "/cache")).json["deleted_entries"] for _ in range(2)]
    assert deleted == [3, 0]
    got = await post(running, chat_body(nonces[0]))
    assert (verdict(got, nonces[0], stream=False), how(got)) == (None, "miss")
