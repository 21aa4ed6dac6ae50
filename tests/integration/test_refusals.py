"""Bad requests get the error shape, never a traceback, never a 500, and never reach an upstream."""

import asyncio
import json

import pytest

from tests.fakes.load import Client, Got
from tests.integration.conftest import StartGateway, StartUpstreams

CHAT = "/v1/chat/completions"

BAD_BODIES = {
    "empty": (b"", "invalid_json"),
    "cut": (b'{"model":"m"', "invalid_json"),
    "trailing": (b'{"model":"m"} x', "invalid_json"),
    "array": (b"[]", "invalid_json"),
    "string": (b'"m"', "invalid_json"),
    "null": (b"null", "invalid_json"),
    "NaN": (b'{"model":"m","x":NaN}', "invalid_json"),
    "not UTF-8": (b'{"model":"m","x":"\xff"}', "invalid_json"),
    "UTF-16": ('{"model":"m"}'.encode("utf-16"), "invalid_json"),
    "NUL": (b'{"model":"m"}\0', "invalid_json"),
    "lone surrogate": (b'{"model":"m","x":"\\ud800"}', "invalid_json"),
    "single quotes": (b"{'model':'m'}", "invalid_json"),
    "duplicate keys": (b'{"model":"m","model":"m"}', "invalid_json"),
    "duplicate escaped keys": (b'{"model":"m","mod\\u0065l":"x"}', "invalid_json"),
    "no model": (b'{"messages":[]}', "model_required"),
    "null model": (b'{"model":null}', "model_required"),
    "empty model": (b'{"model":""}', "model_required"),
    "number as model": (b'{"model":5}', "model_required"),
}


async def refused(got: Got, status: int, code: str | None) -> None:
    assert (got.status, got.error["code"]) == (status, code)
    assert got.headers["content-type"].startswith("application/json")
    assert got.error["message"]
    assert got.headers["x-request-id"]
    assert "x-llmproxy-revision" in got.headers


@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_400(body: bytes, code: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    async with Client((await gateway(upstream)).root) as client:
        got = await client.post(CHAT, body, {"content-type": "application/json"})
    await refused(got, 400, code)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m",' + b",".join(b'"k%d":1' % number for number in range(1_000_000)) + b"}",
    ],
    ids=["deep", "wide"],
)
async def test_an_extreme_body_is_answered(body: bytes, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with proxy.client() as client:
        got = await client.post("/chat/completions", body)
    assert got.status in (200, 400)
    assert (await proxy.ask()).verdict is None


@pytest.mark.parametrize("model", ["none", "M", "m ", "a\r\nx-evil: 1", "\0", "é😀", "../m"])
async def test_an_unknown_model_is_404(model: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    async with Client((await gateway(*await upstreams(1))).root) as client:
        got = await client.post(CHAT, {"model": model})
    await refused(got, 404, "model_not_found")
    assert got.error["param"] == "model"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_other_content_types_are_415(kind: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    async with Client((await gateway(upstream)).root) as client:
        got = await client.post(CHAT, {"model": "m"}, {"content-type": kind})
    assert (got.status, upstream.requests) == (415, [])
    assert got.error["message"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"]
)
async def test_spellings_of_json_are_accepted(kind: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    assert (await proxy.ask(headers={"content-type": kind})).verdict is None


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/responses", "POST"),
        ("DELETE", "/embeddings", "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/models/m", "GET"),
        ("POST", "/v1/responses/resp_1", "GET, DELETE"),
        ("GET", "/v1/responses/resp_1/cancel", "POST"),
        ("POST", "/v1/responses/resp_1/input_items", "GET"),
        ("POST", "/health", "GET"),
    ],
)
async def test_a_wrong_method_is_405_with_allow(
    method: str, path: str, allowed: str, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    async with Client((await gateway(*await upstreams(1))).root) as client:
        got = await client.request(method, path)
    assert got.status == 405
    assert set(allowed.split(", ")) <= set(got.headers["allow"].replace(" ", "").split(","))
    assert got.error["message"]


@pytest.mark.parametrize("path", ["/v1/nothing", "/v2/chat/completions", "/v1/chat", "/", "/v1", "/chat/completions/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_404(path: str, method: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    async with Client((await gateway(*await upstreams(1))).root) as client:
        got = await client.request(method, path)
    assert (got.status, got.error["code"]) == (404, "unknown_route")


async def test_a_body_over_the_limit_is_413_before_it_is_read(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream, general={"max_request_body_bytes": 1000})
    async with Client(proxy.root) as client:
        await client.start("POST", CHAT, b"", {"content-length": "1000000000", "content-type": "application/json"})
        got = await client.finish(await client.head())
    await refused(got, 413, "request_too_large")
    async with Client(proxy.root) as client:
        got = await client.post(CHAT, json.dumps({"model": "m", "x": "y" * 500}).encode())
    assert got.status == 200


async def test_a_chunked_body_over_the_limit_is_413(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1), general={"max_request_body_bytes": 1000})
    chunk = b"100\r\n" + b"x" * 256 + b"\r\n"
    fields = {"transfer-encoding": "chunked", "content-type": "application/json"}
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    lines = [f"POST {CHAT} HTTP/1.1", "host: localhost", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + chunk * 8)
    try:
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "evil.example"},
        {"host": "evil.example:4243"},
        {"host": "127.0.0.1.evil.example"},
    ],
)
async def test_a_web_page_cannot_use_a_loopback_gateway(
    headers: dict[str, str], upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream)
    async with Client(proxy.root) as client:
        got = await client.post(CHAT, {"model": "m"}, headers)
    await refused(got, 403, "forbidden_origin")
    assert upstream.requests == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_loopback_names_are_welcome(host: str, upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    assert (await proxy.ask(headers={"host": f"{host}:{proxy.port}"})).verdict is None
    assert (await proxy.ask(headers={"origin": f"http://localhost:{proxy.port}"})).verdict is None
