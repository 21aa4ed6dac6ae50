"""The shared line and a store that is absent, frozen, killed, slow to connect, full of nonsense, and back."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from structlog.testing import capture_logs

from llmproxy_site.embedded_store import EmbeddedStore
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_line import StoreLine
from llmproxy_site.store_link import StoreLink
from llmproxy_site.store_trouble import StoreNews, StoreUnavailable
from tests.fakes.black_hole import BlackHole
from tests.fakes.store_front import scripted_store
from tests.fakes.valkey import Valkey

PATIENT = 10.0
WAIT = 0.3  # the limit under test where it is about time: well above what a busy machine takes for an answer
AT_ONCE = 0.15  # below it

Run = Callable[[Callable[[], Awaitable[None]]], None]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def lined(address: StoreAddress, reply_timeout_s: float = WAIT, **options: object) -> AsyncIterator[StoreLine]:
    line = StoreLine(address, reply_timeout_s=reply_timeout_s, **options)
    try:
        yield line
    finally:
        await line.aclose()


async def until_back(line: StoreLine, seconds: float = 2.0) -> None:
    async with asyncio.timeout(seconds):
        while not line.available:  # noqa: ASYNC110 - as callers see it
            await asyncio.sleep(0.01)


async def refusal(awaited: Awaitable[object]) -> tuple[str, float]:
    """What the asker is told, and after how long."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await awaited
    return str(caught.value), time.monotonic() - begun


def said(logs: list[dict[str, object]]) -> list[object]:
    return [line["event"] for line in logs if str(line["event"]).startswith("store")]


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Run:
    """Runs it on asyncio's own loop, and on the one of production: they order timers, reads and writes differently."""

    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario())

    return run


@pytest.fixture
def own() -> Iterator[Valkey]:
    """A Valkey that the test may hurt."""
    with Valkey() as valkey:
        yield valkey
        valkey.process.send_signal(signal.SIGCONT)


# -- not there


async def test_an_absent_store_fails_at_once(tmp_path):
    async with lined(StoreAddress("embedded", f"unix://{tmp_path}/none.sock"), PATIENT) as line:
        for _ in range(3):
            _, seconds = await refusal(line.ask("GET", "k"))
            assert seconds < AT_ONCE
        assert not line.available
        assert not line.post("SET", "k", "v")


async def test_a_black_hole_costs_one_wait_though_connecting_takes_longer():
    with BlackHole() as hole:
        address = StoreAddress("given", f"redis://127.0.0.1:{hole.port}")
        async with lined(address, 0.1, connect_timeout_s=5) as line:
            outcomes = await asyncio.gather(*(refusal(line.ask("GET", "k")) for _ in range(20)))
            assert {why for why, _ in outcomes} == {"timeout"}
            assert 0.09 < max(seconds for _, seconds in outcomes) < 0.1 + AT_ONCE
            _, seconds = await refusal(line.ask("GET", "k"))
            assert seconds < 0.05


async def test_a_store_that_accepts_and_says_nothing_costs_one_wait(tmp_path):
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted_store(tmp_path / "s", say_nothing) as address, lined(address, 0.1) as line:
        why, seconds = await refusal(line.run(("GET", "k")))
        assert (why, line.available) == ("timeout", False)
        assert seconds < 0.1 + AT_ONCE


async def test_waiting_for_the_connection_counts(tmp_path):
    async def greet_late_and_say_no_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        await asyncio.sleep(0.3)
        writer.write(b"+PONG\r\n")
        await reader.read()

    store = scripted_store(tmp_path / "s", greet_late_and_say_no_more)
    async with store as address, lined(address, 0.5, connect_timeout_s=5) as line:
        _, seconds = await refusal(line.ask("GET", "k"))
        assert 0.45 < seconds < 0.5 + AT_ONCE


async def test_connecting_early_spares_the_first_request(own):
    async with lined(own.address) as line:
        line.connect()
        line.connect()
        await asyncio.sleep(0.1)
        own.process.send_signal(signal.SIGSTOP)  # a connection that came later would not get through
        waiter = line.ask("PING")
        await asyncio.sleep(0)
        own.process.send_signal(signal.SIGCONT)
        assert await waiter == b"PONG"


# -- frozen


def test_a_frozen_store_holds_callers_once_and_no_longer_than_the_limit(own, on_loop):
    async def scenario() -> None:
        async with lined(own.address) as line:
            await line.ask("PING")
            own.process.send_signal(signal.SIGSTOP)
            asks = [refusal(line.ask("GET", "k")) for _ in range(50)]
            runs = [refusal(line.run(("GET", "k"), ("GET", "l"))) for _ in range(10)]
            outcomes = await asyncio.gather(*asks, *runs)
            assert {why for why, _ in outcomes} == {"timeout"}
            assert min(seconds for _, seconds in outcomes) > WAIT * 0.9
            assert max(seconds for _, seconds in outcomes) < WAIT + AT_ONCE
            assert not line.available
            assert not line.post("SET", "k", "v")
            for _ in range(3):
                _, seconds = await refusal(line.ask("GET", "k"))
                assert seconds < 0.05
                await asyncio.sleep(0.1)

    on_loop(scenario)


async def test_late_comers_do_not_make_a_frozen_store_wait_longer(own):
    async with lined(own.address) as line:
        await line.ask("PING")
        own.process.send_signal(signal.SIGSTOP)
        first = asyncio.ensure_future(refusal(line.ask("GET", "k")))
        await asyncio.sleep(WAIT * 0.7)
        _, seconds = await refusal(line.ask("GET", "k"))
        assert seconds < WAIT * 0.3 + AT_ONCE
        await first


async def test_each_command_has_the_whole_limit(own):
    async with lined(own.address, 0.5) as line:
        await line.ask("PING")
        begun = time.monotonic()
        first = line.ask("BLPOP", "empty", 0.275)
        await asyncio.sleep(0.25)
        second = line.ask("BLPOP", "empty", 0.275)
        assert [await first, await second] == [None, None]
        assert time.monotonic() - begun > 0.5
        assert line.available


async def test_a_callers_own_limit_is_shorter_and_blames_nobody(own):
    async with lined(own.address, PATIENT) as line:
        await line.ask("SET", "k", "v")
        own.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        why, _ = await refusal(line.run(("GET", "k"), timeout_s=0.1))
        assert why == "timeout"
        assert time.monotonic() - begun < 0.1 + AT_ONCE
        assert line.available
        own.process.send_signal(signal.SIGCONT)
        assert await line.ask("ECHO", "x") == b"x"


async def test_a_thawed_store_is_back_within_two_seconds_and_late_replies_reach_nobody(own):
    async with lined(own.address) as line:
        await line.run(("SET", "late", "wrong"))
        own.process.send_signal(signal.SIGSTOP)
        await refusal(line.ask("GET", "late"))
        await asyncio.sleep(1)
        assert not line.available
        own.process.send_signal(signal.SIGCONT)
        await until_back(line)
        for number in range(20):
            assert await line.ask("ECHO", f"{number}") == b"%d" % number


async def test_one_log_line_for_each_change(own):
    with capture_logs() as logs:
        async with lined(own.address) as line:
            await line.ask("PING")
            own.process.send_signal(signal.SIGSTOP)
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                with suppress(StoreUnavailable):
                    await line.ask("GET", "k")
                await asyncio.sleep(0.01)
            own.process.send_signal(signal.SIGCONT)
            await until_back(line)
    assert said(logs) == ["store unavailable", "store back"]
    assert logs[0]["reason"] == "timeout"


async def test_line_and_link_say_it_once(own):
    news = StoreNews(own.address)
    link = StoreLink(own.address, news=news)
    with capture_logs() as logs:
        async with lined(own.address, news=news) as line:
            await line.ask("PING")
            own.process.send_signal(signal.SIGSTOP)
            await asyncio.gather(refusal(line.ask("PING")), refusal(link.run(("PING",))))
            own.process.send_signal(signal.SIGCONT)
            await until_back(line)
            while not link.available:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await link.aclose()
    assert said(logs) == ["store unavailable", "store back"]


# -- this process stands still


def test_a_process_that_stood_still_itself_does_not_blame_the_store(valkey, on_loop):
    async def scenario() -> None:
        async with lined(valkey.address, 0.1) as line:
            early = line.ask("PING")
            time.sleep(0.4)  # noqa: TID251, ASYNC251 - before there is a connection
            assert await early == b"PONG"
            for _ in range(3):
                unsent = line.ask("ECHO", "unsent")
                time.sleep(0.4)  # noqa: TID251, ASYNC251 - before it is written
                assert await unsent == b"unsent"
                unread = line.ask("ECHO", "unread")
                asyncio.get_running_loop().call_later(0.0001, time.sleep, 0.4)  # noqa: TID251 - it is on its way then
                assert await unread == b"unread"
            assert line.available

    on_loop(scenario)


def test_standing_still_again_and_again_does_not_make_a_frozen_store_wait_for_ever(own, on_loop):
    async def scenario() -> None:
        async with lined(own.address, 0.05) as line:
            await line.ask("PING")
            own.process.send_signal(signal.SIGSTOP)
            waiter = line.ask("PING")

            async def stand_still() -> None:
                while True:
                    time.sleep(0.12)  # noqa: TID251, ASYNC251
                    await asyncio.sleep(0)

            standing = asyncio.ensure_future(stand_still())
            _, seconds = await refusal(waiter)
            standing.cancel()
            assert seconds < 1

    on_loop(scenario)


# -- lost


async def test_a_killed_store_that_is_started_again_is_back_within_two_seconds(tmp_path):
    with EmbeddedStore(tmp_path) as embedded:
        async with lined(StoreAddress("embedded", f"unix://{embedded.socket_path}"), PATIENT) as line:
            await line.ask("PING")
            with capture_logs() as logs:
                os.kill(embedded.pid, signal.SIGSTOP)
                waiters = [line.ask("ECHO", f"{number}") for number in range(100)]
                await asyncio.sleep(0.01)
                os.kill(embedded.pid, signal.SIGKILL)
                outcomes = await asyncio.gather(*waiters, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
                async with asyncio.timeout(2):
                    while not line.available:
                        with suppress(StoreUnavailable):
                            await line.ask("GET", "k")
                        await asyncio.sleep(0.005)
                assert await line.ask("ECHO", "again") == b"again"
        assert said(logs) == ["store unavailable", "store back"]


async def test_what_was_outstanding_is_never_sent_again(tmp_path):
    got = b""

    async def hang_up_on_questions(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        got += await reader.read(65536)

    async with scripted_store(tmp_path / "s", hang_up_on_questions) as address, lined(address, PATIENT) as line:
        why, _ = await refusal(line.ask("INCR", "k"))
        assert why == "ConnectionResetError"
        await until_back(line)
        await refusal(line.ask("GET", "k"))
    assert got.count(b"INCR") == 1


async def test_a_connection_that_the_store_closed_while_idle_is_replaced_unseen(own):
    link = StoreLink(own.address)
    with capture_logs() as logs:
        async with lined(own.address) as line:
            await line.ask("PING")
            await asyncio.sleep(0.3)
            for _ in range(2):
                await link.run(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
                await asyncio.sleep(0.3)
                assert await line.ask("ECHO", "x") == b"x"
    await link.aclose()
    assert said(logs) == []


async def test_connections_that_do_not_live_are_tried_four_times_a_second(tmp_path):
    accepted = 0

    async def greet_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.read(100)
        writer.write(b"+PONG\r\n")

    async with scripted_store(tmp_path / "s", greet_and_leave) as address, lined(address) as line:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with suppress(StoreUnavailable):
                await line.ask("GET", "k")
            await asyncio.sleep(0.001)
    assert 2 <= accepted <= 6


# -- nonsense


async def answering(path: os.PathLike[str], answer: bytes) -> tuple[str, bool]:
    """What an asker is told by a line whose store greets well and then answers so; whether it still trusts it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await reader.readuntil(b"GET")
        writer.write(answer)
        await reader.read()

    async with scripted_store(path, serve) as address, lined(address, 0.2) as line:
        why, _ = await refusal(line.ask("GET", "k"))
        return why, line.available


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nsecret-text\r\n", "InvalidResponse"),
        (b"$-7\r\n", "InvalidResponse"),
        (b"\x16\x03\x01", "InvalidResponse"),
        (b"$10\r\nincomplete", "timeout"),
        (b"-LOADING Valkey is loading the dataset in memory\r\n", "BusyLoadingError"),
        (b"-NOAUTH Authentication required.\r\n", "AuthenticationError"),
        (b"-ERR max number of clients reached\r\n", "ConnectionError"),
    ],
)
async def test_nonsense_ends_the_connection_and_is_not_quoted(tmp_path, answer, why):
    assert await answering(tmp_path / "s", answer) == (why, False)


async def test_a_reply_that_nobody_asked_for_ends_the_connection(tmp_path):
    connections = 0

    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"+stale\r\n")
        await reader.read()

    async with scripted_store(tmp_path / "s", chatter) as address, lined(address) as line:
        line.connect()
        await asyncio.sleep(0.2)
        assert not line.available
        await asyncio.sleep(0.3)
        assert connections >= 2


async def test_a_greeting_with_something_behind_it_is_no_connection(tmp_path):
    async def say_too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n+stale\r\n")
        await reader.read()

    async with scripted_store(tmp_path / "s", say_too_much) as address, lined(address, PATIENT) as line:
        assert (await refusal(line.ask("GET", "k")))[0] == "ConnectionResetError"
        assert not line.available


async def test_a_greeting_that_is_refused_is_trouble(tmp_path):
    async def load(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(b"-LOADING Valkey is loading the dataset in memory\r\n")

    async with scripted_store(tmp_path / "s", load) as address, lined(address, PATIENT) as line:
        assert (await refusal(line.ask("GET", "k")))[0] == "BusyLoadingError"
        assert not line.available


async def test_closing_ends_whoever_waits(own):
    line = StoreLine(own.address, reply_timeout_s=0.2)
    await line.ask("PING")
    own.process.send_signal(signal.SIGSTOP)
    waiter = line.ask("GET", "k")
    await line.aclose()
    await refusal(waiter)
    early = StoreLine(own.address)
    waiter = early.ask("GET", "k")
    await early.aclose()
    await refusal(waiter)


# -- refused writes


async def test_writes_that_a_full_or_read_only_store_refuses_are_counted(own):
    async with lined(own.address, PATIENT) as line:
        await line.ask("SET", "k", "v")
        await line.run(("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory-policy", "noeviction"))
        assert line.post("SET", "k", "v")
        assert await line.ask("GET", "k") == b"v"
        await line.run(("CONFIG", "SET", "maxmemory", 0), ("REPLICAOF", "127.0.0.1", 1))
        assert line.post("SET", "k", "v")
        await line.ask("PING")
        assert line.refused == {"OOM": 1, "READONLY": 1}
        assert line.available
