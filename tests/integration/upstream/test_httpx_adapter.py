"""Our client under an `httpx.AsyncClient`."""

import asyncio

import httpx
import pytest

from routing.upstream.httpx_adapter import FastTransport
from tests.wire.answers import EVENTS, HI, OK, chunks
from tests.wire.server import Wire, WireServer, answers


def url(server: WireServer, path: str = "/v1/x?a=b%20c") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


async def test_client_gets_status_headers_and_body():
    created = answers(b"HTTP/1.1 201 Created\r\nX-A: b\r\n" + HI)
    async with WireServer(created) as server, httpx.AsyncClient(transport=FastTransport()) as client:
        for _ in range(2):
            response = await client.post(url(server), json={"model": "m"})

    assert (response.status_code, response.headers["x-a"], response.text) == (201, "b", "hi")
    assert server.connections == 1


async def test_request_is_what_the_client_built():
    seen = []

    async def play(wire: Wire) -> None:
        seen.append(await wire.request())
        await wire.send(OK + HI)

    async def body():
        yield b'{"a":'
        yield b"1}"

    async with WireServer(play) as server, httpx.AsyncClient(transport=FastTransport()) as client:
        await client.post(url(server), content=body(), headers={"x-key": "k"})

    head, _, sent = seen[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/x?a=b%20c http/1.1"
    assert sent == b'{"a":1}'
    assert b"x-key: k" in lines
    assert [line for line in lines if line.startswith((b"accept-encoding", b"content-length", b"transfer"))] == [
        b"accept-encoding: identity",
        b"content-length: 7",
    ]


async def test_stream_is_read_as_it_comes():
    events = answers(OK + b"transfer-encoding: chunked\r\n\r\n" + chunks(*EVENTS))
    async with (
        WireServer(events) as server,
        httpx.AsyncClient(transport=FastTransport()) as client,
        client.stream("GET", url(server)) as response,
    ):
        assert b"".join([piece async for piece in response.aiter_raw()]) == b"".join(EVENTS)


async def test_leaving_a_stream_closes_the_connection():
    async def play(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\nbegin")
        await wire.gone()

    async with WireServer(play) as server, httpx.AsyncClient(transport=FastTransport()) as client:
        async with client.stream("GET", url(server)):
            assert server.open == 1
        await asyncio.sleep(0.1)
        assert server.open == 0


async def cut_short(wire: Wire) -> None:
    await wire.request()
    await wire.send(OK + b"content-length: 10\r\n\r\nhi")


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.gone()


async def resets(wire: Wire) -> None:
    await wire.request()
    wire.reset()


@pytest.mark.parametrize(
    "script, error",
    [
        (cut_short, httpx.RemoteProtocolError),
        (silent, httpx.ReadTimeout),
        (resets, httpx.ReadError),
        (answers(b"SSH-2.0-OpenSSH\r\n"), httpx.RemoteProtocolError),
    ],
    ids=["cut short", "silent", "resets", "no HTTP"],
)
async def test_errors_are_httpx_own(script, error):
    async with WireServer(script) as server, httpx.AsyncClient(transport=FastTransport(), timeout=0.2) as client:
        with pytest.raises(error):
            await client.get(url(server))


async def test_nobody_listening_is_a_connect_error():
    async with WireServer(silent) as server:
        pass
    async with httpx.AsyncClient(transport=FastTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url(server))


async def test_other_schemes_are_refused():
    async with httpx.AsyncClient(transport=FastTransport()) as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/x")
