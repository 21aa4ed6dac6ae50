"""What goes upstream of a request, and what never does."""

import asyncio
import json

import pytest

from tests.fakes.scripted import RecordedRequest
from tests.integration.conftest import StartGateway, StartUpstreams

CHAT = "/chat/completions"


async def sent(
    body: bytes,
    upstreams: StartUpstreams,
    gateway: StartGateway,
    *,
    headers: dict[str, str] | None = None,
    path: str = CHAT,
    **settings: object,
) -> RecordedRequest:
    """The upstream's view of this request."""
    (upstream,) = await upstreams(1)
    async with (await gateway(upstream, **settings)).client() as client:
        got = await client.post(path, body, headers)
    assert got.status == 200, got.body
    return upstream.requests[0]


async def test_only_the_model_is_replaced_in_the_original_bytes(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    body = (
        b'{ "z": 1.0e2,"messages":[ {"role":"user","content":"\\u00e9 \\"model\\":\\"m\\""} ],\n'
        b'"big":123456789012345678901234567890, "model" : "m" , "nested":{"model":"m","api_key":"k"}, "unknown":[1,2 ] }'
    )
    asked = await sent(body, upstreams, gateway)
    assert asked.body == body.replace(b'"model" : "m"', b'"model" : "upstream-model-a"')
    assert asked.header("content-length") == str(len(asked.body))


async def test_a_model_spelled_with_escapes_is_understood(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    asked = await sent(b'{"mod\\u0065l":"\\u006d","messages":[]}', upstreams, gateway)
    assert asked.json == {"model": "upstream-model-a", "messages": []}


async def test_fields_that_look_like_settings_steer_nothing(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    fields = dict.fromkeys(
        ("api_base", "base_url", "api_key", "api_version", "organization", "extra_headers", "extra_query"),
        "http://127.0.0.1:9/evil",
    )
    body = json.dumps({"model": "m", "messages": []} | fields).encode()
    asked = await sent(body, upstreams, gateway)
    assert asked.json == {"model": "upstream-model-a", "messages": []} | fields
    assert (asked.target, asked.header("authorization")) == ("/v1/chat/completions", "Bearer sk-key-of-a")


async def test_the_clients_query_stays_here(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    asked = await sent(
        b'{"model":"m"}', upstreams, gateway, path=CHAT + "?api-version=evil&base_url=http://127.0.0.1:9"
    )
    assert asked.target == "/v1/chat/completions"


async def test_agreed_headers_of_the_client_pass(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    passed = {
        "openai-beta": "assistants=v2",
        "x-client-request-id": "mine-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "a=b",
        "accept": "application/json, text/event-stream",
    }
    asked = await sent(b'{"model":"m"}', upstreams, gateway, headers=passed)
    assert {name: asked.header(name) for name in passed} == passed


async def test_nothing_else_of_the_client_passes(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    dropped = {
        "authorization": "Bearer sk-client",
        "api-key": "client",
        "cookie": "session=1",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "org-client",
        "user-agent": "client/1",
        "x-stainless-lang": "python",
        "x-custom": "client",
        "referer": "client",
    }
    asked = await sent(b'{"model":"m"}', upstreams, gateway, headers=dropped)
    assert not {value for _, value in asked.headers} & set(dropped.values())
    assert asked.header("authorization") == "Bearer sk-key-of-a"


async def test_default_headers_and_query_of_the_endpoint(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    params = {"default_headers": {"OpenAI-Organization": "org-1", "X-Team": "blue"}, "default_query": {"tenant": "a b"}}
    asked = await sent(b'{"model":"m"}', upstreams, gateway, endpoints={"params": params})
    assert (asked.header("openai-organization"), asked.header("x-team")) == ("org-1", "blue")
    assert (asked.path, asked.query) == ("/v1/chat/completions", {"tenant": "a b"})


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("/api/v3/", "/api/v3/chat/completions"),
    ],
)
async def test_the_base_url_is_used_as_written(
    suffix: str, path: str, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    await (await gateway(upstream.url.removesuffix("/v1") + suffix)).ask()
    assert upstream.requests[0].target == path


async def test_an_endpoint_without_a_key_sends_none(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    asked = await sent(
        b'{"model":"m"}',
        upstreams,
        gateway,
        endpoints={"params": {"api_key": None}},
        headers={"authorization": "Bearer sk-client"},
    )
    assert asked.header("authorization") in (None, "Bearer ")


async def test_a_chunked_request_is_understood(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b'transfer-encoding: chunked\r\n\r\n5\r\n{"mod\r\n'
    )
    await asyncio.sleep(0.05)
    writer.write(b'8\r\nel":"m"}\r\n0\r\n\r\n')
    first_line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert first_line.startswith(b"HTTP/1.1 200")
    assert upstream.requests[0].json == {"model": "upstream-model-a"}
