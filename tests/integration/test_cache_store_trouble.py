"""The cache's store frozen, full, read-only, locked or gone: requests are answered without it, soon, and it is counted."""

import asyncio
import os
import signal
import statistics
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmproxy_site.store import StoreAddress, embedded_binary
from tests.fakes import behaviours as b
from tests.fakes.load import Client, Got, verdict
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.valkey import Valkey
from tests.integration.in_process import Gateway, configuration
from tests.integration.test_cache_faults import eventually, how, kept, post

UPSTREAM_S = 0.1
MOST_S = 0.05  # that the store may cost a request, by the contract
MARGIN_S = 0.4  # for two busy cores
AT_ONCE_S = 1.0  # the same for all of a crowd; what most requests wait is held to less


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """One that a test may stop or kill."""
    with Valkey() as running:
        yield running
        running.process.send_signal(signal.SIGCONT)


@pytest.fixture
async def slow_upstream(upstreams):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=UPSTREAM_S)
    return a


@pytest.fixture
async def running(slow_upstream, own_valkey):
    """With one answer kept, and its body's nonce forgotten by the worker's memory."""
    fresh = await Gateway.start(configuration(slow_upstream, general={"cache": True}), own_valkey.address)
    yield fresh
    await fresh.stop()


async def say(valkey: Valkey, *lines: str) -> list[bytes]:
    """To the store, past the gateway; the first line of each reply."""
    reader, writer = await asyncio.open_unix_connection(valkey.address.url.removeprefix("unix://"))
    replies = []
    for line in lines:
        writer.write(line.encode() + b"\r\n")
        replies.append(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return replies


async def answered(running: Gateway, count: int, *, at_once: bool = False) -> list[Got]:
    """Different requests, JSON and streams; all must be right, and none may wait long for the store."""

    async def one(number: int) -> Got:
        nonce, stream = new_nonce(), bool(number % 2)
        got = await post(running, chat_body(nonce, stream=stream))
        assert verdict(got, nonce, stream=stream) is None
        assert how(got) == "miss"
        assert got.seconds < UPSTREAM_S + MOST_S + (AT_ONCE_S if at_once else MARGIN_S)
        return got

    if at_once:
        return list(await asyncio.gather(*map(one, range(count))))
    return [await one(number) for number in range(count)]


async def cache_numbers(running: Gateway) -> dict:
    got = await running.get("/stats")
    assert got.status == 200
    assert got.seconds < 1.5
    return got.json["cache"]


async def delete(running: Gateway) -> Got:
    async with Client(running.root) as client:
        return await client.request("DELETE", "/cache")


def is_503_of_ours(got: Got) -> bool:
    return got.status == 503 and set(got.error) == {"message", "type", "param", "code"}


async def in_use_again(running: Gateway, seconds: float = 2.0) -> None:
    """Answers are written again."""
    written = running.parts.recorder.own().cache
    before = written["written:entries"]
    async with asyncio.timeout(seconds):
        while running.parts.recorder.own().cache["written:entries"] == before:
            await post(running, chat_body(new_nonce()))


def start_again(valkey: Valkey) -> None:
    """On the socket of the one that was killed; the fixture ends this one instead."""
    valkey.process.wait()
    path = Path(valkey.address.url.removeprefix("unix://"))
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    valkey.process = subprocess.Popen([str(embedded_binary()), *options], cwd=path.parent, stdout=subprocess.DEVNULL)


# -- away


@pytest.mark.parametrize("away", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
async def test_requests_are_answered_while_the_store_is_away(running, own_valkey, away):
    await answered(running, 2)
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 2)
    own_valkey.process.send_signal(away)
    got = [*await answered(running, 10), *await answered(running, 40, at_once=True), *await answered(running, 10)]

    assert statistics.median(one.seconds for one in got[-10:]) < UPSTREAM_S + MOST_S
    trouble = (await cache_numbers(running))["store_trouble"]
    assert trouble["read"] == {"away": 60}
    assert set(trouble["write"]) <= {"away"}
    assert is_503_of_ours(await delete(running))


async def test_equal_requests_still_make_one_call_in_a_worker_while_the_store_is_frozen(
    running, own_valkey, slow_upstream
):
    await answered(running, 1)
    own_valkey.process.send_signal(signal.SIGSTOP)
    for stream in (False, True):
        body = chat_body(new_nonce(), stream=stream)
        before = len(slow_upstream.requests)
        got = await asyncio.gather(*(post(running, body) for _ in range(20)))
        assert len(slow_upstream.requests) == before + 1
        assert len({one.body for one in got}) == 1


async def test_a_store_that_thaws_is_in_use_again(running, own_valkey):
    await answered(running, 1)
    own_valkey.process.send_signal(signal.SIGSTOP)
    await answered(running, 4, at_once=True)
    own_valkey.process.send_signal(signal.SIGCONT)
    await in_use_again(running)
    assert (await delete(running)).status == 200


async def test_a_store_that_is_started_again_is_in_use_again(running, own_valkey):
    await answered(running, 1)
    own_valkey.process.kill()
    await answered(running, 4, at_once=True)
    start_again(own_valkey)
    await in_use_again(running)


async def test_a_store_that_is_not_there_at_the_start_costs_little(slow_upstream, tmp_path):
    fresh = await Gateway.start(
        configuration(slow_upstream, general={"cache": True}), StoreAddress("given", f"unix://{tmp_path}/none")
    )
    try:
        await answered(fresh, 10)
        assert is_503_of_ours(await delete(fresh))
    finally:
        await fresh.stop()


async def test_a_store_that_pauses_for_a_moment_fails_nothing(running, own_valkey):
    await answered(running, 1)
    await say(own_valkey, "CLIENT PAUSE 600 ALL")
    await answered(running, 30, at_once=True)
    await in_use_again(running)


# -- there, but refusing


@pytest.mark.parametrize(
    ("how_it_refuses", "reason"),
    [
        (("CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"), "OutOfMemoryError"),
        (("REPLICAOF 127.0.0.1 1",), "ReadOnlyError"),
    ],
    ids=["full", "read-only"],
)
async def test_a_store_that_takes_nothing_still_gives_what_it_has(running, own_valkey, how_it_refuses, reason):
    body = {stream: chat_body(new_nonce(), stream=stream) for stream in (False, True)}
    first = {stream: await post(running, sent) for stream, sent in body.items()}
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 2)
    assert set(await say(own_valkey, *how_it_refuses)) == {b"+OK\r\n"}
    running.parts.cache.forget()

    for stream, sent in body.items():
        got = await post(running, sent)
        assert (how(got), got.body) == ("hit", first[stream].body)
    await answered(running, 20, at_once=True)
    numbers = await cache_numbers(running)
    assert numbers["hits_by_tier"]["store"] == 2
    trouble = numbers["store_trouble"]
    assert (trouble["read"], set(trouble["write"])) == ({reason: 11}, {reason})  # whole answers, found or not


async def test_a_read_only_store_does_not_pretend_to_delete(running, own_valkey):
    await answered(running, 1)
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 1)
    await say(own_valkey, "REPLICAOF 127.0.0.1 1")
    assert is_503_of_ours(await delete(running))


async def test_a_full_store_can_be_emptied(running, own_valkey):
    """That is when an operator wants to."""
    await asyncio.gather(*(post(running, chat_body(new_nonce(), size=1_200_000)) for _ in range(3)))  # not compressed
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 3)
    [told] = await running.parts.store.run(("INFO", "memory"))
    used = int(told.partition(b"used_memory:")[2].split()[0])
    await say(own_valkey, f"CONFIG SET maxmemory {used - 100_000}")
    assert (await running.parts.store.run(("SET", "x", "y")))[0].status_code == "OOM"

    assert (await delete(running)).json["deleted_entries"] == 3
    await in_use_again(running)


async def test_a_store_that_asks_for_a_password_all_of_a_sudden(running, own_valkey):
    await answered(running, 1)
    await say(own_valkey, "CONFIG SET requirepass secret", "CLIENT KILL TYPE normal")
    await asyncio.sleep(0.05)
    await answered(running, 10)
    assert (await cache_numbers(running))["store_trouble"]["read"]["away"] >= 9
    assert is_503_of_ours(await delete(running))


# -- there, with something else under our keys


_GENERATIONS = 32  # bytes before the entry itself


def _older(value: bytes) -> bytes:
    return value[:_GENERATIONS] + b"\x00" + value[_GENERATIONS + 1 :]


SPOILT = {
    "empty": lambda value, other: b"",
    "another answer's": lambda value, other: other,
    "cut": lambda value, other: value[: len(value) // 2],
    "without its last byte": lambda value, other: value[:-1],
    "with another byte behind": lambda value, other: value + b"x",
    "of another version": lambda value, other: _older(value),
    "said to be compressed": lambda value, other: value[:_GENERATIONS] + b"\x02" + value[_GENERATIONS + 1 :],
    "said to be large": lambda value, other: b"\x00large",
    "text": lambda value, other: b"hello",
    "compressed rubbish": lambda value, other: b"\x02" + zlib.compress(os.urandom(99)),
}


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
@pytest.mark.parametrize("spoilt", SPOILT)
async def test_a_spoilt_value_is_a_miss_and_replaced(upstreams, gateway, spoilt, stream):
    (a,) = await upstreams(1)
    running = await gateway(a, general={"cache": True})
    nonces = [new_nonce(), new_nonce()]
    values = {}
    for nonce in nonces:
        await post(running, chat_body(nonce, stream=stream))
        await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == len(values) + 1)
        (key,) = set(await kept(running)) - values.keys()
        (values[key],) = await running.parts.store.run(("GET", key))
    (key, value), (_, other) = values.items()
    await running.parts.store.run(("SET", key, SPOILT[spoilt](value, other)))
    running.parts.cache.forget()
    got = await post(running, chat_body(nonces[0], stream=stream))

    assert (verdict(got, nonces[0], stream=stream), how(got)) == (None, "miss")
    assert got.seconds < 0.5
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 3)
    running.parts.cache.forget()
    assert how(await post(running, chat_body(nonces[0], stream=stream))) == "hit"


async def test_an_answer_of_the_last_moment_is_kept_by_a_worker_that_stops(slow_upstream, own_valkey):
    config, nonce = configuration(slow_upstream, general={"cache": True}), new_nonce()
    one, other = [await Gateway.start(config, own_valkey.address) for _ in range(2)]
    await post(one, chat_body(nonce))
    await one.stop()
    got = await post(other, chat_body(nonce))
    await other.stop()
    assert (verdict(got, nonce, stream=False), how(got)) == (None, "hit")
    assert one.parts.recorder.own().cache["written:entries"] == 1


@pytest.mark.parametrize("kind", ["a", "l"])
@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
async def test_a_foreign_type_under_our_keys_fails_nothing(upstreams, gateway, stream, kind):
    (a,) = await upstreams(1)
    running = await gateway(a, general={"cache": True})
    nonce = new_nonce()
    await post(running, chat_body(nonce, stream=stream))
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 1)
    (key,) = await kept(running)
    if kind == "l":
        await running.parts.store.run(("SET", key, b"\x00large"))
    else:
        await running.parts.store.run(("UNLINK", key))
    await running.parts.store.run(("RPUSH", key.replace(b":a:", f":{kind}:".encode()), "x"))
    running.parts.cache.forget()
    got = await post(running, chat_body(nonce, stream=stream))

    assert (verdict(got, nonce, stream=stream), how(got)) == (None, "miss")
    assert got.seconds < 0.5
