"""Who counts as served when a stream's last event was read, and what is no end of a response."""

import asyncio
import json

from tests.fakes import behaviours as b
from tests.fakes.load import Client
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import Behaviour, Exchange
from tests.integration.conftest import StartGateway, StartUpstreams


async def _done_and_later_the_end(exchange: Exchange) -> None:
    await exchange.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
    await exchange.chunk(b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    await exchange.silence(5)


async def test_a_client_that_leaves_after_done_was_served(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = Behaviour(_done_and_later_the_end)
    proxy = await gateway(upstream)
    async with Client(proxy.url) as client:
        await client.start("POST", "/chat/completions", chat_body(new_nonce(), stream=True))
        got = await client.head()
        while b"[DONE]" not in await client.piece(got):
            pass
    await asyncio.sleep(0.3)
    requests = (await proxy.get("/stats")).json["requests"]
    state = await proxy.endpoint("a")
    assert (requests["succeeded"], requests["cancelled"]) == (1, 0)
    assert (state["successful_requests"], state["cancelled_requests"], state["in_flight"]) == (1, 0, 0)


async def test_done_is_no_end_of_a_response(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    created = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
    upstream.always = b.stream(created, b"data: [DONE]\n\n")
    async with (await gateway(upstream)).client() as client:
        got = await client.post("/responses", {"model": "m", "input": "x", "stream": True})
    assert got.body.startswith(created + b"event: error\n")
    assert json.loads(got.data[-1])["error"]["code"] == "upstream_stream_interrupted"
    assert b"[DONE]" not in got.body
