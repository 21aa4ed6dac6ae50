"""The instruments themselves: the load client must notice whatever the scripted upstreams do wrong."""

import asyncio

import pytest

from tests.fakes import behaviours as b
from tests.fakes.black_hole import BlackHole
from tests.fakes.load import Client, load
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import Behaviour, Exchange, ScriptedUpstream


async def failures_of(behaviour: Behaviour, *, stream: bool) -> list[str]:
    upstream = ScriptedUpstream(behaviour)
    await upstream.start()
    try:
        result = await load(upstream.url, 1, stream_share=float(stream))
    finally:
        await upstream.stop()
    return list(result.failures)


async def test_honest_answers_pass() -> None:
    upstream = ScriptedUpstream(b.honest())
    await upstream.start()
    result = await load(upstream.url, 200, clients=20)
    await upstream.stop()
    assert (result.done, result.failures) == (200, {})


async def test_a_changed_text_is_noticed() -> None:
    assert await failures_of(b.invalid_utf8, stream=False)


@pytest.mark.parametrize("after", [0, 1, 4])
async def test_an_interrupted_stream_is_noticed(after: int) -> None:
    assert await failures_of(b.interrupted(after), stream=True) in (["IncompleteReadError"], ["ConnectionResetError"])


async def test_a_stream_that_lacks_events_is_noticed() -> None:
    assert (await failures_of(b.interrupted(4, "whole", b"data: [DONE]\n\n"), stream=True)) == [
        "unreadable: no finish_reason"
    ]


async def test_another_requests_answer_is_noticed() -> None:
    other = new_nonce()

    async def mixed(exchange: Exchange) -> None:
        exchange.nonce = other
        await b.honest().play(exchange)

    assert await failures_of(Behaviour(mixed), stream=False) == ["another request's answer"]


async def test_a_client_that_closes_is_recorded_with_its_request() -> None:
    upstream = ScriptedUpstream(b.silence)
    await upstream.start()
    async with Client(upstream.url) as client:
        await client.start("POST", "/chat/completions", chat_body(new_nonce()))
        await upstream.wait_for_requests(1)
    await upstream.wait_for_close(upstream.requests[0])
    await upstream.stop()


async def test_half_of_a_request_is_read_before_the_reset() -> None:
    upstream = ScriptedUpstream(b.reset_after_half_request)
    await upstream.start()
    sent = chat_body(new_nonce())
    async with Client(upstream.url) as client:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.post("/chat/completions", sent)
    assert upstream.requests[0].body == sent[: len(sent) // 2]
    await upstream.stop()


async def test_a_black_hole_neither_accepts_nor_refuses() -> None:
    with BlackHole() as hole, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.open_connection("127.0.0.1", hole.port)


async def test_a_stopped_upstream_refuses_and_comes_back_on_its_port() -> None:
    upstream = ScriptedUpstream(b.honest())
    port = await upstream.start()
    await upstream.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert await upstream.start() == port
    await upstream.stop()
