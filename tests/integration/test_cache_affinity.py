"""What was answered from the cache can be continued: at the endpoint that made it, from every worker."""

import asyncio
import json
from typing import Any

import pytest

from routing.mock_upstream import MockUpstream
from tests.fakes.load import Got
from tests.fakes.nonce import new_nonce
from tests.integration.in_process import Gateway
from tests.integration.test_cache_faults import eventually, how

SEALED = {"include": ["reasoning.encrypted_content"], "store": False}


@pytest.fixture
async def mocks():
    both = [MockUpstream("one"), MockUpstream("two")]
    ports = [await mock.start() for mock in both]
    yield [f"http://127.0.0.1:{port}/v1" for port in ports]
    for mock in both:
        await mock.stop()


@pytest.fixture
async def workers(mocks, gateway):
    """Three, of which the third never sees the first request."""
    return [await gateway(*mocks, general={"cache": True}) for _ in range(3)]


async def respond(worker: Gateway, **fields: Any) -> Got:
    async with worker.client() as client:
        return await client.post("/responses", {"model": "m"} | fields)


def whole(got: Got) -> dict[str, Any]:
    """The response object, also of a stream."""
    return json.loads(got.data[-1])["response"] if got.data else got.json


async def forget_the_first(workers: list[Gateway]) -> None:
    """The mappings that the first answer made, in the store."""
    store = workers[0].parts.store
    (keys,) = await store.run(("KEYS", "llmproxy:affinity:*"))
    assert keys != []
    await store.run(("UNLINK", *keys))


async def make_and_hit(workers: list[Gateway], **fields: Any) -> Got:
    """An answer that one worker got, the second found in the store, and only the second's word of it is left."""
    one, other, _ = workers
    made = await respond(one, **fields)
    await eventually(lambda: one.parts.recorder.own().cache["written:entries"] > 0)
    await asyncio.sleep(0.05)
    await forget_the_first(workers)
    hit = await respond(other, **fields)
    assert (how(made), how(hit), hit.body) == ("miss", "hit", made.body)
    assert hit.headers["x-llmproxy-endpoint"] == made.headers["x-llmproxy-endpoint"]
    await asyncio.sleep(0.05)  # it is told in the background
    return hit


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
@pytest.mark.parametrize("which", [1, 2], ids=["the worker of the hit", "another worker"])
async def test_an_answer_from_the_store_can_be_continued(workers, which, stream):
    for _ in range(3):  # the endpoints take turns
        hit = await make_and_hit(workers, input=new_nonce(), stream=stream)
        again = await respond(workers[which], input="And?", previous_response_id=whole(hit)["id"])
        assert (again.status, again.headers["x-llmproxy-attempts"]) == (200, "1")
        assert again.headers["x-llmproxy-endpoint"] == hit.headers["x-llmproxy-endpoint"]


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
@pytest.mark.parametrize("which", [1, 2], ids=["the worker of the hit", "another worker"])
async def test_sealed_items_from_the_store_go_back(workers, which, stream):
    for _ in range(3):
        hit = await make_and_hit(workers, input=new_nonce(), stream=stream, **SEALED)
        sealed = whole(hit)["output"]
        assert "encrypted_content" in sealed[0]
        again = await respond(workers[which], input=[*sealed, {"role": "user", "content": "more"}])
        assert (again.status, again.headers["x-llmproxy-attempts"]) == (200, "1")
        assert again.headers["x-llmproxy-endpoint"] == hit.headers["x-llmproxy-endpoint"]


@pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])
async def test_those_who_waited_for_one_answer_can_all_continue_it(mocks, gateway, stream):
    worker = await gateway(*mocks, general={"cache": True})
    asked = new_nonce()
    got = await asyncio.gather(*(respond(worker, input=asked, stream=stream) for _ in range(8)))
    assert sorted(map(how, got)) == ["hit"] * 7 + ["miss"]
    (identity,) = {whole(one)["id"] for one in got}
    again = await asyncio.gather(*(respond(worker, input=str(n), previous_response_id=identity) for n in range(4)))
    assert {(one.status, one.headers["x-llmproxy-attempts"]) for one in again} == {(200, "1")}
    assert len({one.headers["x-llmproxy-endpoint"] for one in (*got, *again)}) == 1


@pytest.mark.parametrize("part", ["", "/input_items"])
async def test_an_answer_from_the_store_can_be_fetched(workers, part):
    for _ in range(3):
        hit = await make_and_hit(workers, input=new_nonce())
        async with workers[2].client() as client:
            got = await client.get(f"/responses/{hit.json['id']}{part}")
        assert (got.status, got.headers["x-llmproxy-attempts"]) == (200, "1")
        assert (got.headers["x-llmproxy-endpoint"], how(got)) == (hit.headers["x-llmproxy-endpoint"], "bypass")


async def test_a_hit_renews_what_is_remembered(mocks, gateway):
    """The answer outlives the mapping; whoever gets it may continue it all the same."""
    workers = [await gateway(*mocks, general={"cache": True, "response_affinity_ttl": 1}) for _ in range(2)]
    asked = new_nonce()
    await respond(workers[0], input=asked)
    await asyncio.sleep(1.1)
    hit = await respond(workers[0], input=asked)
    await asyncio.sleep(0.05)
    again = await respond(workers[1], input="And?", previous_response_id=hit.json["id"])
    assert (how(hit), again.status, again.headers["x-llmproxy-attempts"]) == ("hit", 200, "1")


async def test_a_continued_answer_is_kept_under_what_it_continues(workers):
    one = workers[0]
    first = [await respond(one, input=new_nonce()) for _ in range(2)]
    asked = [{"input": "And?", "previous_response_id": made.json["id"]} for made in first]
    got = [await respond(one, **fields) for fields in (*asked, *asked)]
    assert [how(one) for one in got] == ["miss", "miss", "hit", "hit"]
    assert [one.json["previous_response_id"] for one in got] == [made.json["id"] for made in first] * 2
