"""What comes back on success: the upstream's bytes, our headers, and of the upstream's headers the agreed ones."""

import re

import pytest

from tests.fakes import behaviours as b
from tests.fakes.load import Client
from tests.integration.conftest import StartGateway, StartUpstreams

ODD_JSON = b'{ "object":"chat.completion" ,\n "big": 123456789012345678901234567890, "f": 1.0e2, "choices":[],"a":1,"b":"\\u00e9" }\n'


async def test_the_body_is_the_upstreams_byte_for_byte(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.body(200, ODD_JSON, kind="application/json; charset=utf-8")
    got = await (await gateway(upstream)).ask()
    assert (got.body, got.headers["content-type"]) == (ODD_JSON, "application/json; charset=utf-8")


async def test_other_2xx_statuses_stay(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.body(201, ODD_JSON)
    assert (await (await gateway(upstream)).ask()).status == 201


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_of_our_own(stream: bool, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    got = await (await gateway(*await upstreams(1))).ask(stream=stream)
    assert got.headers["x-llmproxy-endpoint"] == "a"
    assert got.headers["x-llmproxy-attempts"] == "1"
    assert got.headers["x-llmproxy-cache"] == "bypass"
    assert got.headers["x-llmproxy-revision"].isdigit()
    assert len(got.headers["x-request-id"]) >= 8
    assert stream or 0 <= float(got.headers["x-llmproxy-overhead-ms"]) < 500


@pytest.mark.parametrize("own", ["abc-123", "!", "x" * 128])
async def test_the_clients_request_id_is_kept(own: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    assert (await proxy.ask(headers={"x-request-id": own})).headers["x-request-id"] == own


@pytest.mark.parametrize("own", ["", "x" * 129, "a b", "caf\u00e9"])
async def test_an_unfit_request_id_is_replaced(own: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    got = await proxy.ask(headers={"x-request-id": own})
    assert got.status == 200
    assert re.fullmatch(r"[!-~]{8,128}", got.headers["x-request-id"])
    assert got.headers["x-request-id"] != own


PASSED = {
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
    "openai-organization": "org",
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-tokens": "99",
    "retry-after": "3",
    "retry-after-ms": "3000",
}
DROPPED = {
    "set-cookie": "session=1",
    "x-internal": "1",
    "strict-transport-security": "max-age=1",
    "keep-alive": "timeout=5",
    "proxy-authenticate": "Basic",
    "x-llmproxy-endpoint": "forged",
    "x-should-retry": "true",
    "access-control-allow-origin": "*",
    "location": "http://elsewhere",
}


@pytest.mark.parametrize("stream", [False, True])
async def test_only_agreed_headers_of_the_upstream_pass(
    stream: bool, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    sent = [f"{name}: {value}" for name, value in (PASSED | DROPPED).items()]
    upstream.always = b.honest("x-request-id: req_up", "server: secret-server", *sent)
    got = await (await gateway(upstream)).ask(stream=stream)
    assert {name: got.headers.get(name) for name in PASSED} == PASSED
    assert not [name for name, value in DROPPED.items() if got.headers.get(name) == value]
    assert got.headers["x-llmproxy-upstream-request-id"] == "req_up"
    assert "secret-server" not in got.headers.values()


async def test_azures_request_id_passes(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.honest("apim-request-id: apim-1")
    proxy = await gateway(upstream, endpoints={"params": {"provider": "azure"}})
    assert (await proxy.ask()).headers["x-llmproxy-upstream-request-id"] == "apim-1"


async def test_an_error_passed_on_keeps_its_headers(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.status(400, "x-request-id: req_up", "openai-version: v")
    got = await (await gateway(upstream)).ask()
    assert (got.headers["x-llmproxy-upstream-request-id"], got.headers["openai-version"]) == ("req_up", "v")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embeddings", {"input": "x"}),
        ("/completions", {"prompt": "x"}),
        ("/moderations", {"input": "x"}),
        ("/responses", {"input": "x"}),
        ("/responses/compact", {"input": "x"}),
        ("/responses/input_tokens", {"input": "x"}),
        ("/chat/completions", {"messages": []}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_every_route_with_and_without_v1(
    prefix: str, path: str, body: dict[str, object], upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream)
    async with Client(proxy.root) as client:
        got = await client.post(prefix + path, {"model": "m"} | body)
    assert (got.status, got.headers["x-llmproxy-endpoint"]) == (200, "a")
    asked = upstream.requests[0]
    assert (asked.method, asked.target, asked.json) == ("POST", f"/v1{path}", {"model": "upstream-model-a"} | body)


async def test_the_list_of_models_is_ours(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    more = tuple({"model_group": name, "fallbacks": ["m"]} for name in ("z", "a/b", "b"))
    proxy = await gateway(upstream, more_groups=more)
    listed = await proxy.get("/v1/models")
    assert (listed.json["object"], [one["id"] for one in listed.json["data"]]) == ("list", ["a/b", "b", "m", "z"])
    assert all(set(one) >= {"id", "object", "created", "owned_by"} for one in listed.json["data"])
    one = await proxy.get("/v1/models/a/b")
    assert one.json == listed.json["data"][0]
    unknown = await proxy.get("/v1/models/none")
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
    assert upstream.requests == []
