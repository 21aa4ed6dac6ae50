"""Azure's URL styles: exact path, query and header as the upstream saw them."""

import pytest

from tests.fakes.load import Client
from tests.integration.conftest import StartGateway, StartUpstreams

DATED, LEGACY = "2025-04-01-preview", "2024-02-01"
D = "/openai/deployments/upstream-model-a"
CASES = [
    # base_url's path, api_version, route, what the upstream sees
    ("", DATED, "chat/completions", f"{D}/chat/completions?api-version={DATED}"),
    ("/", DATED, "completions", f"{D}/completions?api-version={DATED}"),
    ("", LEGACY, "embeddings", f"{D}/embeddings?api-version={LEGACY}"),
    ("/openai", DATED, "chat/completions", f"{D}/chat/completions?api-version={DATED}"),
    ("/openai/", DATED, "chat/completions", f"{D}/chat/completions?api-version={DATED}"),
    ("/openai/v1", DATED, "chat/completions", f"{D}/chat/completions?api-version={DATED}"),
    ("/openai/v1/", DATED, "embeddings", f"{D}/embeddings?api-version={DATED}"),
    ("", DATED, "responses", f"/openai/responses?api-version={DATED}"),
    ("/openai/v1", DATED, "responses", f"/openai/responses?api-version={DATED}"),
    ("", None, "chat/completions", "/openai/v1/chat/completions"),
    ("", "v1", "chat/completions", "/openai/v1/chat/completions"),
    ("/openai", None, "responses", "/openai/v1/responses"),
    ("/openai/v1/", None, "embeddings", "/openai/v1/embeddings"),
    ("", "preview", "chat/completions", "/openai/v1/chat/completions?api-version=preview"),
    ("", "latest", "responses", "/openai/v1/responses?api-version=latest"),
    (
        "/openai/deployments/own",
        DATED,
        "chat/completions",
        f"/openai/deployments/own/chat/completions?api-version={DATED}",
    ),
    ("/openai/deployments/own/", DATED, "responses", f"/openai/responses?api-version={DATED}"),
]


@pytest.mark.parametrize("in_query", [False, True])
@pytest.mark.parametrize(("path", "version", "route", "seen"), CASES)
async def test_urls(
    path: str,
    version: str | None,
    route: str,
    seen: str,
    in_query: bool,
    upstreams: StartUpstreams,
    gateway: StartGateway,
) -> None:
    (upstream,) = await upstreams(1)
    params: dict[str, object] = {"provider": "azure"}
    if in_query:
        params["default_query"] = {"api-version": version} if version else {}
    else:
        params["api_version"] = version
    proxy = await gateway(upstream.url.removesuffix("/v1") + path, endpoints={"params": params})
    async with proxy.client() as client:
        got = await client.post(f"/{route}", {"model": "m", "input": "x", "messages": []})
    assert got.status == 200, got.body
    asked = upstream.requests[0]
    assert asked.target == seen
    assert (asked.header("api-key"), asked.header("authorization")) == ("sk-key-of-a", None)


async def test_responses_carry_the_deployment_in_the_body(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    params = {"provider": "azure", "api_version": DATED}
    proxy = await gateway(upstream.url.removesuffix("/v1"), endpoints={"params": params})
    async with proxy.client() as client:
        await client.post("/responses", {"model": "m", "input": "x"})
    assert upstream.requests[0].json["model"] == "upstream-model-a"


@pytest.mark.parametrize(
    ("version", "seen"),
    [
        (DATED, f"/openai/responses/resp_1/input_items?api-version={DATED}&limit=5"),
        (None, "/openai/v1/responses/resp_1/input_items?limit=5"),
    ],
)
async def test_one_responses_routes_keep_the_clients_query(
    version: str | None, seen: str, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    params = {"provider": "azure", "api_version": version}
    proxy = await gateway(upstream.url.removesuffix("/v1"), endpoints={"params": params})
    async with Client(proxy.url) as client:
        await client.get("/responses/resp_1/input_items?limit=5")
    asked, wanted = upstream.requests[0], seen.partition("?")
    assert (asked.path, sorted(asked.target.partition("?")[2].split("&"))) == (wanted[0], sorted(wanted[2].split("&")))
