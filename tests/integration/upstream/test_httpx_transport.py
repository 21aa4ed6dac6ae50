"""The same protocol over httpx's transport: same limits, same errors, and proxies."""

import asyncio
import ssl

import pytest
import trustme

from routing.upstream.errors import (
    AnswerBroken,
    AnswerTooLarge,
    ConnectFailed,
    ConnectionReset,
    PoolFull,
    UpstreamTimeout,
)
from routing.upstream.httpx_transport import HttpxUpstream
from routing.upstream.transport import Origin
from tests.wire.answers import HI, OK
from tests.wire.asking import ask, fetch, limits, post
from tests.wire.server import Wire, WireServer, answers

ANSWER = OK + HI


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.gone()


async def test_request_on_the_wire_is_the_fast_clients(fast, through_httpx):
    seen = []

    async def play(wire: Wire) -> None:
        seen.append(await wire.request())
        await wire.send(ANSWER)

    async with WireServer(play) as server:
        target = post(server.origin(), "/a%2Fb/%C3%A9?x=%20y&z=[1]")
        for upstream in (fast, through_httpx):
            reply = await upstream.send(target, b"{}", limits(), [(b"x-request-id", b"a1")])
            assert await reply.read() == b"hi"

    ours, theirs = (request.lower().split(b"\r\n") for request in seen)
    assert ours[0] == theirs[0]
    assert sorted(ours) == sorted(theirs)


async def test_connection_is_kept_and_fresh_ones_are_new(through_httpx):
    async with WireServer(answers(ANSWER)) as server:
        for _ in range(3):
            assert await fetch(through_httpx, server.origin()) == b"hi"
        assert server.connections == 1

        assert await fetch(through_httpx, server.origin(), fresh=True) == b"hi"
        assert server.connections == 2


async def test_stale_connection_is_replaced_unseen(through_httpx):
    async def play(wire: Wire) -> None:
        await wire.request()
        await wire.send(ANSWER)
        await wire.reader.readexactly(1)
        wire.reset()

    async with WireServer(play) as server:
        assert await fetch(through_httpx, server.origin()) == b"hi"
        assert await fetch(through_httpx, server.origin()) == b"hi"


async def test_new_connection_that_is_reset_is_not_tried_again(through_httpx):
    async def reset(wire: Wire) -> None:
        await wire.request()
        wire.reset()

    async with WireServer(reset) as server:
        with pytest.raises(ConnectionReset):
            await fetch(through_httpx, server.origin())
        assert server.connections == 1


async def test_more_than_max_connections_is_refused_at_once(through_httpx):
    async with WireServer(answers(OK + b"content-length: 3\r\n\r\nhi")) as server:
        held = [await ask(through_httpx, server.origin(), max_connections=2) for _ in range(2)]
        with pytest.raises(PoolFull):
            await ask(through_httpx, server.origin(), max_connections=2)

        held[0].close()
        await asyncio.sleep(0.02)
        (await ask(through_httpx, server.origin(), max_connections=2)).close()
        held[1].close()


async def test_deadlines(through_httpx):
    async def stalls(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\nhi")
        await wire.gone()

    async with WireServer(silent) as server:
        with pytest.raises(UpstreamTimeout, match="head"):
            await ask(through_httpx, server.origin(), within=0.1)
    async with WireServer(stalls) as server:
        with pytest.raises(UpstreamTimeout, match="total"):
            await fetch(through_httpx, server.origin(), within=0.1)
        reply = await ask(through_httpx, server.origin())
        reply.idle_timeout_s = 0.1
        assert await reply.piece() == b"hi"
        with pytest.raises(UpstreamTimeout, match="idle"):
            await reply.piece()
        reply.close()


async def test_cancelled_or_closed_closes_at_once(through_httpx):
    async def begins(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\nhi")
        await wire.gone()

    async with WireServer(silent) as server:
        asking = asyncio.ensure_future(ask(through_httpx, server.origin()))
        await asyncio.sleep(0.1)
        assert server.open == 1
        asking.cancel()
        await asyncio.sleep(0.15)
        assert server.open == 0
    async with WireServer(begins) as server:
        (await ask(through_httpx, server.origin())).close()
        await asyncio.sleep(0.15)
        assert server.open == 0


async def test_wire_errors_are_ours(through_httpx):
    async with WireServer(answers(ANSWER)) as server:
        nobody = server.origin()
    with pytest.raises(ConnectFailed):
        await ask(through_httpx, nobody)
    async with WireServer(answers(b"SSH-2.0-OpenSSH\r\n\r\n")) as server:
        with pytest.raises(AnswerBroken):
            await ask(through_httpx, server.origin())
    async with WireServer(answers(OK + b"content-encoding: gzip\r\n" + HI)) as server:
        with pytest.raises(AnswerBroken):
            await ask(through_httpx, server.origin())
    async with WireServer(answers(OK + b"content-length: 9\r\n\r\ntoo large")) as server:
        with pytest.raises(AnswerTooLarge):
            await fetch(through_httpx, server.origin(), max_body_bytes=8)


async def test_redirect_is_not_followed(through_httpx):
    async with WireServer(answers(b"HTTP/1.1 301 Moved\r\nlocation: /other\r\n" + HI)) as server:
        reply = await ask(through_httpx, server.origin())
        assert (reply.status, await reply.read()) == (301, b"hi")


async def relay(wire: Wire) -> bytes:
    """Plays an HTTP proxy for one connection; the request that it was asked."""
    request = await wire.request()
    line = request.partition(b"\r\n")[0]
    if not line.startswith(b"CONNECT"):
        await wire.send(ANSWER)
        return line
    host, _, port = line.split(b" ")[1].decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await wire.send(b"HTTP/1.1 200 Connected\r\n\r\n")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)

    pumps = [asyncio.ensure_future(pump(reader, wire.writer)), asyncio.ensure_future(pump(wire.reader, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        writer.close()
        for each in pumps:
            each.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    return line


async def test_http_goes_through_its_proxy():
    asked = []

    async def proxy(wire: Wire) -> None:
        asked.append(await relay(wire))

    async with WireServer(proxy) as server:
        upstream = HttpxUpstream({"HTTP_PROXY": f"http://127.0.0.1:{server.port}"})
        assert await fetch(upstream, Origin("http", "far.example", 80)) == b"hi"
        await upstream.aclose()

    assert asked == [b"POST http://far.example/v1/chat/completions HTTP/1.1"]


async def test_https_is_tunnelled_and_verified_to_its_end(tmp_path):
    authority = trustme.CA()
    ca_file = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def proxy(wire: Wire) -> None:
        await relay(wire)

    async with WireServer(answers(ANSWER), context) as server, WireServer(proxy) as between:
        upstream = HttpxUpstream({"HTTPS_PROXY": f"http://127.0.0.1:{between.port}"})
        assert await fetch(upstream, server.origin("localhost", ca_file)) == b"hi"
        assert between.connections == 1
        with pytest.raises(ConnectFailed):
            await fetch(upstream, server.origin("127.0.0.1", ca_file))
        await upstream.aclose()


async def test_proxy_that_refuses_is_connect_failed():
    async with WireServer(answers(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")) as proxy:
        upstream = HttpxUpstream({"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"})
        with pytest.raises(ConnectFailed, match="proxy"):
            await fetch(upstream, Origin("https", "far.example", 443))
        await upstream.aclose()


async def test_proxy_of_an_unknown_kind_is_connect_failed():
    upstream = HttpxUpstream({"ALL_PROXY": "gopher://127.0.0.1:70"})
    with pytest.raises(ConnectFailed, match="proxy"):
        await fetch(upstream, Origin("http", "far.example", 80))
    await upstream.aclose()
