"""TLS with real certificate chains: what must be refused is refused before a byte of the request is sent."""

import asyncio
import datetime
import ssl
import warnings
from pathlib import Path

import pytest
import trustme

from routing.upstream.errors import AnswerBroken, ConnectFailed
from tests.wire.answers import HI, OK
from tests.wire.asking import ask, fetch, limits, post
from tests.wire.server import Wire, WireServer, answers

ANSWER = OK + HI


class Authority:
    """A certificate authority of the test, and servers' contexts from it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def context(self, *names: str, issuer: trustme.CA | None = None, **fields) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (issuer or self.ca).issue_cert(*names, **fields).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_right_certificate_is_accepted_and_the_connection_kept(fast, authority, host):
    async with WireServer(answers(ANSWER), authority.context("localhost", "127.0.0.1")) as server:
        for _ in range(3):
            assert await fetch(fast, server.origin(host, authority.ca_file)) == b"hi"

        assert server.connections == 1


async def test_chain_through_an_intermediate_is_accepted(fast, authority):
    between = authority.ca.create_child_ca()

    async with WireServer(answers(ANSWER), authority.context("127.0.0.1", issuer=between)) as server:
        assert await fetch(fast, server.origin(ca_file=authority.ca_file)) == b"hi"


async def refusal(fast, origin) -> str:
    with pytest.raises(ConnectFailed) as failed:
        await ask(fast, origin)
    (pool,) = fast.pools
    assert repr(pool).endswith("idle=0 in_use=0 connecting=0>")
    return str(failed.value)


async def test_certificate_of_another_host_is_refused(fast, authority):
    async with WireServer(answers(ANSWER), authority.context("other.example")) as server:
        message = await refusal(fast, server.origin("localhost", authority.ca_file))

    assert message.startswith("TLS: certificate not accepted")
    assert "localhost" not in message


async def test_certificate_of_another_address_is_refused(fast, authority):
    async with WireServer(answers(ANSWER), authority.context("127.0.0.2", "localhost")) as server:
        assert "not accepted" in await refusal(fast, server.origin("127.0.0.1", authority.ca_file))


async def test_expired_certificate_is_refused(fast, authority):
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    with warnings.catch_warnings():
        context = authority.context("127.0.0.1", not_after=yesterday)

    async with WireServer(answers(ANSWER), context) as server:
        assert "expired" in await refusal(fast, server.origin(ca_file=authority.ca_file))


async def test_certificate_of_an_unknown_authority_is_refused(fast, authority, tmp_path):
    async with WireServer(answers(ANSWER), authority.context("127.0.0.1", issuer=trustme.CA())) as server:
        assert "not accepted" in await refusal(fast, server.origin(ca_file=authority.ca_file))


async def test_ca_file_replaces_the_systems_store(fast, authority):
    async with WireServer(answers(ANSWER), authority.context("127.0.0.1")) as server:
        assert "not accepted" in await refusal(fast, server.origin())


async def test_environment_may_name_the_store(fast, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)

    async with WireServer(answers(ANSWER), authority.context("127.0.0.1")) as server:
        assert await fetch(fast, server.origin()) == b"hi"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_ca_file_is_connect_failed(fast, authority, tmp_path, content):
    ca_file = tmp_path / "broken.pem"
    if content is not None:
        ca_file.write_text(content)

    async with WireServer(answers(ANSWER), authority.context("127.0.0.1")) as server:
        message = await refusal(fast, server.origin(ca_file=str(ca_file)))

    assert message.startswith("TLS:")


async def test_old_protocol_is_refused(fast, authority):
    context = authority.context("127.0.0.1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    async with WireServer(answers(ANSWER), context) as server:
        assert await refusal(fast, server.origin(ca_file=authority.ca_file))


async def test_plain_server_is_connect_failed(fast, authority):
    async def plain(wire: Wire) -> None:
        await wire.reader.read(1)
        await wire.send(ANSWER)

    async with WireServer(plain) as server:
        origin = server.origin()
        assert (
            await refusal(fast, type(origin)("https", origin.host, origin.port, authority.ca_file))
            == "TLS: handshake failed"
        )


def streams(body: bytes, head: bytes, end: str):
    async def play(wire: Wire) -> None:
        await wire.request()
        await wire.send(head + body)
        await asyncio.sleep(0.02)
        if end == "cut":
            wire.cut()
            await asyncio.sleep(0.05)

    return play


async def read_over_tls(fast, authority, script) -> bytes:
    async with WireServer(script, authority.context("127.0.0.1")) as server:
        return await fetch(fast, server.origin(ca_file=authority.ca_file))


async def test_body_until_the_end_is_whole_after_close_notify(fast, authority):
    assert await read_over_tls(fast, authority, streams(b"whole", OK + b"\r\n", "close")) == b"whole"


async def test_body_until_the_end_without_close_notify_was_cut(fast, authority):
    with pytest.raises(AnswerBroken, match="cut short"):
        await read_over_tls(fast, authority, streams(b"half", OK + b"\r\n", "cut"))


@pytest.mark.parametrize("end", ["close", "cut"])
async def test_end_in_the_middle_of_a_body_is_broken(fast, authority, end):
    with pytest.raises(AnswerBroken, match="cut short"):
        await read_over_tls(fast, authority, streams(b"half", OK + b"content-length: 10\r\n\r\n", end))


async def test_whole_answer_before_a_cut_is_an_answer(fast, authority):
    assert await read_over_tls(fast, authority, streams(b"", ANSWER, "cut")) == b"hi"


async def test_large_bodies_go_both_ways(fast, authority):
    body = bytes(range(256)) * 12_000

    async def echo(wire: Wire) -> None:
        sent = (await wire.request()).partition(b"\r\n\r\n")[2]
        await wire.send(OK + b"content-length: %d\r\n\r\n" % len(sent) + sent)

    async with WireServer(echo, authority.context("127.0.0.1")) as server:
        reply = await fast.send(post(server.origin(ca_file=authority.ca_file)), body, limits())
        assert await reply.read() == body


async def test_closed_in_the_middle_closes_at_once(fast, authority):
    async def never_ends(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK + b"\r\nbegin")
        await wire.gone()

    async with WireServer(never_ends, authority.context("127.0.0.1")) as server:
        reply = await ask(fast, server.origin(ca_file=authority.ca_file))
        assert await reply.piece() == b"begin"
        reply.close()
        await asyncio.sleep(0.1)

        assert server.open == 0


async def test_context_is_built_once(fast, authority, monkeypatch):
    built = []
    monkeypatch.setattr(
        "routing.upstream.dial.tls_context",
        lambda ca_file: built.append(ca_file) or ssl.create_default_context(cafile=ca_file),
    )

    async with WireServer(answers(ANSWER), authority.context("127.0.0.1")) as server:
        origin = server.origin(ca_file=authority.ca_file)
        await asyncio.gather(*(fetch(fast, origin) for _ in range(5)))

    assert built == [authority.ca_file]
