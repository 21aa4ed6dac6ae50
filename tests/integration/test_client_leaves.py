"""A client that leaves, in any phase: the upstream is closed within 250 ms, nothing more is tried, nobody is blamed."""

import asyncio

import pytest

from tests.fakes import behaviours as b
from tests.fakes.black_hole import BlackHole
from tests.fakes.load import Client
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import Behaviour, ScriptedUpstream
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway

PHASES = {
    "before the head": (b.silence, False, 0),
    "before the head of a stream": (b.silence, True, 0),
    "between head and body": (b.silence_after_head, False, 0),
    "before the first event": (b.comments_for_ever(), True, 0),
    "in the middle of a stream": (b.honest(interval=0.3), True, 2),
    "in the middle of silence": (b.interrupted(3, "silence"), True, 3),
}


async def leave(proxy: Gateway, upstream: ScriptedUpstream, *, stream: bool, after_events: int) -> float:
    """Asks, waits for that many events, leaves; the event loop's time of leaving."""
    async with Client(proxy.url) as client:
        await client.start("POST", "/chat/completions", chat_body(new_nonce(), stream=stream))
        if after_events:
            got = await client.head()
            seen = b""
            while seen.count(b"\n\n") < after_events:
                seen += await client.piece(got)
        else:
            await upstream.wait_for_requests(1)
            await asyncio.sleep(0.03)
        return asyncio.get_running_loop().time()


@pytest.mark.parametrize(("behaviour", "stream", "after_events"), PHASES.values(), ids=PHASES.keys())
async def test_the_upstream_is_closed_and_nothing_more_tried(
    behaviour: Behaviour, stream: bool, after_events: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    first.always = behaviour
    proxy = await gateway(first, second, general={"first_event_timeout": 9, "http_timeout": 9, "idle_timeout": 9})
    left = await leave(proxy, first, stream=stream, after_events=after_events)
    closed = await first.wait_for_close(first.requests[0])
    assert closed - left < 0.25
    await asyncio.sleep(0.1)
    assert (len(first.requests), len(second.requests)) == (1, 0)
    state = await proxy.endpoint("a")
    assert (state["cancelled_requests"], state["failed_requests"], state["status"]) == (1, 0, "healthy")
    assert state["in_flight"] == 0


async def test_leaving_with_another_request_behind_is_noticed(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    only.always = b.honest(interval=0.05)
    proxy = await gateway(only, general={"stream_timeout": 60})
    body = chat_body(new_nonce(), stream=True, size=100_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readuntil(b"data: ")
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await only.wait_for_close(only.requests[0], 5)


async def test_leaving_during_a_backoff_stops_the_retries(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    only.always = b.status(503, "retry-after: 1")
    proxy = await gateway(only)
    async with Client(proxy.url) as client:
        await client.start("POST", "/chat/completions", chat_body(new_nonce()))
        await only.wait_for_requests(1)
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)
    assert len(only.requests) == 1


async def test_leaving_while_connecting_makes_no_attempt_elsewhere(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (whole,) = await upstreams(1)
    with BlackHole() as hole:
        proxy = await gateway(hole.url, whole, general={"connect_timeout": 0.4})
        async with Client(proxy.url) as client:
            await client.start("POST", "/chat/completions", chat_body(new_nonce()))
            await asyncio.sleep(0.15)
        await asyncio.sleep(0.5)
    assert whole.requests == []


async def test_a_client_that_half_sends_its_body_reaches_no_upstream(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream)
    async with Client(proxy.url) as client:
        await client.start("POST", "/chat/completions", b"", {"content-length": "500"})
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.1)
    assert upstream.requests == []
    assert (await proxy.ask()).verdict is None


@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.full)])
async def test_many_that_leave_free_everything(count: int, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (slow,) = await upstreams(1)
    slow.always = b.honest(interval=0.2)
    proxy = await gateway(slow, general={"idle_timeout": 9, "first_event_timeout": 9})
    semaphore = asyncio.Semaphore(100)

    async def one() -> None:
        async with semaphore, Client(proxy.url) as client:
            await client.start("POST", "/chat/completions", chat_body(new_nonce(), stream=True))
            await client.head()

    await asyncio.gather(*(one() for _ in range(count)))
    for request in list(slow.requests):
        await slow.wait_for_close(request)
    state = await proxy.endpoint("a")
    assert (state["cancelled_requests"], state["in_flight"]) == (count, 0)
