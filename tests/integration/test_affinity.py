"""Responses that refer to earlier ones go back to the endpoint that made them; where nobody knows, all are asked."""

import json

import pytest

from routing.mock_upstream import MockUpstream
from tests.fakes import behaviours as b
from tests.fakes.load import Client, Got
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway


async def respond(proxy: Gateway, **fields: object) -> Got:
    async with proxy.client() as client:
        return await client.post("/responses", {"model": "m", "input": "hi"} | fields)


@pytest.fixture
async def mocks():
    both = [MockUpstream("one"), MockUpstream("two")]
    ports = [await mock.start() for mock in both]
    yield [f"http://127.0.0.1:{port}/v1" for port in ports]
    for mock in both:
        await mock.stop()


async def test_a_conversation_stays_where_it_began(mocks: list[str], gateway: StartGateway) -> None:
    proxy = await gateway(*mocks)
    for _ in range(3):
        made = await respond(proxy)
        for _ in range(3):
            again = await respond(proxy, previous_response_id=made.json["id"])
            assert (again.status, again.headers["x-llmproxy-endpoint"]) == (200, made.headers["x-llmproxy-endpoint"])
            made = again


async def test_a_streamed_response_is_remembered_too(mocks: list[str], gateway: StartGateway) -> None:
    proxy = await gateway(*mocks)
    for _ in range(4):
        made = await respond(proxy, stream=True)
        identity = json.loads(made.data[0])["response"]["id"]
        again = await respond(proxy, previous_response_id=identity)
        assert (again.status, again.headers["x-llmproxy-attempts"]) == (200, "1")


async def test_encrypted_items_go_back(mocks: list[str], gateway: StartGateway) -> None:
    proxy = await gateway(*mocks)
    for _ in range(4):
        made = await respond(proxy, include=["reasoning.encrypted_content"], store=False)
        again = await respond(proxy, input=[*made.json["output"], {"role": "user", "content": "more"}])
        assert (again.status, again.headers["x-llmproxy-attempts"]) == (200, "1")


async def test_encrypted_items_of_different_endpoints_are_refused_at_once(
    mocks: list[str], gateway: StartGateway
) -> None:
    proxy = await gateway(*mocks)
    items = {}
    while len(items) < 2:
        made = await respond(proxy, include=["reasoning.encrypted_content"])
        items[made.headers["x-llmproxy-endpoint"]] = made.json["output"][0]
    got = await respond(proxy, input=list(items.values()))
    assert (got.status, got.error["code"]) == (400, "previous_response_not_found")
    assert "x-llmproxy-endpoint" not in got.headers


async def test_an_id_that_nobody_remembers_is_asked_for_everywhere(mocks: list[str], gateway: StartGateway) -> None:
    async with Client(mocks[1]) as behind_the_gateways_back:
        made = await behind_the_gateways_back.post("/responses", {"model": "m", "input": "hi"})
    proxy = await gateway(*mocks)
    continued = await respond(proxy, previous_response_id=made.json["id"])
    assert (continued.status, continued.headers["x-llmproxy-endpoint"]) == (200, "b")
    async with proxy.client() as client:
        got = await client.get(f"/responses/{made.json['id']}")
    assert (got.status, got.headers["x-llmproxy-endpoint"]) == (200, "b")


async def test_an_id_that_nobody_knows(mocks: list[str], gateway: StartGateway) -> None:
    proxy = await gateway(*mocks)
    got = await respond(proxy, previous_response_id="resp_none")
    assert (got.status, got.error["code"]) == (400, "previous_response_not_found")
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]:
        async with proxy.client() as client:
            got = await client.request(method, f"/responses/resp_none{path}")
        assert (got.status, got.error["type"]) == (404, "invalid_request_error")
    assert [(await proxy.endpoint(name))["failed_requests"] for name in "ab"] == [0, 0]


async def test_the_query_of_one_responses_routes_is_passed_on(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    async with (await gateway(upstream)).client() as client:
        await client.get("/responses/resp_1/input_items?limit=5&after=a%2Fb&include=x")
    assert upstream.requests[0].target == "/v1/responses/resp_1/input_items?limit=5&after=a%2Fb&include=x"


@pytest.mark.parametrize("identity", ["resp_%0d%0ax-evil:1", "..%2f..%2fadmin", "resp_%00", "r%20x"])
async def test_an_odd_id_never_steers_the_upstreams_path(
    identity: str, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    async with (await gateway(upstream)).client() as client:
        await client.get(f"/responses/{identity}")
    for asked in upstream.requests:
        assert asked.target.startswith("/v1/responses/")
        assert ".." not in asked.target.replace("%2F", "/").split("/")[:3]
        assert asked.header("x-evil") is None


async def test_a_pinned_request_stays_in_spite_of_a_cooldown(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    first, second = await upstreams(2)
    proxy = await gateway(first, second)
    made = await respond(proxy)
    maker, other = (first, second) if made.headers["x-llmproxy-endpoint"] == "a" else (second, first)
    maker.then(b.status(500))
    while (await proxy.endpoint("a" if maker is first else "b"))["status"] != "cooling_down":
        await proxy.ask()
    before = len(other.requests)
    again = await respond(proxy, previous_response_id=made.json["id"])
    assert (again.status, again.headers["x-llmproxy-endpoint"]) == (200, made.headers["x-llmproxy-endpoint"])
    assert len(other.requests) == before


async def test_a_pinned_request_is_retried_on_its_endpoint_only(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    proxy = await gateway(first, second)
    made = await respond(proxy)
    maker, other = (first, second) if made.headers["x-llmproxy-endpoint"] == "a" else (second, first)
    before = len(other.requests)
    maker.then(b.status(503), b.status(500))
    again = await respond(proxy, previous_response_id=made.json["id"])
    assert (again.status, again.headers["x-llmproxy-attempts"], len(other.requests)) == (200, "3", before)


async def test_a_pinned_request_respects_a_rate_limit(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (only,) = await upstreams(1)
    proxy = await gateway(only)
    made = await respond(proxy)
    only.then(b.rate_limited("retry-after: 20"))
    await proxy.ask()
    count = len(only.requests)
    again = await respond(proxy, previous_response_id=made.json["id"])
    assert (again.status, len(only.requests)) == (429, count)
