"""The mock over a socket: its pace, its failures, its wire format."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from routing.mock_upstream import MockUpstream
from tests.fakes.load import Client

Start = Callable[[MockUpstream], Awaitable[str]]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[MockUpstream] = []

    async def start_one(mock: MockUpstream) -> str:
        started.append(mock)
        return f"http://127.0.0.1:{await mock.start()}/v1"

    yield start_one
    for mock in started:
        await mock.stop()


async def test_one_connection_serves_many_requests(start: Start) -> None:
    mock = MockUpstream()
    async with Client(await start(mock)) as client:
        for stream in (False, True, False):
            assert (await client.post("/chat/completions", CHAT | {"stream": stream})).status == 200
    assert mock.requests == 3


async def test_the_latency_is_waited_for(start: Start) -> None:
    async with Client(await start(MockUpstream(latency_ms=80))) as client:
        assert 0.08 <= (await client.post("/chat/completions", CHAT)).seconds < 0.5


async def test_events_come_at_their_interval(start: Start) -> None:
    async with Client(await start(MockUpstream(event_interval_ms=30, events=8))) as client:
        got = await client.post("/chat/completions", CHAT | {"stream": True})
    assert got.data[-1] == "[DONE]"
    assert got.first_byte_s < 0.2 < 0.29 < got.seconds < 1


@pytest.mark.parametrize(("rate", "failed"), [(0.0, 0), (0.25, 5), (0.3, 6), (1.0, 20)])
async def test_failures_are_exactly_as_frequent_as_asked_for(rate: float, failed: int, start: Start) -> None:
    async with Client(await start(MockUpstream(fail_rate=rate))) as client:
        statuses = [(await client.post("/chat/completions", CHAT)).status for _ in range(20)]
    assert (statuses.count(500), statuses.count(200)) == (failed, 20 - failed)


@pytest.mark.parametrize("latency", [0, 20])
async def test_pipelined_requests_are_answered_in_order(latency: int, start: Start) -> None:
    url = await start(MockUpstream(latency_ms=latency))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    for name in ("gpt-4o", "none", "gpt-4o-mini"):
        writer.write(f"GET /v1/models/{name} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    places = [answer.index(f'"{word}"') for word in ("gpt-4o", "model_not_found", "gpt-4o-mini", "list")]
    assert places == sorted(places)
    assert answer.count("HTTP/1.1 ") == 4


async def test_what_is_not_http_is_refused(start: Start) -> None:
    url = await start(MockUpstream())
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    writer.write(b"not http\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


async def test_stopping_ends_streams_and_the_listener(start: Start) -> None:
    mock = MockUpstream(event_interval_ms=50, events=1000)
    client = Client(await start(mock))
    await client.start("POST", "/chat/completions", b'{"messages":[{"role":"user","content":"x"}],"stream":true}')
    await client.head()
    begin = time.monotonic()
    await mock.stop()
    assert time.monotonic() - begin < 1
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(client.host, client.port)
    client.close()
    await asyncio.sleep(0)
