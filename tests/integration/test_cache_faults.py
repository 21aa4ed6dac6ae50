"""What goes wrong around kept answers: upstreams that stop, clients that leave, a store that is late. Never a wrong one."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from cache_app.store import TOKEN_BYTES
from tests.fakes import behaviours as b
from tests.fakes.cut import cut_anywhere
from tests.fakes.load import Client, Got, verdict
from tests.fakes.nonce import chat_body, new_nonce, question
from tests.fakes.scripted import Behaviour, Exchange, RecordedRequest
from tests.fakes.slow_store import SlowStore
from tests.fakes.truth import EVENT_STREAM, events
from tests.integration.in_process import Gateway, configuration

CHAT, RESPONSES = "/chat/completions", "/responses"
GENERAL = {"cache": True, "allowed_fails": 1_000_000}


async def post(running: Gateway, body: bytes, path: str = CHAT) -> Got:
    async with running.client() as client:
        return await client.post(path, body)


def how(got: Got) -> str:
    return got.headers["x-llmproxy-cache"]


async def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - of code that knows nothing of tests
            await asyncio.sleep(0.01)


async def kept(running: Gateway, kind: str = "a") -> list[bytes]:
    """The store's keys of one kind: `a` for answers, not for who asks for one now, `l` for large answers."""
    store = running.parts.store
    (keys,) = await store.run(("KEYS", f"llmproxy.cache:*:{kind}:*"))
    sizes = await store.run(*(("STRLEN", key) for key in keys)) if keys else []
    return [key for key, size in zip(keys, sizes, strict=True) if size != TOKEN_BYTES]


# -- upstreams that stop


def cut_body(nonce: str, path: str, stream: bool) -> bytes:
    if path == CHAT:
        return chat_body(nonce, stream=stream)
    return b'{"model": "m", "input": "%b", "stream": %b}' % (question(nonce).encode(), b"true" if stream else b"false")


@pytest.mark.parametrize("buffered", [False, True], ids=["passed on", "buffered"])
@pytest.mark.parametrize(
    ("streams", "jsons"), [(100, 30), pytest.param(10_000, 2_000, marks=pytest.mark.full)], ids=["some", "all"]
)
async def test_nothing_is_kept_of_answers_that_are_cut(upstreams, gateway, streams, jsons, buffered):
    (a,) = await upstreams(1)
    rng = random.Random(streams)
    a.always = cut_anywhere(rng)
    general = GENERAL | {"num_retries": 0, "idle_timeout": 0.2, "http_timeout": 0.5, "cooldown_time": 0}
    running = await gateway(a, general=general, group={"stream_recovery": "buffer" if buffered else "error"})
    asked = [
        (cut_body(new_nonce(), path := rng.choice([CHAT, RESPONSES]), number < streams), path)
        for number in range(streams + jsons)
    ]
    left = iter(asked)

    async def ask_on() -> None:
        for body, path in left:
            for got in await asyncio.gather(*(post(running, body, path) for _ in range(rng.choice([1, 1, 3])))):
                assert how(got) in ("miss", "hit")
                assert got.status in (200, 502, 504)

    await asyncio.gather(*(ask_on() for _ in range(40)))

    assert [await kept(running, kind) for kind in "afl"] == [[], [], []]
    assert running.parts.recorder.own().cache["written:entries"] == 0
    assert running.parts.cache.nobody_waits()
    a.always = b.honest()
    for body, path in rng.sample(asked, 30):
        got = await post(running, body, path)
        assert (got.status, how(got)) == (200, "miss")


# -- clients that leave


async def test_a_client_that_leaves_at_done_has_got_its_answer_and_it_is_kept(upstreams, gateway):
    """As SDKs do: they close what they have read to its [DONE]."""
    (a,) = await upstreams(1)
    a.always = Behaviour(_late_end)
    running = await gateway(a, general=GENERAL)
    body = chat_body(new_nonce(), stream=True)
    client = running.client()
    await client.start("POST", CHAT, body)
    got = await client.head()
    while b"[DONE]" not in got.body:
        got.body += await client.piece(got)
    client.close()
    await eventually(running.parts.cache.nobody_waits)
    again = await post(running, body)

    assert (how(again), again.body) == ("hit", got.body)
    requests = running.parts.recorder.own().requests
    assert (requests.success, requests.cancelled) == (2, 0)


async def _late_end(exchange: Exchange) -> None:
    """All events, and a moment later the end of the body."""
    await exchange.head(200, *EVENT_STREAM)
    for event in events(exchange.request, exchange.nonce, exchange.size):
        await exchange.chunk(event)
    await exchange.silence(0.08)
    await exchange.write(b"0\r\n\r\n")


async def test_a_client_that_leaves_while_the_store_is_asked_holds_up_nobody(upstreams, valkey, store):
    (a,) = await upstreams(1)
    async with SlowStore(valkey) as slow, running_on(slow, a) as running:
        await post(running, chat_body(new_nonce()))  # connects
        bodies = [chat_body(new_nonce()) for _ in range(8)]
        slow.delay = lambda: 0.03
        for number, body in enumerate(bodies):  # whether it is seen in time depends on when the worker looks
            other = asyncio.ensure_future(post(running, chat_body(new_nonce())))
            await asyncio.sleep(0.005 * number)
            client = running.client()
            await client.start("POST", CHAT, body)
            await asyncio.sleep(0.005)
            client.close()
            await other
        await eventually(running.parts.cache.nobody_waits)
        slow.delay = lambda: 0.0
        await asyncio.sleep(0.1)
        again = [await post(running, body) for body in bodies]

    assert max(got.seconds for got in again) < 0.5


async def test_a_reply_of_the_store_that_comes_too_late_holds_up_nobody(upstreams, gateway, valkey):
    """It was the leave to ask: who did not hear of it must not keep others waiting."""
    (a,) = await upstreams(1)
    other = await gateway(a, general=GENERAL)
    await post(other, chat_body(new_nonce()))
    async with SlowStore(valkey) as slow, running_on(slow, a) as running:
        await post(running, chat_body(new_nonce()))
        a.then(b.status(400))
        body = chat_body(new_nonce())
        slow.freeze()
        first = await post(running, body)
        slow.thaw()
        await asyncio.sleep(0.4)  # the line is back
        second = await post(other, body)

    assert (first.status, second.status) == (400, 200)
    assert first.seconds < 0.3
    assert second.seconds < 0.5


class running_on:
    """A gateway whose store is behind this front."""

    def __init__(self, slow: SlowStore, *upstreams: object, **general: object) -> None:
        self._slow, self._text = slow, configuration(*upstreams, general=GENERAL | general)

    async def __aenter__(self) -> Gateway:
        self._running = await Gateway.start(self._text, self._slow.address)
        return self._running

    async def __aexit__(self, *_: object) -> None:
        self._slow.thaw()
        await self._running.stop()


# -- all at a time


@dataclass
class Crowd:
    """Clients that ask for the same few answers, in JSON and as streams, and often leave before they have them."""

    workers: list[Gateway]
    requests: int
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    done: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._nonces = [new_nonce() for _ in range(8)]
        self._left = iter(range(self.requests))

    async def ask_all(self, clients: int = 40) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._ask_on())

    async def _ask_on(self) -> None:
        rng = self.rng
        for number in self._left:
            if number % 20 == 0:
                self._nonces[rng.randrange(len(self._nonces))] = new_nonce()
            nonce, stream = rng.choice(self._nonces), rng.random() < 0.5
            async with rng.choice(self.workers).client() as client:
                leaves = rng.random() < 0.35
                self.done[await self._one(client, nonce, stream, rng.uniform(0, 0.08) if leaves else None)] += 1

    async def _one(self, client: Client, nonce: str, stream: bool, leaves_after_s: float | None) -> str:
        sent = chat_body(nonce, stream=stream, size=self.rng.choice([0, 900]) + 300)
        with suppress(TimeoutError):
            async with asyncio.timeout(leaves_after_s or 30):
                got = await client.post(CHAT, sent)
            self.slowest_s = max(self.slowest_s, got.seconds)
            return verdict(got, nonce, stream=stream) or f"right, {how(got)}"
        return "left" if leaves_after_s else "never answered"


@pytest.mark.parametrize("requests", [500, pytest.param(50_000, marks=pytest.mark.full)])
async def test_a_slow_store_and_clients_that_leave_mix_nothing_up(upstreams, valkey, store, requests):
    (a,) = await upstreams(1)
    rng = random.Random(requests)
    a.always = lambda request: _fair_upstream(request, rng)
    async with (
        SlowStore(valkey, lambda: 0.08 * rng.random() ** 3) as slow,
        running_on(slow, a) as one,
        running_on(slow, a) as other,
    ):
        freezing = asyncio.ensure_future(_freeze_now_and_then(slow, rng))
        crowd = Crowd([one, other], requests)
        await crowd.ask_all()
        freezing.cancel()
        slow.thaw()
        for running in (one, other):
            await eventually(running.parts.cache.nobody_waits, 1)
            await eventually(lambda running=running: not sum(running.parts.in_flight().values()), 1)
        await eventually(lambda: not a.in_flight, 1)
        await asyncio.sleep(2.1)  # what a lost reply may leave behind
        assert await kept(one, "f") == []

    wrong = {what: count for what, count in crowd.done.items() if what != "left" and not what.startswith("right")}
    assert wrong == {}
    assert crowd.done["right, hit"] > requests / 10, crowd.done
    assert crowd.done["left"] > requests / 20, crowd.done


def _fair_upstream(request: RecordedRequest, rng: random.Random) -> Behaviour:
    """Now and then a failure, which another attempt makes good."""
    if rng.random() < 0.02:
        return b.status(500)
    return b.honest(delay=rng.uniform(0, 0.03), interval=rng.choice([0, 0, 0.002]))


async def _freeze_now_and_then(slow: SlowStore, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.3, 1.5))
        slow.freeze()
        await asyncio.sleep(rng.uniform(0, 0.3))
        slow.thaw()


async def test_every_routed_request_is_a_hit_a_miss_or_bypassed(upstreams, gateway, monkeypatch):
    (a,) = await upstreams(1)
    rng = random.Random(7)
    a.always = lambda request: rng.choice(
        [b.honest(delay=0.02), b.status(400), b.interrupted(3, "close"), b.status(500)]
    )
    running = await gateway(a, general=GENERAL | {"num_retries": 1})
    routed = Counter()
    door_to = running.parts.entrance.gateway
    answer, at_hand = door_to.answer, door_to.at_hand

    async def counted(request, presence):
        routed["requests"] += request.model == "m" or request.route.kind == "item"
        return await answer(request, presence)

    def counted_at_hand(*asked):
        found = at_hand(*asked)
        routed["requests"] += found is not None
        return found

    monkeypatch.setattr(door_to, "answer", counted)
    monkeypatch.setattr(door_to, "at_hand", counted_at_hand)
    crowd = Crowd([running], 300, rng)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.ask_all(20))
        for number in range(40):
            fields = rng.choice([{"cache": {"no-cache": True}}, {"store": True}, {"cache": {"no-store": True}}, {}])
            group.create_task(post(running, chat_body(new_nonce(), model=rng.choice("mmx"), **fields)))
            if number % 4 == 0:
                group.create_task(running.get("/v1/responses/resp_x"))
    await eventually(lambda: not sum(running.parts.in_flight().values()))
    await asyncio.sleep(0.1)
    told = (await running.get("/stats")).json

    cache, requests = told["cache"], told["requests"]
    assert cache["hits"] + cache["misses"] + cache["bypassed"] == routed["requests"] > 300
    assert requests["total"] == sum(requests[one] for one in ("succeeded", "failed", "rejected", "cancelled"))
    assert 0 < requests["cache_hits"] <= min(cache["hits"], requests["succeeded"])
    assert sum(cache["hits_by_tier"].values()) == cache["hits"]
    assert min(cache["misses"], cache["bypassed"], requests["cancelled"]) > 0
