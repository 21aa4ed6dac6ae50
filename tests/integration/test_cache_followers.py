"""Those who ask for what is asked for already: what the first of them suffers must not become theirs."""

import asyncio
import random

import pytest

from tests.fakes import behaviours as b
from tests.fakes.load import verdict
from tests.fakes.nonce import chat_body, new_nonce
from tests.integration.test_cache_faults import CHAT, GENERAL, eventually, how, post


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_upstream_that_hangs_keeps_nobody_longer_than_alone(upstreams, gateway, workers):
    """Nobody waits for others and then begins anew: no request lasts longer than twice `http_timeout`."""
    (a,) = await upstreams(1)
    a.always = b.silence
    general = GENERAL | {"http_timeout": 0.5, "num_retries": 0}
    running = [await gateway(a, general=general) for _ in range(workers)]
    body = chat_body(new_nonce())
    got = await asyncio.gather(*(post(running[n % workers], body) for n in range(8)))

    assert {one.status for one in got} == {504}
    assert max(one.seconds for one in got) < 2 * 0.5 + 0.4


async def test_a_stream_that_hangs_keeps_nobody_longer_than_alone(upstreams, gateway):
    a, other = await upstreams(2)
    a.always = other.always = b.silence
    general = GENERAL | {"first_event_timeout": 0.4, "stream_timeout": 0.8, "num_retries": 1}
    running = await gateway(a, other, general=general)
    alone = await post(running, chat_body(new_nonce(), stream=True))
    body = chat_body(new_nonce(), stream=True)
    got = await asyncio.gather(*(post(running, body) for _ in range(8)))

    assert {one.status for one in got} == {504}
    assert max(one.seconds for one in got) < 2 * alone.seconds + 0.4


@pytest.mark.parametrize("interval", [0, 0.005])
async def test_a_stream_that_is_too_large_to_be_kept_is_whole_for_everybody(upstreams, gateway, interval):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.2, interval=interval)
    running = await gateway(a, general=GENERAL | {"cache_params": {"max_entry_bytes": 20_000}})
    for _ in range(3):
        nonce = new_nonce()
        body = chat_body(nonce, stream=True, size=200_000)
        got = await asyncio.gather(*(post(running, body) for _ in range(10)))
        assert {verdict(one, nonce, stream=True) for one in got} == {None}
    assert running.parts.recorder.own().cache["written:entries"] == 0


async def test_a_leader_that_does_not_read_holds_up_nobody(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.2)
    running = await gateway(a, general=GENERAL)
    nonce = new_nonce()
    body = chat_body(nonce, stream=True, size=8_000_000)
    leader = running.client()
    await leader.start("POST", CHAT, body)
    await a.wait_for_requests(1)
    got = await asyncio.gather(*(post(running, body) for _ in range(3)))

    assert {(verdict(one, nonce, stream=True), how(one)) for one in got} == {(None, "hit")}
    assert len(a.requests) == 1
    late = await leader.finish(await leader.head())
    assert verdict(late, nonce, stream=True) is None
    leader.close()


@pytest.mark.parametrize("stays", [0, 3, 7])
async def test_whoever_stays_gets_all_of_it(upstreams, gateway, stays):
    """Eight ask, all but one leave, each after another piece."""
    (a,) = await upstreams(1)
    a.always = b.honest(interval=0.03)
    running = await gateway(a, general=GENERAL)
    nonce, rng = new_nonce(), random.Random(stays)
    body = chat_body(nonce, stream=True, size=5000)

    async def leave_soon() -> None:
        async with running.client() as client:
            await client.start("POST", CHAT, body)
            await asyncio.sleep(rng.uniform(0, 0.25))

    asking = [post(running, body) if n == stays else leave_soon() for n in range(8)]
    got = (await asyncio.gather(*asking))[stays]

    assert verdict(got, nonce, stream=True) is None
    assert len(a.requests) <= 2  # the first may have left before anybody waited for it
    await eventually(running.parts.cache.nobody_waits)


async def test_those_who_wait_for_an_answer_that_is_not_kept_are_all_answered(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.body(200, b'{"object":"chat.completion","choices":[{"index":0,"message":{"content":""}}]}', delay=0.1)
    running = [await gateway(a, general=GENERAL) for _ in range(2)]
    body = chat_body(new_nonce())
    got = await asyncio.gather(*(post(running[n % 2], body) for n in range(30)))

    assert {one.status for one in got} == {200}
    assert max(one.seconds for one in got) < 1.5
