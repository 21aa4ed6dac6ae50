"""How many attempts a request makes, on which endpoints, and when it waits between them."""

import asyncio
import time

import pytest

from tests.fakes import behaviours as b
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import endpoint


async def test_at_most_one_attempt_more_than_num_retries(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    five = await upstreams(5)
    for upstream in five:
        upstream.always = b.status(500)
    got = await (await gateway(*five, general={"num_retries": 2})).ask()
    assert (got.status, got.headers["x-llmproxy-attempts"]) == (500, "3")
    assert sorted(len(upstream.requests) for upstream in five) == [0, 0, 1, 1, 1]


async def test_distinct_endpoints_first_then_the_same_after_a_wait(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (only,) = await upstreams(1)
    only.then(b.status(500), b.status(500))
    got = await (await gateway(only)).ask()
    assert (got.verdict, got.headers["x-llmproxy-attempts"]) == (None, "3")
    first, second, third = (request.at for request in only.requests)
    assert 0.02 < second - first < 0.4  # 100 ms, jittered
    assert second - first < third - first < 1


async def test_retry_after_is_the_floor_of_the_wait(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    only.then(b.status(503, "retry-after-ms: 700"))
    got = await (await gateway(only)).ask()
    assert got.verdict is None
    assert 0.69 < only.requests[1].at - only.requests[0].at < 1.5


async def test_a_long_retry_after_is_not_waited_for(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    only.always = b.status(503, "retry-after: 5")
    got = await (await gateway(only)).ask()
    assert (got.status, len(only.requests), got.headers["retry-after"]) == (503, 1, "5")
    assert got.seconds < 0.5


async def test_fallback_groups_share_the_budget(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    first, second, third = await upstreams(3)
    first.always = second.always = third.always = b.status(500)
    more = {"model_group": "other", "models": [endpoint("x", second.url), endpoint("y", third.url)]}
    proxy = await gateway(first, group={"fallbacks": ["other"]}, more_groups=(more,), general={"num_retries": 1})
    got = await proxy.ask()
    assert (got.status, got.headers["x-llmproxy-attempts"]) == (500, "2")
    assert (len(first.requests), len(second.requests) + len(third.requests)) == (1, 1)


async def test_a_fallback_group_serves_under_its_own_model_name(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    first.always = b.status(500)
    more = {"model_group": "other", "models": [endpoint("x", second.url)]}
    got = await (await gateway(first, group={"fallbacks": ["other"]}, more_groups=(more,))).ask()
    assert (got.verdict, got.headers["x-llmproxy-endpoint"]) == (None, "x")
    assert second.requests[0].json["model"] == "upstream-model-x"


@pytest.mark.parametrize("fields", [{"background": True}, {"conversation": "conv_1"}])
@pytest.mark.parametrize(
    ("behaviour", "attempts"),
    [(b.rate_limited("retry-after: 9"), 2), (b.status(503), 2), (b.status(500), 1), (b.reset_before_head, 1)],
    ids=["429", "503", "500", "reset"],
)
async def test_what_must_not_run_twice_goes_on_only_if_it_surely_did_not_run(
    behaviour: b.Behaviour, attempts: int, fields: dict[str, object], upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    first.always = behaviour
    proxy = await gateway(first, second)
    async with proxy.client() as client:
        got = await client.post("/responses", {"model": "m", "input": "hi"} | fields)
    assert (len(first.requests), len(second.requests)) == (1, attempts - 1)
    assert (got.status == 200) is (attempts == 2)


async def test_what_must_not_run_twice_survives_a_refused_connection(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    await first.stop()
    async with (await gateway(first, second)).client() as client:
        got = await client.post("/responses", {"model": "m", "input": "hi", "background": True})
    assert (got.status, len(second.requests)) == (200, 1)


async def test_a_timeout_is_retried_once_and_elsewhere_only(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    three = await upstreams(3)
    for upstream in three:
        upstream.always = b.silence
    got = await (await gateway(*three, general={"http_timeout": 0.3})).ask()
    assert got.status == 504
    assert sorted(len(upstream.requests) for upstream in three) == [0, 1, 1]


async def test_no_attempt_goes_on_after_twice_http_timeout(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    four = await upstreams(4)
    for upstream in four:
        upstream.always = b.status(500, delay=0.45)
    got = await (await gateway(*four, general={"http_timeout": 0.5})).ask()
    assert got.seconds < 1.3
    assert sum(len(upstream.requests) for upstream in four) <= 3


async def test_a_full_pool_sends_to_the_next_endpoint_and_blames_nobody(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    first.always = second.always = b.honest(delay=0.4)
    proxy = await gateway(first, second, general={"http_max_connections": 1})
    waiting = [asyncio.ensure_future(proxy.ask()) for _ in range(2)]
    await first.wait_for_requests(1)
    await second.wait_for_requests(1)
    third = await proxy.ask()
    assert (third.status, third.error["code"]) == (503, "overloaded")
    assert "retry-after" in third.headers
    assert [got.verdict for got in await asyncio.gather(*waiting)] == [None, None]
    states = [await proxy.endpoint(name) for name in "ab"]
    assert [(s["status"], s["failed_requests"], s["total_requests"]) for s in states] == [("healthy", 0, 1)] * 2


async def test_more_than_max_in_flight_is_refused_at_once(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.honest(delay=0.4)
    proxy = await gateway(upstream, general={"max_in_flight": 3})
    got = await asyncio.gather(*(proxy.ask() for _ in range(8)))
    refused = [one for one in got if one.status != 200]
    assert len(refused) == 5
    assert {(one.status, one.error["code"]) for one in refused} == {(503, "overloaded")}
    assert all(one.seconds < 0.3 and "retry-after" in one.headers for one in refused)


async def test_weight_zero_serves_only_when_no_weighted_endpoint_can(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    weighted, reserve = await upstreams(2)
    proxy = await gateway(weighted, reserve, weights=(1, 0))
    for _ in range(5):
        assert (await proxy.ask()).verdict is None
    assert len(reserve.requests) == 0
    weighted.always = b.status(500)
    assert (await proxy.ask()).verdict is None
    assert (await proxy.ask()).headers["x-llmproxy-endpoint"] == "b"


async def test_weights_are_exact_over_a_cycle(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    three = await upstreams(3)
    proxy = await gateway(*three, weights=(5, 3, 2))
    for _ in range(30):
        await proxy.ask()
    assert [len(upstream.requests) for upstream in three] == [15, 9, 6]


async def test_least_busy_counts_streams_to_their_last_byte(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    first, second = await upstreams(2)
    first.always = b.honest(interval=0.3)
    proxy = await gateway(first, second, group={"strategy": "least_busy"}, general={"idle_timeout": 5})
    streams = []
    while not first.requests:
        streams.append(asyncio.ensure_future(proxy.ask(stream=True)))
        await asyncio.sleep(0.02)
    for _ in range(10):
        assert (await proxy.ask()).headers["x-llmproxy-endpoint"] == "b"
    for stream in streams:
        stream.cancel()


async def test_lowest_latency_prefers_the_quick_one(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    slow, quick = await upstreams(2)
    slow.always = b.honest(delay=0.15)
    proxy = await gateway(slow, quick, group={"strategy": "lowest_latency"})
    begin = time.monotonic()
    for _ in range(20):
        assert (await proxy.ask()).verdict is None
    assert time.monotonic() - begin < 9
    assert len(quick.requests) >= 15
