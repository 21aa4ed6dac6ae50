"""Usage of streams that nobody but the gateway asked for, and what requests cost, in front of scripted upstreams."""

import asyncio
import json

import openai
import pytest

from routing.mock_upstream import MockUpstream
from stats.record import RequestRecord
from tests.fakes import behaviours as b
from tests.fakes.load import Client
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import Behaviour
from tests.integration.in_process import Gateway
from tests.integration.test_cache_faults import eventually, post

ASKING = {"params": {"ask_usage": "always"}}
PRICED = {"price": {"input": 1.0, "output": 2.0}}
FREE = {"price": {"input": 0, "output": 0}}
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}],"usage":null}\r\n\r\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\r\n\r\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\r\n\r\n'
DONE = b"data: [DONE]\r\n\r\n"


class Kept(list[RequestRecord]):
    add = list.append


def records_of(running: Gateway) -> Kept:
    kept = Kept()
    running.parts.entrance.records.also(kept)
    return kept


def answering(**usage) -> Behaviour:
    message = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    return b.body(200, json.dumps({"object": "chat.completion", "choices": [message], "usage": usage or None}).encode())


@pytest.mark.parametrize(
    "parts",
    [
        (CHUNK, LAST, USAGE, DONE),
        (CHUNK + LAST + USAGE + DONE,),
        (CHUNK, LAST, USAGE + DONE),
        (CHUNK, LAST + USAGE[:-1], USAGE[-1:], DONE),
        (CHUNK, LAST[:-3], LAST[-3:] + USAGE[:20], USAGE[20:-3], USAGE[-3:] + DONE),
    ],
    ids=["apart", "at once", "with [DONE]", "split in its end", "split anywhere"],
)
async def test_the_client_gets_all_but_the_chunk_that_it_did_not_ask_for(upstreams, gateway, parts):
    (a,) = await upstreams(1)
    a.always = b.stream(*parts)
    running = await gateway(a, endpoints=ASKING | PRICED)
    records = records_of(running)
    async with running.client() as client:
        got = await client.post("/chat/completions", chat_body(new_nonce(), stream=True))
    assert got.body == CHUNK + LAST + DONE
    assert a.requests[0].json["stream_options"] == {"include_usage": True}
    (record,) = records
    assert (record.input_tokens, record.output_tokens, record.cost_nano_usd) == (7, 5, 17_000)
    assert (record.outcome, record.partial) == ("success", False)


async def test_a_client_that_asks_itself_gets_the_upstreams_bytes(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.stream(CHUNK, LAST, USAGE, DONE)
    running = await gateway(a, endpoints=ASKING)
    async with running.client() as client:
        got = await client.post(
            "/chat/completions", chat_body(new_nonce(), stream=True, stream_options={"include_usage": True})
        )
    assert got.body == CHUNK + LAST + USAGE + DONE


async def test_legacy_completions_go_as_they_came(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, endpoints=ASKING)
    async with running.client() as client:
        await client.post("/completions", {"model": "m", "prompt": "x", "stream": True})
    assert "stream_options" not in a.requests[0].json


async def test_the_cache_keeps_what_the_client_got_under_the_clients_own_request(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.stream(CHUNK, LAST, USAGE, DONE)
    asking = await gateway(a, endpoints=ASKING | PRICED, general={"cache": True})
    silent = await gateway(a, general={"cache": True})
    body = chat_body(new_nonce(), stream=True)
    records = records_of(asking)
    async with asking.client() as client:
        first = await client.post("/chat/completions", body)
        second = await client.post("/chat/completions", body)
    await eventually(lambda: asking.parts.recorder.own().cache["written:entries"] == 1)
    async with silent.client() as client:
        third = await client.post("/chat/completions", body)
    assert first.body == second.body == third.body == CHUNK + LAST + DONE
    assert [one.headers["x-llmproxy-cache"] for one in (first, second, third)] == ["miss", "hit", "hit"]
    assert len(a.requests) == 1
    assert [(one.output_tokens, one.cost_nano_usd, one.saved_nano_usd) for one in records] == [
        (5, 17_000, None),
        (5, 0, 17_000),
    ]


async def test_an_upstream_that_refuses_is_asked_once_more_and_then_always_without(upstreams, gateway):
    (a,) = await upstreams(1)
    a.then(b.status(400, message="Unknown parameter: 'stream_options.include_usage'"))
    running = await gateway(a, endpoints=ASKING)
    for _ in range(2):
        got = await running.ask(stream=True)
        assert (got.verdict, got.headers["x-llmproxy-attempts"]) == (None, "1")
    assert ["stream_options" in request.json for request in a.requests] == [True, False, False]
    assert a.connections_made == 1
    state = await running.endpoint("a")
    assert (state["total_requests"], state["successful_requests"], state["status"]) == (2, 2, "healthy")


async def test_the_sdk_sees_nothing_of_it(gateway):
    mock = MockUpstream("mock")
    port = await mock.start()
    try:
        running = await gateway(f"http://127.0.0.1:{port}/v1", endpoints=ASKING | PRICED)
        records = records_of(running)
        async with openai.AsyncOpenAI(base_url=running.url, api_key="unused", max_retries=0) as client:
            asked = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
            plain = [chunk async for chunk in await client.chat.completions.create(**asked)]
            options = {"include_usage": True}
            wanted = [chunk async for chunk in await client.chat.completions.create(**asked, stream_options=options)]
    finally:
        await mock.stop()
    assert all(chunk.choices and chunk.usage is None for chunk in plain)
    assert (wanted[-1].choices, len(wanted)) == ([], len(plain) + 1)
    usage = wanted[-1].usage
    assert [(one.input_tokens, one.output_tokens) for one in records] == 2 * [
        (usage.prompt_tokens, usage.completion_tokens)
    ]


async def test_a_client_that_leaves_leaves_what_was_seen(upstreams, gateway):
    (a,) = await upstreams(1)
    told = CHUNK.replace(b'"usage":null', b'"usage":{"prompt_tokens":7,"completion_tokens":1}')
    a.always = b.stream(CHUNK, told, end="silence")
    running = await gateway(a, endpoints=ASKING | PRICED, general={"idle_timeout": 9, "stream_timeout": 9})
    records = records_of(running)
    async with Client(running.url) as client:
        await client.start("POST", "/chat/completions", chat_body(new_nonce(), stream=True))
        got, seen = await client.head(), b""
        while seen != CHUNK + told:
            seen += await client.piece(got)
    await eventually(lambda: bool(records))
    (record,) = records
    assert (record.outcome, record.partial) == ("cancelled", True)
    assert (record.input_tokens, record.output_tokens, record.cost_nano_usd) == (7, 1, 9_000)


async def test_a_client_that_leaves_before_any_usage_leaves_an_unknown_cost(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.stream(CHUNK, end="silence")
    running = await gateway(a, endpoints=ASKING | PRICED, general={"idle_timeout": 9, "stream_timeout": 9})
    records = records_of(running)
    async with Client(running.url) as client:
        await client.start("POST", "/chat/completions", chat_body(new_nonce(), stream=True))
        await client.piece(await client.head())
    await eventually(lambda: bool(records))
    assert (records[0].partial, records[0].output_tokens, records[0].cost_nano_usd) == (True, None, None)


# -- x-llmproxy-cost


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        ({"input": 2.5, "output": 10}, {"prompt_tokens": 1000, "completion_tokens": 100}, "0.0035"),
        ({"input": 0.02}, {"prompt_tokens": 1}, "0.00000002"),
        ({"input": 1_000_000, "output": 0}, {"prompt_tokens": 3}, "3"),
        ({"input": 2, "cached_input": 0.5}, {"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 4}}, "0.00001"),
        ({"input": 0, "output": 0}, {"prompt_tokens": 8, "completion_tokens": 4}, "0"),
        ({"input": 0, "output": 0}, {}, "0"),
        ({"input": 0}, {"prompt_tokens": 8, "completion_tokens": 4}, None),
        ({"input": 1, "output": 1}, {}, None),
        ({}, {"prompt_tokens": 8, "completion_tokens": 4}, None),
    ],
)  # fmt: skip
async def test_the_cost_of_a_json_answer(upstreams, gateway, price, usage, cost):
    (a,) = await upstreams(1)
    a.always = answering(**usage)
    got = await (await gateway(a, endpoints={"price": price})).ask()
    assert got.headers.get("x-llmproxy-cost") == cost


async def test_a_hit_costs_nothing(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, endpoints=PRICED, general={"cache": True})
    nonce = new_nonce()
    costs = [(await running.ask(nonce=nonce)).headers["x-llmproxy-cost"] for _ in range(2)]
    assert (float(costs[0]) > 0, costs[1]) == (True, "0")


async def test_a_refused_request_costs_nothing(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.status(400)
    assert (await (await gateway(a)).ask()).headers["x-llmproxy-cost"] == "0"


async def test_streams_have_no_such_header(upstreams, gateway):
    got = await (await gateway(*await upstreams(1), endpoints=FREE)).ask(stream=True)
    assert "x-llmproxy-cost" not in got.headers


@pytest.mark.parametrize(
    ("background", "tokens"), [(False, None), (True, 7)], ids=["made at once", "in the background"]
)
async def test_a_stored_responses_usage_counts_where_its_making_had_none(upstreams, gateway, background, tokens):
    (a,) = await upstreams(1)
    stored = {"id": "resp_1", "object": "response", "background": background, "status": "completed"}
    a.always = b.body(200, json.dumps(stored | {"usage": {"input_tokens": 7, "output_tokens": 5}}).encode())
    running = await gateway(a, endpoints=PRICED)
    records = records_of(running)
    assert (await running.get("/v1/responses/resp_1")).status == 200
    assert (records[-1].input_tokens, records[-1].cost_nano_usd) == (tokens, 17_000 if background else 0)


async def test_a_stored_responses_stream_counts_nothing_again(upstreams, gateway):
    (a,) = await upstreams(1)
    completed = {"type": "response.completed", "response": {"id": "resp_1", "usage": {"input_tokens": 7}}}
    a.always = b.stream(b"event: response.completed\ndata: %b\n\n" % json.dumps(completed).encode())
    running = await gateway(a, endpoints=PRICED)
    records = records_of(running)
    assert (await running.get("/v1/responses/resp_1?stream=true")).status == 200
    assert (records[-1].input_tokens, records[-1].cost_nano_usd) == (None, 0)


async def test_a_hit_saves_what_its_answer_cost_though_the_first_client_left(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.honest(interval=0.02)
    running = await gateway(a, endpoints=PRICED, general={"cache": True})
    records = records_of(running)
    nonce = new_nonce()
    body = chat_body(nonce, stream=True, size=3000, stream_options={"include_usage": True})
    async with running.client() as leader:
        await leader.start("POST", "/chat/completions", body)
        await a.wait_for_requests(1)
        following = asyncio.ensure_future(post(running, body))
        await asyncio.sleep(0.1)
    await following
    await post(running, body)
    asked, hit = records[-2:]
    assert hit.cache == "hit"
    assert asked.cost_nano_usd and hit.saved_nano_usd == asked.cost_nano_usd


async def test_a_hit_on_an_answer_of_unknown_usage_is_of_unknown_usage(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = answering()
    running = await gateway(a, endpoints=PRICED, general={"cache": True})
    records = records_of(running)
    body = chat_body(new_nonce())
    for _ in range(2):
        await post(running, body)
    assert [(one.cache, one.input_tokens, one.output_tokens) for one in records] == [
        ("miss", None, None),
        ("hit", None, None),
    ]


@pytest.mark.parametrize("body", [b"{", chat_body("x", model="nobody")], ids=["no JSON", "no model"])
async def test_what_is_refused_at_the_door_has_the_revision_that_its_answer_names(upstreams, gateway, body):
    running = await gateway(*await upstreams(1))
    records = records_of(running)
    got = await post(running, body)
    assert got.headers["x-llmproxy-revision"] == str(records[-1].revision) == "1"
