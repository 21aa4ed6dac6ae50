"""Kept answers through a running gateway: byte for byte, one upstream call for equal requests, never a wrong one."""

import asyncio
import json
from dataclasses import replace

import msgspec
import pytest

from cache_app.store import Place
from routing.openai.request import parse_request
from routing.openai.routes import CHAT
from routing.recall import Recalled
from tests.fakes import behaviours as b
from tests.fakes.load import Client
from tests.fakes.nonce import chat_body, new_nonce

CACHED = {"general": {"cache": True}}


async def post(gateway, body, headers=None, path="/chat/completions"):
    async with gateway.client() as client:
        return await client.post(path, body, headers)


def how(got):
    return got.headers["x-llmproxy-cache"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_request_is_answered_byte_for_byte(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=stream)
    first, second = await post(running, body), await post(running, body)

    assert (how(first), how(second)) == ("miss", "hit")
    assert first.body == second.body != b""
    assert first.headers["content-type"] == second.headers["content-type"]
    assert second.headers["age"] == "0"
    assert second.headers["x-llmproxy-endpoint"] == "a"
    assert second.headers["x-llmproxy-attempts"] == "0"
    assert len(a.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_another_worker_finds_it(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    one, other = await gateway(a, **CACHED), await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=stream)
    first = await post(one, body)
    await eventually(lambda: one.parts.recorder.own().cache["written:entries"])
    second = await post(other, body)

    assert (how(second), second.body) == ("hit", first.body)
    assert other.parts.recorder.own().cache["hit:store"] == 1
    assert len(a.requests) == 1


async def eventually(true, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - of code that knows nothing of tests
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
async def test_equal_requests_at_a_time_make_one_upstream_call(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.2, interval=0.02)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=stream)
    got = await asyncio.gather(*(post(running, body) for _ in range(50)))

    assert len(a.requests) == 1
    assert sorted(map(how, got)) == ["hit"] * 49 + ["miss"]
    assert len({one.body for one in got}) == 1


async def test_equal_requests_to_two_workers_make_one_upstream_call(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.3)
    workers = [await gateway(a, **CACHED), await gateway(a, **CACHED)]
    body = chat_body(new_nonce())
    got = await asyncio.gather(*(post(workers[i % 2], body) for i in range(20)))

    assert len(a.requests) == 1
    assert len({one.body for one in got}) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_leader_may_leave_while_others_wait(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.5, interval=0.02)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=stream)
    leader = running.client()
    await leader.start("POST", "/chat/completions", body)
    await a.wait_for_requests(1)
    waiting = [asyncio.ensure_future(post(running, body)) for _ in range(3)]
    await asyncio.sleep(0.1)
    leader.close()
    got = await asyncio.gather(*waiting)

    assert [how(one) for one in got] == ["hit"] * 3
    assert len(a.requests) == 1
    await eventually(lambda: running.parts.recorder.own().requests.cancelled == 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_upstream_is_closed_when_all_have_left(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=5)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=stream)
    clients = [running.client() for _ in range(3)]
    for client in clients:
        await client.start("POST", "/chat/completions", body)
    await a.wait_for_requests(1)
    await asyncio.sleep(0.1)
    left_at = asyncio.get_running_loop().time()
    for client in clients:
        client.close()

    assert await a.wait_for_close(a.requests[0]) - left_at < 0.25
    assert running.parts.cache.nobody_waits()


async def test_a_stream_is_kept_though_its_client_goes_as_soon_as_it_has_seen_the_end(upstreams, gateway):
    (a,) = await upstreams(1)
    a.always = b.interrupted(1000, "silence")  # all events, [DONE] too, but no end of the body
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=True)
    async with running.client() as client:
        await client.start("POST", "/chat/completions", body)
        got = await client.head()
        while b"[DONE]" not in got.body:
            got.body += await client.piece(got)
    await eventually(lambda: running.parts.recorder.own().requests.success == 1)
    second = await post(running, body)

    assert (how(second), second.body) == ("hit", got.body)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_follower_takes_over_when_the_leader_fails(upstreams, gateway, stream):
    (a,) = await upstreams(1)
    a.then(b.status(400, delay=0.2))
    a.always = b.honest(delay=0.1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), stream=stream)
    got = await asyncio.gather(*(post(running, body) for _ in range(10)))

    assert sorted(one.status for one in got) == [200] * 9 + [400]
    assert len(a.requests) == 2


async def test_requests_that_differ_in_one_digit_do_not_meet(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    nonce = new_nonce()
    await post(running, chat_body(nonce, seed=9007199254740993))
    got = await post(running, chat_body(nonce, seed=9007199254740992))

    assert how(got) == "miss"


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"cache": {"no-cache": True}}, {}),
        ({"extra_body": {"cache": {"no-cache": True}}}, {}),
        ({}, {"Cache-Control": "max-age=0, No-Cache"}),
        ({"store": True}, {}),
        ({"tools": [{"type": "web_search"}]}, {}),
    ],
)
async def test_what_must_not_be_cached_bypasses(upstreams, gateway, fields, headers):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce(), **fields)
    got = [await post(running, body, headers) for _ in range(2)]

    assert [how(one) for one in got] == ["bypass"] * 2
    assert len(a.requests) == 2
    assert b'"cache"' not in a.requests[0].body


async def test_no_store_reads_but_does_not_write(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    nonce = new_nonce()
    unkept = [await post(running, chat_body(nonce, cache={"no-store": True})) for _ in range(2)]
    await post(running, chat_body(nonce))
    read = await post(running, chat_body(nonce, cache={"no-store": True}))

    assert [how(one) for one in unkept] == ["miss", "miss"]
    assert how(read) == "hit"


async def test_what_a_fallback_gave_is_not_kept(upstreams, gateway):
    a, spare = await upstreams(2)
    a.always = b.status(500)
    more = (
        {
            "model_group": "spare",
            "models": [{"name": "s", "model": "s", "params": {"api_key": "k", "base_url": spare.url}}],
        },
    )
    running = await gateway(
        a, group={"fallbacks": ["spare"]}, more_groups=more, general={"cache": True, "num_retries": 1}
    )
    body = chat_body(new_nonce())
    got = [await post(running, body) for _ in range(2)]

    assert [one.headers["x-llmproxy-endpoint"] for one in got] == ["s", "s"]
    assert [how(one) for one in got] == ["miss", "miss"]


async def test_delete_empties_all_workers_and_nothing_else(upstreams, gateway):
    (a,) = await upstreams(1)
    one, other = await gateway(a, **CACHED), await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    for worker in (one, other):
        await post(worker, body)
        await eventually(lambda: one.parts.recorder.own().cache["written:entries"])
    async with Client(one.root) as client:
        deleted = await client.request("DELETE", "/cache")
    assert (deleted.status, deleted.json["deleted_entries"], deleted.json["status"]) == (200, 1, "success")
    await asyncio.sleep(0.1)

    assert how(await post(other, body)) == "miss"
    await other.parts.recorder.flush()
    assert (await one.endpoint("a"))["successful_requests"] == 2


async def test_delete_of_one_group_leaves_the_others(upstreams, gateway):
    (a,) = await upstreams(1)
    more = (
        {
            "model_group": "other",
            "models": [{"name": "o", "model": "o", "params": {"api_key": "k", "base_url": a.url}}],
        },
    )
    running = await gateway(a, more_groups=more, **CACHED)
    nonce = new_nonce()
    for model in ("m", "other"):
        await post(running, chat_body(nonce, model=model))
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"] == 2)
    async with Client(running.root) as client:
        deleted = await client.request("DELETE", "/cache?model_group=other")
        unknown = await client.request("DELETE", "/cache?model_group=nobody")
    await asyncio.sleep(0.1)

    assert deleted.json["deleted_entries"] == 1
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
    assert how(await post(running, chat_body(nonce))) == "hit"
    assert how(await post(running, chat_body(nonce, model="other"))) == "miss"


async def test_numbers_of_the_cache_add_up(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    for _ in range(3):
        await post(running, body)
    await post(running, chat_body(new_nonce(), store=True))
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"])
    got = json.loads((await running.get("/stats")).body)

    cache = got["cache"]
    assert (cache["hits"], cache["misses"], cache["bypassed"], cache["entries_written"]) == (2, 1, 1, 1)
    assert cache["bypassed_by_reason"] == {"store": 1}
    assert (got["requests"]["total"], got["requests"]["cache_hits"]) == (4, 2)


async def thrice(running, body, headers=None, path="/chat/completions"):
    """The third request is one that the worker has answered from its memory before."""
    return [await post(running, body, headers, path) for _ in range(3)]


async def test_what_was_asked_often_is_the_same_answer_in_every_way(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    first, second, third = await thrice(running, chat_body(new_nonce()))

    assert first.body == second.body == third.body != b""
    of_their_own = {"x-request-id", "x-llmproxy-overhead-ms", "date"}
    told = [{name: got.headers[name] for name in got.headers.keys() - of_their_own} for got in (second, third)]
    assert told[0] == told[1]
    assert how(third) == "hit"
    own = running.parts.recorder.own()
    assert (own.requests.success, own.requests.cache_hits) == (3, 2)
    assert own.cache["hit:process"] == 2
    assert len(a.requests) == 1


async def test_what_was_asked_often_is_asked_again_after_a_deletion(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    await thrice(running, body)
    await eventually(lambda: running.parts.recorder.own().cache["written:entries"])
    await running.parts.delete_kept(None)
    await eventually(lambda: not len(running.parts.cache.caching._recall))

    assert how(await post(running, body)) == "miss"
    assert len(a.requests) == 2


async def test_what_was_asked_often_is_not_known_to_another_table(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    await thrice(running, body)
    live = running.parts.live
    group = live.table.groups["m"]
    off = replace(group, cache=msgspec.structs.replace(group.cache, enabled=False))
    live.swap(replace(live.table, groups={"m": off}))

    assert how(await post(running, body)) == "bypass"


@pytest.mark.parametrize(("header", "then"), [("cache-control: no-cache", "bypass"), ("openai-beta: x=v2", "miss")])
async def test_headers_about_the_cache_are_heeded_however_often_it_was_asked(upstreams, gateway, header, then):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    await thrice(running, body)
    name, value = header.split(": ")

    assert how(await post(running, body, {name: value})) == then
    assert how(await post(running, body, {name: value})) == ("hit" if then == "miss" else then)
    assert how(await post(running, body)) == "hit"


async def test_the_same_bytes_on_another_route_are_another_request(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    await thrice(running, body)

    assert how(await post(running, body, path="/completions")) != "hit"


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"model":"none"}'])
async def test_what_was_refused_is_refused_again(upstreams, gateway, body):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)

    assert len({(got.status, got.body) for got in await thrice(running, body)}) == 1


async def test_a_request_that_began_before_a_revision_keeps_nothing_of_the_old_table(upstreams, gateway):
    (a,) = await upstreams(1)
    running = await gateway(a, **CACHED)
    body = chat_body(new_nonce())
    caching, live = running.parts.cache.caching, running.parts.live
    await thrice(running, body)
    old = live.table
    live.swap(replace(old))
    late = parse_request(CHAT, body)
    caching._remember(late, Recalled(old, old.groups["m"], Place("g", b"k", b"d")))
    assert len(caching._recall) == 0

    await thrice(running, body)
    assert len(caching._recall) == 1
