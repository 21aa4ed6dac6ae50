"""One of three equal upstreams misbehaves under load, JSON and streams mixed: every client gets its right, whole answer."""

import asyncio
import time

import pytest

from tests.fakes import behaviours as b
from tests.fakes.black_hole import BlackHole
from tests.fakes.load import load
from tests.fakes.scripted import Behaviour, ScriptedUpstream
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway

SIZES = [pytest.param(60, id="short"), pytest.param(6000, id="long", marks=pytest.mark.full)]
CLIENTS = 50


FAULTS: dict[str, Behaviour] = {
    "reset before the head": b.reset_before_head,
    "reset after half of the request": b.reset_after_half_request,
    "reset after the head": b.reset_after_head,
    "closed before the head": b.close_before_head,
    "503 for good": b.status(503),
    "500 for good": b.status(500),
    "429 with seconds": b.rate_limited("retry-after: 20"),
    "429 with a date": b.rate_limited(b.retry_after_date(20, time.time())),
    "429 with 1e9": b.rate_limited("retry-after: 1e9"),
    "429 with nonsense": b.rate_limited("retry-after: soon"),
    "429 without": b.rate_limited(),
    "401": b.status(401),
    "403 without JSON": b.body(403, b"no", kind="text/plain"),
    "404 model_not_found": b.status(404, code="model_not_found"),
    "silence": b.silence,
    "head, then silence": b.silence_after_head,
    "HTML": b.html,
    "empty 200": b.empty,
    "204": b.no_content,
    "301": b.redirect,
    "malformed status line": b.malformed_status_line,
    "not HTTP": b.not_http,
}


async def under_load(proxy: Gateway, bad: ScriptedUpstream, requests: int, *, cooled: bool = True) -> None:
    result = await load(proxy.url, requests, clients=CLIENTS)
    assert (result.done, dict(result.failures)) == (requests, {})
    if cooled:
        # What had been sent before the first failure was known, and its single probes.
        assert len(bad.requests) <= CLIENTS + 5
        assert (await proxy.endpoint("a"))["status"] == "cooling_down"


@pytest.mark.parametrize("requests", SIZES)
@pytest.mark.parametrize("behaviour", FAULTS.values(), ids=FAULTS.keys())
async def test_no_client_notices(
    behaviour: Behaviour, requests: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    bad, good, other = await upstreams(3)
    bad.always = behaviour
    proxy = await gateway(bad, good, other, general={"http_timeout": 2})
    await under_load(proxy, bad, requests)


JSON_FAULTS = {
    "cut short": b.cut_short,
    "trailing garbage": b.trailing_garbage,
    "invalid UTF-8": b.invalid_utf8,
    "NaN": b.not_a_number,
    "gzip": b.gzip_unasked,
    "error in a 200": b.error_inside_200,
}
STREAM_FAULTS = {
    "first event an error": b.first_event_is_an_error,
    "no events": b.no_events,
    "only comments": b.comments_for_ever(),
}


@pytest.mark.parametrize("requests", SIZES)
@pytest.mark.parametrize("name", [*JSON_FAULTS, *STREAM_FAULTS])
async def test_no_client_notices_a_fault_of_one_kind_of_answer(
    name: str, requests: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    bad, good, other = await upstreams(3)
    broken, honest = (JSON_FAULTS | STREAM_FAULTS)[name], b.honest()
    bad.always = lambda request: broken if request.stream is (name in STREAM_FAULTS) else honest
    await under_load(await gateway(bad, good, other), bad, requests)


@pytest.mark.parametrize("requests", SIZES)
async def test_one_500_costs_nothing(requests: int, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good, other = await upstreams(3)
    bad.then(b.status(500))
    await under_load(await gateway(bad, good, other), bad, requests)


@pytest.mark.parametrize("requests", SIZES)
async def test_an_upstream_that_refuses(requests: int, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good, other = await upstreams(3)
    await bad.stop()
    await under_load(await gateway(bad, good, other), bad, requests)


@pytest.mark.parametrize("requests", SIZES)
async def test_a_connect_black_hole(requests: int, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    good, other = await upstreams(2)
    with BlackHole() as hole:
        proxy = await gateway(hole.url, good, other, general={"connect_timeout": 0.5})
        result = await load(proxy.url, requests, clients=CLIENTS)
        assert (result.done, dict(result.failures)) == (requests, {})
        assert (await proxy.endpoint("a"))["status"] == "cooling_down"


@pytest.mark.parametrize("requests", SIZES)
async def test_an_upstream_that_accepts_and_never_reads(
    requests: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    bad, good, other = await upstreams(3)
    bad.deaf = True
    proxy = await gateway(bad, good, other, general={"http_timeout": 2})
    result = await load(proxy.url, requests, clients=CLIENTS)
    assert (result.done, dict(result.failures)) == (requests, {})
    assert (await proxy.endpoint("a"))["status"] == "cooling_down"


@pytest.mark.parametrize("requests", SIZES)
async def test_an_upstream_killed_under_load(requests: int, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    """Its streams under way are lost with it, so that JSON alone is asked."""
    bad, good, other = await upstreams(3)
    for upstream in (bad, good, other):
        upstream.always = b.honest(delay=0.005)
    proxy = await gateway(bad, good, other)

    async def kill(done: int) -> None:
        if done == requests // 3:
            await bad.stop()

    result = await load(proxy.url, requests, clients=CLIENTS, stream_share=0, after=kill)
    assert (result.done, dict(result.failures)) == (requests, {})


@pytest.mark.parametrize("requests", SIZES)
async def test_connections_closed_while_idle(requests: int, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    proxy = await gateway(only, general={"num_retries": 0})

    async def close(done: int) -> None:
        if done % 10 == 0:
            only.close_idle_connections()

    result = await load(proxy.url, requests, clients=10, after=close)
    assert (result.done, dict(result.failures)) == (requests, {})
    assert (await proxy.endpoint("a"))["failed_requests"] == 0


async def test_one_byte_a_second_ends_at_http_timeout(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    slow, good = await upstreams(2)
    slow.always = b.trickle(0.1)
    got = await (await gateway(slow, good, general={"http_timeout": 0.7})).ask()
    assert (got.verdict, got.headers["x-llmproxy-endpoint"]) == (None, "b")
    assert 0.6 < got.seconds < 1.3
    await slow.wait_for_close(slow.requests[0])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_endless_answer_is_cut_at_a_limit(
    stream: bool, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    endless, good = await upstreams(2)
    endless.always = b.endless
    limits = {"max_response_bytes": 1_000_000, "http_timeout": 20, "first_event_timeout": 20}
    got = await (await gateway(endless, good, general=limits)).ask(stream=stream)
    assert (got.verdict, got.headers["x-llmproxy-endpoint"]) == (None, "b")
    assert got.seconds < 5


async def test_a_gzip_bomb_is_not_unpacked(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bomb, good = await upstreams(2)
    bomb.always = b.gzip_bomb(20)
    got = await (await gateway(bomb, good)).ask()
    assert (got.verdict, got.headers["x-llmproxy-endpoint"]) == (None, "b")


async def test_silence_on_a_stream_costs_one_first_event_timeout(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    silent, good = await upstreams(2)
    silent.always = b.silence
    got = await (await gateway(silent, good, general={"first_event_timeout": 0.5})).ask(stream=True)
    assert (got.verdict, len(silent.requests)) == (None, 1)
    assert 0.45 < got.seconds < 0.95


async def test_a_prompt_that_breaks_every_upstream_does_not_empty_the_group(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    """Other clients' requests, sent at the same time, are served."""
    three = await upstreams(3)
    honest, broken = b.honest(), b.status(500)
    for upstream in three:
        upstream.always = lambda request: broken if b"poison" in request.body else honest
    proxy = await gateway(*three)
    poisoned = asyncio.ensure_future(proxy.ask(user="poison"))
    result = await load(proxy.url, 60, clients=10)
    assert ((await poisoned).status, dict(result.failures)) == (500, {})
    states = [(await proxy.endpoint(name))["status"] for name in "abc"]
    assert states.count("cooling_down") <= 1
