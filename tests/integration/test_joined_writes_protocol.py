"""Requests over a socket, read by our protocol and by uvicorn's own: applications are told the same."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from llmproxy_site.joined_writes import JoinedWritesProtocol

REQUESTS = [
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /v1/responses?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST /v1/responses HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/embeddings HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    b"GET /v1/responses/a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /admin/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\na"
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\nb",
]


async def told(protocol: type[HttpToolsProtocol], request: bytes) -> list[Any]:
    """What the application is told of the request, and what the client gets."""
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        seen.append(({**scope, "client": None, "server": None}, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(application, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request)
        answers = request.count(b" HTTP/1.")
        got = b""
        async with asyncio.timeout(10):
            while got.count(b"\r\n\r\nok") < answers and (piece := await reader.read(10_000)):
                got += piece
        writer.close()
        await writer.wait_closed()
        for connection in list(state.connections):
            connection.transport.close()
        await asyncio.sleep(0)
    return [*seen, got]


@pytest.mark.parametrize("request_", REQUESTS)
async def test_whatever_is_asked_the_application_is_told_what_uvicorn_tells(request_):
    assert await told(JoinedWritesProtocol, request_) == await told(HttpToolsProtocol, request_)
