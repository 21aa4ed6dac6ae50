"""Clients that send or read slowly, or too much of a head: they hurt nobody but themselves."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from llmproxy_site.patient_protocol import LONGEST_HEAD
from tests.fakes import behaviours as b
from tests.fakes.load import Client
from tests.fakes.nonce import chat_body, new_nonce
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway
from tests.integration.test_cache_faults import eventually

CHAT = "/chat/completions"
PROTOCOL = "llmproxy_site.patient_protocol"
EVENT = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'


@contextlib.asynccontextmanager
async def connected(proxy: Gateway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def head_of(size: int, path: str = "/health/live") -> bytes:
    """A whole request head of that many bytes."""
    begin = b"GET %b HTTP/1.1\r\nhost: localhost\r\nx-long: " % path.encode()
    return begin + b"x" * (size - len(begin) - 4) + b"\r\n\r\n"


# -- bodies


async def test_slow_uploads_take_no_place(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1), general={"max_in_flight": 1})
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            client = await stack.enter_async_context(Client(proxy.url))
            headers = {"content-length": "5000", "content-type": "application/json"}
            await client.start("POST", CHAT, b"{", headers)
        await asyncio.sleep(0.1)
        assert (await proxy.ask()).verdict is None


async def test_a_slow_upload_that_makes_progress_is_answered(
    upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routing.openai.body._SILENCE_S", 0.5)
    proxy = await gateway(*await upstreams(1))
    body = b'{"model":"m","messages":[],"x":"' + b"x" * 5000 + b'"}'
    async with connected(proxy) as (reader, writer):
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n")
        writer.write(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 500):
            writer.write(body[at : at + 500])
            await asyncio.sleep(0.2)
        assert b" 200 " in await reader.readline()


async def test_a_body_that_stops_is_408_and_the_connection_ends(
    upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routing.openai.body._SILENCE_S", 0.1)
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream)
    async with Client(proxy.url) as client:
        await client.start("POST", CHAT, b"{", {"content-length": "5000", "content-type": "application/json"})
        got = await client.head()
        ends = got.headers["connection"]
        await client.finish(got)
    assert (got.status, got.error["code"], ends) == (408, "request_timeout", "close")
    assert upstream.requests == []


# -- heads


@pytest.mark.parametrize("piece", [1000, 300_000], ids=["in pieces", "at once"])
@pytest.mark.parametrize("again", [False, True], ids=["new connection", "used connection"])
async def test_a_head_may_have_64_kib(
    piece: int, again: bool, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    proxy = await gateway(*await upstreams(1))
    for size, status in ((LONGEST_HEAD, b" 200 "), (LONGEST_HEAD + 1, b" 431 ")):
        async with connected(proxy) as (reader, writer):
            if again:
                writer.write(head_of(100))
                await reader.readuntil(b"}")
            head = head_of(size)
            for at in range(0, size, piece):
                writer.write(head[at : at + piece])
                await asyncio.sleep(0)
            assert status in await reader.readline()


async def test_a_head_without_end_is_closed(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with connected(proxy) as (_, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(5000):
                writer.write(b"x-more: 1\r\n" * 10)
                await writer.drain()
                await asyncio.sleep(0)


async def test_a_refused_head_ends_the_connection(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with connected(proxy) as (reader, writer):
        writer.write(head_of(LONGEST_HEAD + 1))
        answer = await reader.read(-1)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nRequest head larger than 64 KiB.")


async def test_a_large_body_is_no_large_head(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with proxy.client() as client:
        for _ in range(3):
            body = b'{"x":"%b",%b' % (b"x" * 1_000_000, chat_body(new_nonce())[1:])
            assert (await client.post(CHAT, body)).status == 200


async def test_pipelined_requests_are_no_large_head(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with connected(proxy) as (reader, writer):
        writer.write(head_of(900) * 200)
        for _ in range(200):
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
            await reader.readuntil(b"}")


@pytest.mark.parametrize("used", [False, True])
async def test_a_slow_head_is_closed(
    used: bool, upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PROTOCOL}._HEAD_S", 0.3)
    proxy = await gateway(*await upstreams(1))
    async with connected(proxy) as (reader, writer):
        if used:
            writer.write(head_of(100))
            await reader.readuntil(b"}")
        for byte in b"GET /he":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert await asyncio.wait_for(reader.read(), 3) == b""


async def test_a_head_in_pieces_is_answered_and_its_connection_stays(
    upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PROTOCOL}._HEAD_S", 0.4)
    proxy = await gateway(*await upstreams(1))
    async with connected(proxy) as (reader, writer):
        for _ in range(2):
            for half in (head_of(100)[:50], head_of(100)[50:]):
                writer.write(half)
                await asyncio.sleep(0.05)
            await reader.readuntil(b"}")
            await asyncio.sleep(0.6)


# -- answers that nobody reads

NEVER_READ = b'{"model":"m","stream":true,"messages":[]}'


def stops_reading(port: int) -> socket.socket:
    """Asks for a stream and never reads it; what the kernel keeps for it is small."""
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    asking.connect(("127.0.0.1", port))
    body = NEVER_READ
    asking.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    asking.send(b"content-length: %d\r\n\r\n%b" % (len(body), body))
    return asking


async def test_a_client_that_never_reads_frees_its_endpoint(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.stream(*[EVENT % (b"y" * 100_000)] * 200, end="silence")
    proxy = await gateway(upstream, general={"stream_timeout": 1, "idle_timeout": 9, "max_in_flight": 1})
    with stops_reading(proxy.port):
        await upstream.wait_for_requests(1)
        for _ in range(100):
            if proxy.parts.entrance.in_flight:
                await asyncio.sleep(0.05)
    state = await proxy.endpoint("a")
    assert (state["in_flight"], state["cancelled_requests"], state["failed_requests"]) == (0, 1, 0)
    upstream.always = b.honest()
    assert (await proxy.ask()).verdict is None


@pytest.mark.parametrize("header", ["", "cache-control: max-age=1\r\n"])
async def test_a_kept_answer_waits_for_its_client_only_as_long_as_any_other(
    upstreams: StartUpstreams, gateway: StartGateway, header: str
) -> None:
    """With the header it is not one that is at hand."""
    (upstream,) = await upstreams(1)
    message = b'{"role":"assistant","content":"%b"}' % (b"y" * 900_000)
    answer = b'{"object":"chat.completion","choices":[{"index":0,"message":%b,"finish_reason":"stop"}]}' % message
    upstream.always = b.body(200, answer)
    proxy = await gateway(upstream, general={"cache": True, "http_timeout": 1})
    asked = b'{"model":"m","messages":[]}'
    async with proxy.client() as client:
        for _ in range(3):
            assert (await client.post(CHAT, asked)).status == 200
    assert len(upstream.requests) == 1
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + header
    request = head.encode() + b"content-length: %d\r\n\r\n%b" % (len(asked), asked)
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.connect(("127.0.0.1", proxy.port))
        asking.send(request * 12)
        await eventually(lambda: proxy.parts.recorder.own().requests.cancelled == 1, 10)


async def test_a_client_that_takes_nothing_for_long_is_cut_off(
    upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PROTOCOL}._STALLED_S", 0.3)
    (upstream,) = await upstreams(1)
    upstream.always = b.stream(*[EVENT % (b"y" * 100_000)] * 200, end="silence")
    proxy = await gateway(upstream, general={"stream_timeout": 60, "idle_timeout": 60})
    with stops_reading(proxy.port):
        await upstream.wait_for_requests(1)
        await upstream.wait_for_close(upstream.requests[0], 5)


async def test_a_kept_stream_leaves_no_faster_than_its_client_reads(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    upstream.always = b.stream(*[EVENT % (b"y" * 100_000)] * 100, end)
    proxy = await gateway(upstream, general={"cache": True})
    async with proxy.client() as client:
        await client.post(CHAT, NEVER_READ)
    await eventually(lambda: proxy.parts.recorder.own().cache["written:entries"] == 1)
    with stops_reading(proxy.port):
        await eventually(lambda: proxy.parts.recorder.own().cache["hit:store"] == 1)
        await asyncio.sleep(0.2)
        assert proxy.parts.entrance.in_flight == 1


# -- idle connections


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(
    upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.in_process.KEEP_ALIVE_S", 1)
    proxy = await gateway(*await upstreams(1))
    loop = asyncio.get_running_loop()
    async with Client(proxy.root) as client:
        for _ in range(8):  # for twice as long as one that does nothing may stay
            assert (await client.get("/health/live")).status == 200
            await asyncio.sleep(0.25)
    async with connected(proxy) as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        answered_at = loop.time()
        await reader.read()
        assert 0.9 < loop.time() - answered_at < 3


async def test_a_long_answer_is_no_idleness(
    upstreams: StartUpstreams, gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.integration.in_process.KEEP_ALIVE_S", 1)
    (a,) = await upstreams(1)
    proxy = await gateway(a)
    async with Client(proxy.url) as client:
        assert (await client.post(CHAT, chat_body(new_nonce()))).status == 200  # the timer runs from here
        a.always = b.honest(delay=2.2)
        assert (await client.post(CHAT, chat_body(new_nonce()))).status == 200
