"""The link to a real Valkey that is killed, frozen, absent, busy, and back."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from llmproxy_site.embedded_store import EmbeddedStore
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink
from llmproxy_site.store_trouble import StoreNews, StoreUnavailable
from tests.fakes.store_front import front_of
from tests.fakes.valkey import Valkey

IN_PROCESS = StoreAddress("in_process", "memory://")


@asynccontextmanager
async def linked(address: StoreAddress, **options: float) -> AsyncIterator[StoreLink]:
    link = StoreLink(address, **options)
    try:
        yield link
    finally:
        await link.aclose()


async def until_back(link: StoreLink, seconds: float = 2.0) -> None:
    async with asyncio.timeout(seconds):
        while not link.available:  # noqa: ASYNC110 - as callers see it
            await asyncio.sleep(0.01)


@pytest.fixture
def own() -> Iterator[Valkey]:
    """A Valkey that the test may hurt."""
    with Valkey() as valkey:
        yield valkey
        valkey.process.send_signal(signal.SIGCONT)


@pytest.fixture(params=["valkey", "in_process"])
async def any_store(request: pytest.FixtureRequest, valkey: Valkey) -> StoreAddress:
    if request.param == "in_process":
        async with linked(IN_PROCESS) as link:
            await link.run(("FLUSHALL",))
        return IN_PROCESS
    await valkey.empty()
    return valkey.address


async def test_a_pipeline_answers_in_order_as_bytes(any_store):
    async with linked(any_store) as link:
        replies = await link.run(("SET", "k", "v"), ("INCRBY", "n", 5), ("GET", b"k"), ("GET", "missing"))
    assert replies == [b"OK", 5, b"v", None]


async def test_an_error_of_one_command_stands_in_its_place(any_store):
    async with linked(any_store) as link:
        _, second, third = await link.run(("SET", "k", "v"), ("LPUSH", "k", "x"), ("GET", "k"))
        assert isinstance(second, ResponseError)
        assert third == b"v"
        assert link.available


async def test_two_links_in_one_process_share_the_store_of_last_resort():
    async with linked(IN_PROCESS) as one, linked(IN_PROCESS) as other:
        await one.run(("SET", "shared", "yes"))
        assert await other.run(("GET", "shared")) == [b"yes"]


async def test_published_messages_arrive(any_store):
    got: asyncio.Queue[bytes] = asyncio.Queue()
    async with linked(any_store) as link:

        async def greet() -> None:
            await link.run(("PUBLISH", "news", b"\x00hello"))

        listening = asyncio.ensure_future(link.listen("news", got.put_nowait, greet))
        assert await asyncio.wait_for(got.get(), 2) == b"\x00hello"
        await asyncio.sleep(2.3)  # over two heartbeats
        await greet()
        assert await asyncio.wait_for(got.get(), 2) == b"\x00hello"
        assert got.empty()
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def test_an_absent_store_fails_at_once(tmp_path):
    async with linked(StoreAddress("embedded", f"unix://{tmp_path}/none.sock")) as link:
        for _ in range(3):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await link.run(("GET", "k"))
            assert time.monotonic() - begun < 0.2
        assert not link.available


async def test_a_black_hole_costs_one_connect_timeout():
    address = StoreAddress("given", "redis://192.0.2.1:6379")  # reserved for documentation: nobody answers
    async with linked(address, connect_timeout_s=0.2) as link:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await link.run(("GET", "k"))
        assert time.monotonic() - begun < 0.6
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await link.run(("GET", "k"))
        assert time.monotonic() - begun < 0.15


async def test_a_frozen_store_holds_callers_once_and_no_longer_than_the_timeout(own):
    async with linked(own.address, max_connections=4) as link:
        await asyncio.gather(*(link.run(("PING",)) for _ in range(4)))
        own.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        results = await asyncio.gather(*(link.run(("GET", "k")) for _ in range(50)), return_exceptions=True)
        assert time.monotonic() - begun < 1  # one after the other they would need three
        assert {type(result) for result in results} == {StoreUnavailable}
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await link.run(("GET", "k"))
        assert time.monotonic() - begun < 0.15


async def test_a_thawed_store_is_back_in_use_within_two_seconds(own):
    async with linked(own.address) as link:
        own.process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable):
            await link.run(("SET", "k", "lost or not"))
        await asyncio.sleep(1)
        assert not link.available
        own.process.send_signal(signal.SIGCONT)
        await until_back(link)
        assert await link.run(("SET", "k", "v"), ("GET", "k")) == [b"OK", b"v"]


async def test_replies_that_come_after_the_timeout_reach_nobody(own):
    async with linked(own.address, max_connections=2) as link:
        await link.run(("SET", "late", "wrong"))
        own.process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreUnavailable):
            await link.run(("GET", "late"))
        own.process.send_signal(signal.SIGCONT)
        await until_back(link)
        for number in range(20):
            assert await link.run(("ECHO", f"{number}")) == [b"%d" % number]


async def test_a_callers_own_timeout_is_shorter(own):
    async with linked(own.address) as link:
        await link.run(("PING",))
        own.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await link.run(("GET", "k"), timeout_s=0.05)
        assert time.monotonic() - begun < 0.2


async def test_a_process_that_stood_still_itself_does_not_blame_the_store(store):
    async with linked(store) as link:
        await link.run(("PING",))
        # The reply comes after 0.1 s, is due after 0.25, and can be read after 0.55.
        asyncio.get_running_loop().call_later(0.05, time.sleep, 0.5)  # noqa: TID251 - what must not hurt
        assert await link.run(("BLPOP", "empty", 0.1)) == [None]
        assert link.available


async def test_cancelled_calls_leave_no_reply_behind(store):
    async with linked(store, max_connections=3) as link:
        wrong = 0

        async def call(number: int) -> None:
            nonlocal wrong
            try:
                async with asyncio.timeout(0.0003 * (number % 7)):
                    reply = await link.run(("ECHO", f"nonce-{number}"), ("ECHO", "second"))
            except TimeoutError:
                return
            wrong += reply != [f"nonce-{number}".encode(), b"second"]

        for start in range(0, 2000, 20):
            await asyncio.gather(*(call(number) for number in range(start, start + 20)))
        assert wrong == 0
        assert link.available
        assert await link.run(("ECHO", "last")) == [b"last"]


async def test_a_call_given_up_in_the_middle_of_its_command_leaves_no_connection_behind(own):
    """Closing one politely would wait until a frozen store reads what is left."""
    async with linked(own.address) as link:
        await link.run(("PING",))
        own.process.send_signal(signal.SIGSTOP)
        before = open_files()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await link.run(("SET", "k", bytes(8 << 20)))
        await asyncio.sleep(0)
        assert open_files() == before - 1


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_more_callers_than_connections_all_get_their_answers(store):
    async with linked(store, max_connections=2, reply_timeout_s=10) as link:
        replies = await asyncio.gather(*(link.run(("ECHO", f"{number}")) for number in range(100)))
    assert replies == [[b"%d" % number] for number in range(100)]


async def test_idle_connections_that_the_store_closed_are_replaced_unseen(store):
    async with linked(store) as link, linked(store) as other:
        await asyncio.gather(*(link.run(("PING",)) for _ in range(5)))
        await other.run(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        await asyncio.sleep(0.05)
        assert await link.run(("ECHO", "x")) == [b"x"]
        assert link.available


async def test_a_killed_store_that_is_started_again_is_back_within_two_seconds(tmp_path):
    with EmbeddedStore(tmp_path) as embedded:
        got: list[bytes] = []
        connected = 0
        async with linked(StoreAddress("embedded", f"unix://{embedded.socket_path}")) as link:

            async def subscribed() -> None:
                nonlocal connected
                connected += 1
                await link.run(("PUBLISH", "news", f"{connected}"))

            listening = asyncio.ensure_future(link.listen("news", got.append, subscribed))
            async with asyncio.timeout(2):
                while got != [b"1"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            with capture_logs() as logs:
                os.kill(embedded.pid, signal.SIGKILL)
                async with asyncio.timeout(2):
                    while got != [b"1", b"2"] or not link.available:
                        with suppress(StoreUnavailable):
                            await link.run(("GET", "k"))
                        await asyncio.sleep(0.005)
            listening.cancel()
        events = [line["event"] for line in logs if line["event"].startswith("store")]
        assert events == ["store unavailable", "store back"]


async def test_only_one_probe_runs_however_many_callers_fail(tmp_path):
    accepted = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(accept, path)
    async with linked(StoreAddress("given", f"unix://{path}"), max_connections=8) as link:
        await asyncio.gather(*(link.run(("PING",)) for _ in range(8)), return_exceptions=True)
        before = accepted
        await asyncio.sleep(1)
        assert 2 <= accepted - before <= 6  # one every quarter second
    server.close()
    await server.wait_closed()


async def test_a_loading_store_counts_as_unavailable(tmp_path):
    async def load(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(b"-LOADING Valkey is loading the dataset in memory\r\n")
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(load, path)
    async with linked(StoreAddress("given", f"unix://{path}")) as link:
        with pytest.raises(StoreUnavailable):
            await link.run(("GET", "k"))
        assert not link.available
    server.close()
    await server.wait_closed()


async def test_something_that_is_no_redis_counts_as_unavailable(tmp_path):
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nsecret-text\r\n")
        await writer.drain()
        await reader.read(100)
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(babble, path)
    async with linked(StoreAddress("given", f"unix://{path}")) as link:
        with pytest.raises(StoreUnavailable) as caught:
            await link.run(("GET", "k"))
        assert "secret-text" not in str(caught.value)
    server.close()
    await server.wait_closed()


async def test_a_wrong_password_is_trouble_without_the_password_in_the_log(tmp_path):
    with EmbeddedStore(tmp_path) as embedded:
        address = StoreAddress("given", f"unix://{embedded.socket_path}?password=hunter2")
        with capture_logs() as logs:
            async with linked(address) as link:
                with pytest.raises(StoreUnavailable):
                    await link.run(("GET", "k"))
    assert [line["event"] for line in logs] == ["store unavailable"]
    assert "hunter2" not in str(logs)


async def test_clients_that_share_their_news_say_it_once(own):
    news = StoreNews(own.address)
    with capture_logs() as logs:
        async with linked(own.address, news=news) as one, linked(own.address, news=news) as other:
            own.process.send_signal(signal.SIGSTOP)
            await asyncio.gather(one.ping(), other.ping())
            own.process.send_signal(signal.SIGCONT)
            await until_back(one)
            await until_back(other)
    assert [line["event"] for line in logs] == ["store unavailable", "store back"]


async def test_a_client_that_was_closed_in_trouble_is_not_waited_for(own):
    news = StoreNews(own.address)
    with capture_logs() as logs:
        async with linked(own.address, news=news) as one:
            async with linked(own.address, news=news) as other:
                own.process.send_signal(signal.SIGSTOP)
                await asyncio.gather(one.ping(), other.ping())
            own.process.send_signal(signal.SIGCONT)
            await until_back(one)
    assert [line["event"] for line in logs] == ["store unavailable", "store back"]


async def test_a_closed_link_refuses(store):
    link = StoreLink(store)
    await link.run(("PING",))
    await link.aclose()
    with pytest.raises(StoreUnavailable):
        await link.run(("PING",))


async def test_tls_certificates_are_checked_as_told(valkey: Valkey, tmp_path: Path):
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    outcomes = {}
    async with front_of(valkey, authority=authority) as port:
        for query in ("ssl_cert_reqs=required", "ssl_cert_reqs=none", f"ssl_cert_reqs=required&ssl_ca_certs={file}"):
            async with linked(StoreAddress("given", f"rediss://localhost:{port}?{query}"), connect_timeout_s=2) as link:
                outcomes[query.replace(str(file), "FILE")] = await link.ping()
    assert outcomes == {
        "ssl_cert_reqs=required": False,
        "ssl_cert_reqs=none": True,
        "ssl_cert_reqs=required&ssl_ca_certs=FILE": True,
    }
