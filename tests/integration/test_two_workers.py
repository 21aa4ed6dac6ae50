"""Two workers that share nothing but the store: what one learns, the other obeys."""

import asyncio
import time

from tests.fakes import behaviours as b
from tests.fakes.load import load
from tests.fakes.nonce import new_nonce, question
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway

LEARNT_S = 0.25


async def status(proxy: Gateway, name: str = "a") -> str:
    told: str = (await proxy.endpoint(name))["status"]
    return told


async def test_a_cooldown_is_obeyed_by_the_other_within_250_ms(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    bad, good = await upstreams(2)
    one, other = await gateway(bad, good), await gateway(bad, good)
    bad.always = b.status(500)
    assert (await one.ask()).verdict is None
    await asyncio.sleep(LEARNT_S)
    for _ in range(4):
        assert (await other.ask()).headers["x-llmproxy-attempts"] == "1"
    assert (len(bad.requests), await status(other)) == (1, "cooling_down")


async def test_a_rate_limit_is_obeyed_by_the_other_for_as_long_as_it_lasts(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (limited,) = await upstreams(1)
    one, other = await gateway(limited), await gateway(limited)
    limited.always = b.rate_limited("retry-after: 40")
    assert (await one.ask()).status == 429
    await asyncio.sleep(LEARNT_S)
    got = await other.ask()
    assert (got.status, len(limited.requests)) == (429, 1)
    assert 38 <= int(got.headers["retry-after"]) <= 40


async def test_failures_in_a_row_are_counted_together(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    both = [await gateway(bad, good, group={"allowed_fails": 4}) for _ in range(2)]
    bad.always = b.status(500)
    for _ in range(4):
        for proxy in both:
            assert (await proxy.ask()).verdict is None
            await asyncio.sleep(0.05)
    await asyncio.sleep(LEARNT_S)
    assert [await status(proxy) for proxy in both] == ["cooling_down"] * 2
    assert len(bad.requests) == 4


async def test_one_probe_for_all_and_its_success_heals_everywhere(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    shaky, good = await upstreams(2)
    both = [await gateway(shaky, good, general={"cooldown_time": 0.6}) for _ in range(2)]
    shaky.then(b.status(500))
    await both[0].ask()
    shaky.always = b.honest(delay=0.4)
    await asyncio.sleep(0.7)

    async def ask_on(proxy: Gateway) -> None:
        for _ in range(12):
            assert (await proxy.ask()).verdict is None
            await asyncio.sleep(0.03)

    loads = [asyncio.ensure_future(ask_on(proxy)) for proxy in both]
    await shaky.wait_for_requests(2)
    await asyncio.sleep(0.3)
    assert len(shaky.requests) == 2
    await asyncio.gather(*loads)
    await asyncio.sleep(LEARNT_S)
    assert [await status(proxy) for proxy in both] == ["healthy"] * 2


async def test_a_failed_probe_cools_everywhere(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    both = [await gateway(bad, good, general={"cooldown_time": 0.5}) for _ in range(2)]
    bad.always = b.status(500)
    begin = time.monotonic()
    while time.monotonic() - begin < 1.7:
        for proxy in both:
            assert (await proxy.ask()).verdict is None
        await asyncio.sleep(0.02)
    assert 2 <= len(bad.requests) <= 5  # once, then one probe per half second for both together


async def test_a_worker_that_starts_later_knows_what_cools(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    one = await gateway(bad, good)
    bad.always = b.status(500)
    await one.ask()
    await asyncio.sleep(0.1)
    late = await gateway(bad, good)
    await asyncio.sleep(LEARNT_S)
    for _ in range(3):
        assert (await late.ask()).headers["x-llmproxy-attempts"] == "1"


async def test_numbers_are_those_of_both(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    both = [await gateway(upstream) for _ in range(2)]
    await asyncio.gather(*(load(proxy.url, 25, clients=5) for proxy in both))
    await asyncio.sleep(0.5)  # counters are flushed every 200 ms
    for proxy in both:
        told = (await proxy.get("/stats")).json
        assert (told["requests"]["total"], told["requests"]["succeeded"]) == (50, 50)
        assert told["model_groups"]["m"][0]["state"]["successful_requests"] == 50


async def test_a_response_made_by_one_is_found_by_the_other(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    first, second = await upstreams(2)
    one, other = await gateway(first, second), await gateway(first, second)
    for _ in range(4):
        async with one.client() as client:
            made = await client.post("/responses", {"model": "m", "input": question(new_nonce())})
        before = len(first.requests), len(second.requests)
        async with other.client() as client:
            got = await client.get(f"/responses/{made.json['id']}")
        maker = 0 if made.headers["x-llmproxy-endpoint"] == "a" else 1
        assert got.headers["x-llmproxy-endpoint"] == made.headers["x-llmproxy-endpoint"]
        after = len(first.requests), len(second.requests)
        assert (after[maker], after[1 - maker]) == (before[maker] + 1, before[1 - maker])
