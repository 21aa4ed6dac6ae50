"""Cooldowns: what starts one, what ends it, and what a group does when everything cools."""

import asyncio
import time

import pytest

from tests.fakes import behaviours as b
from tests.fakes.load import load
from tests.integration.conftest import StartGateway, StartUpstreams


async def test_allowed_fails_in_a_row_start_a_cooldown(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    bad.always = b.status(500)
    proxy = await gateway(bad, good, group={"allowed_fails": 3})
    for _ in range(12):
        assert (await proxy.ask()).verdict is None
    assert len(bad.requests) == 3
    assert (await proxy.endpoint("a"))["status"] == "cooling_down"


async def test_a_success_between_failures_starts_the_count_anew(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    shaky, good = await upstreams(2)
    proxy = await gateway(shaky, good, group={"allowed_fails": 2})
    for _ in range(3):
        shaky.then(b.status(500), b.honest())
    for _ in range(12):
        assert (await proxy.ask()).verdict is None
    assert len(shaky.requests) == 6
    assert (await proxy.endpoint("a"))["status"] == "healthy"


async def test_a_success_after_the_cooldown_heals(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    shaky, good = await upstreams(2)
    shaky.then(b.status(500))
    proxy = await gateway(shaky, good, general={"cooldown_time": 0.5})
    assert (await proxy.ask()).verdict is None
    await asyncio.sleep(0.6)
    for _ in range(6):
        assert (await proxy.ask()).verdict is None
        await asyncio.sleep(0.05)
    state = await proxy.endpoint("a")
    assert (state["status"], state["consecutive_failures"], state["cooldown_until"]) == ("healthy", 0, None)
    assert len(shaky.requests) > 1


async def test_a_failed_probe_cools_again(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    bad.always = b.status(500)
    proxy = await gateway(bad, good, general={"cooldown_time": 0.5})
    begin = time.monotonic()
    while time.monotonic() - begin < 1.8:
        assert (await proxy.ask()).verdict is None
        await asyncio.sleep(0.02)
    assert 2 <= len(bad.requests) <= 4  # one at the start, then one per half second


async def test_one_probe_at_a_time(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    bad.then(b.status(500))
    proxy = await gateway(bad, good, general={"cooldown_time": 0.4, "http_timeout": 5})
    await proxy.ask()
    bad.always = b.honest(delay=0.5)
    await asyncio.sleep(0.5)
    result = await load(proxy.url, 60, clients=10, stream_share=0)
    assert not result.failures
    assert bad.most_in_flight == 1


async def test_one_poisonous_prompt_starts_one_cooldown_at_most(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    four = await upstreams(4)
    for upstream in four:
        upstream.always = b.status(500)
    proxy = await gateway(*four)
    got = await proxy.ask()
    assert (got.status, got.headers["x-llmproxy-attempts"]) == (500, "4")
    states = [(await proxy.endpoint(name))["status"] for name in "abcd"]
    assert states.count("cooling_down") == 1


async def test_the_last_available_endpoint_cools_only_after_three_failures(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (only,) = await upstreams(1)
    only.always = b.status(500)
    proxy = await gateway(only, general={"num_retries": 0})
    for _ in range(2):
        assert (await proxy.ask()).status == 500
        assert (await proxy.endpoint("a"))["status"] == "healthy"
    assert (await proxy.ask()).status == 500
    assert (await proxy.endpoint("a"))["status"] == "cooling_down"
    # One request a second may still look whether it is back.
    assert [(await proxy.ask()).status for _ in range(3)][1:] == [503, 503]


async def test_a_refused_last_endpoint_cools_at_once(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    await only.stop()
    proxy = await gateway(only, general={"num_retries": 0})
    assert (await proxy.ask()).status == 502
    assert (await proxy.endpoint("a"))["status"] == "cooling_down"


async def test_a_slow_success_does_not_end_a_newer_cooldown(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    shaky, good = await upstreams(2)
    shaky.then(b.honest(delay=0.6), b.status(500))
    proxy = await gateway(shaky, good)
    slow = asyncio.ensure_future(proxy.ask())
    await shaky.wait_for_requests(1)
    while len(shaky.requests) < 2:
        await proxy.ask()
    assert (await slow).verdict is None
    assert (await proxy.endpoint("a"))["status"] == "cooling_down"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("retry-after: 20", 20),
        ("retry-after-ms: 20000", 20),
        ("retry-after: 0", 1),
        ("retry-after: -1", 1),
        ("retry-after: 1e9", 300),
        ("retry-after: soon", 30),
        ("x-nothing: 1", 30),
    ],
)
async def test_a_429_cools_for_as_long_as_it_says(
    header: str, seconds: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    limited, good = await upstreams(2)
    limited.always = b.rate_limited(header)
    proxy = await gateway(limited, good)
    assert (await proxy.ask()).verdict is None
    good.always = b.rate_limited("retry-after: 300")
    await proxy.ask()
    got = await proxy.ask()
    assert (got.status, len(limited.requests)) == (429, 1)
    assert seconds - 2 <= int(got.headers["retry-after"]) <= seconds


async def test_a_date_in_retry_after_counts(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (limited,) = await upstreams(1)
    limited.always = b.rate_limited(b.retry_after_date(100, time.time()))
    proxy = await gateway(limited)
    await proxy.ask()
    got = await proxy.ask()
    assert (got.status, len(limited.requests)) == (429, 1)
    assert 95 <= int(got.headers["retry-after"]) <= 100


async def test_the_later_deadline_wins(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (limited,) = await upstreams(1)
    limited.then(b.status(429, "retry-after: 7", delay=0.4), b.rate_limited("retry-after: 200"))
    proxy = await gateway(limited)
    slow = asyncio.ensure_future(proxy.ask())
    await limited.wait_for_requests(1)
    await proxy.ask()  # says 200 seconds, before the slow one says 7
    await slow
    got = await proxy.ask()
    assert int(got.headers["retry-after"]) > 190


async def test_an_outage_ends_soon_after_the_upstreams_return(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    """Everything cools for half a minute, yet clients are served within seconds, and upstreams are spared meanwhile."""
    both = await upstreams(2)
    proxy = await gateway(*both)
    for upstream in both:
        await upstream.stop()
    statuses, begin = [], time.monotonic()
    while time.monotonic() - begin < 1.5:
        got = await proxy.ask()
        statuses.append(got.status)
        if got.status == 503:
            assert got.headers["retry-after"] == "1"
            assert got.seconds < 1  # at once; a busy machine is given time
        await asyncio.sleep(0.02)
    assert set(statuses) <= {502, 503}
    for upstream in both:
        await upstream.start()
    back = time.monotonic()
    while (await proxy.ask()).status != 200:  # noqa: ASYNC110 - the clients' view is the point
        await asyncio.sleep(0.02)
    assert time.monotonic() - back < 5


async def test_attempts_stay_low_while_everything_is_down(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    three = await upstreams(3)
    for upstream in three:
        upstream.always = b.status(503)
    proxy = await gateway(*three)
    requests = 200
    for _ in range(requests):
        await proxy.ask()
    assert sum(len(upstream.requests) for upstream in three) <= requests * 1.1
