"""The shared line: every reply reaches its asker, errors stand where they belong, and what it costs to be told no.

Tests that are not about time get a long limit: on a busy machine even a healthy store takes 50 ms now and then.
"""

import asyncio
import gc
import itertools
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
import uvloop
from redis.exceptions import NoScriptError, ResponseError

from llmproxy_site import store_wire
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_line import LineInProcess, StoreLine, store_line
from llmproxy_site.store_link import StoreLink
from llmproxy_site.store_trouble import StoreUnavailable
from llmproxy_site.store_wire import pack
from tests.fakes.store_front import front_of, scripted_store
from tests.fakes.valkey import Valkey

IN_PROCESS = StoreAddress("in_process", "memory://")
PATIENT = 10.0

Run = Callable[[Callable[[], Awaitable[None]]], None]


@asynccontextmanager
async def lined(address: StoreAddress, reply_timeout_s: float = PATIENT) -> AsyncIterator[StoreLine | LineInProcess]:
    line = store_line(address, reply_timeout_s=reply_timeout_s)
    try:
        yield line
    finally:
        await line.aclose()


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Run:
    """Runs it on asyncio's own loop, and on the one of production: they order timers, reads and writes differently."""

    def run(scenario: Callable[[], Awaitable[None]]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario())

    return run


@pytest.fixture(params=["valkey", "in_process"])
async def any_store(request: pytest.FixtureRequest, valkey: Valkey) -> StoreAddress:
    if request.param == "in_process":
        async with lined(IN_PROCESS) as line:
            await line.ask("FLUSHALL")
        return IN_PROCESS
    await valkey.empty()
    return valkey.address


# -- in any store


async def test_a_reply_is_bytes_as_they_are(any_store):
    async with lined(any_store) as line:
        assert await line.ask("SET", "k", b"\x00\xff") == b"OK"
        assert await line.ask("GET", b"k") == b"\x00\xff"
        assert await line.ask("GET", "missing") is None
        assert await line.ask("INCRBY", "n", 5) == 5


async def test_a_run_answers_in_order(any_store):
    async with lined(any_store) as line:
        assert await line.run(("SET", "k", "v"), ("INCRBY", "n", 5), ("GET", "k")) == [b"OK", 5, b"v"]
        assert await line.run() == []


async def test_a_commands_own_error_is_raised_by_ask_and_stands_in_a_run(any_store):
    async with lined(any_store) as line:
        with pytest.raises(NoScriptError):
            await line.ask("EVALSHA", "0" * 40, 0)
        _, second, third = await line.run(("SET", "k", "v"), ("LPUSH", "k", "x"), ("GET", "k"))
        assert isinstance(second, ResponseError)
        assert third == b"v"
        assert line.available


async def test_commands_are_carried_out_in_the_order_of_asking(any_store):
    async with lined(any_store) as line:
        for number in range(0, 100, 2):
            assert line.post("RPUSH", "k", number)
            asked = line.ask("RPUSH", "k", number + 1)
        assert await asked == 100
        assert await line.ask("LRANGE", "k", 0, -1) == [b"%d" % number for number in range(100)]


async def test_posted_commands_that_are_refused_are_counted_by_class(any_store):
    async with lined(any_store) as line:
        await line.ask("SET", "k", "v")
        for _ in range(3):
            line.post("LPUSH", "k", "x")
        line.post("NOSUCHCOMMAND")
        line.post("GET", "k")
        await line.ask("PING")
        assert line.refused == {"WRONGTYPE": 3, "ERR": 1}


async def test_a_closed_line_refuses(any_store):
    line = store_line(any_store)
    await line.run(("PING",))
    await line.aclose()
    with pytest.raises(StoreUnavailable):
        await line.ask("PING")
    with pytest.raises(StoreUnavailable):
        await line.run(("PING",))
    assert not line.post("PING")


async def test_what_was_posted_before_the_end_still_arrives(any_store):
    async with lined(any_store) as line:
        await line.ask("PING")
        line.post("SET", "k", "last words")
    async with lined(any_store) as line:
        assert await line.ask("GET", "k") == b"last words"


async def test_what_was_posted_before_there_was_a_connection_arrives_too(any_store):
    async with lined(any_store) as line:
        assert line.post("SET", "k", "first and last words")
    async with lined(any_store) as line:
        assert await line.ask("GET", "k") == b"first and last words"


async def test_the_line_of_last_resort_shares_its_store_with_the_link():
    link = StoreLink(IN_PROCESS)
    async with lined(IN_PROCESS) as line:
        await line.ask("SET", "shared", "yes")
        assert await link.run(("GET", "shared")) == [b"yes"]
    await link.aclose()


# -- every reply to its asker


async def asked_by_many(line: StoreLine) -> tuple[int, int]:
    """10,000 commands of 100 tasks, of which many give up at random: how many were answered, how many wrongly."""
    answered = wrong = 0
    rng = random.Random(7)

    async def caller(name: int) -> None:
        nonlocal answered, wrong
        for number in range(100):
            nonce = f"{name}-{number}"
            kind = rng.random()
            if kind < 0.1:
                line.post("ECHO", nonce)
                continue
            try:
                async with asyncio.timeout(rng.random() * 0.002 if kind < 0.5 else None):
                    if rng.random() < 0.7:
                        right = await line.ask("ECHO", nonce) == nonce.encode()
                    else:
                        right = await line.run(("ECHO", nonce), ("ECHO", "x")) == [nonce.encode(), b"x"]
            except TimeoutError:
                continue
            answered += 1
            wrong += not right

    await asyncio.gather(*(caller(name) for name in range(100)))
    return answered, wrong


def test_every_reply_reaches_its_asker_though_many_give_up(valkey, on_loop):
    async def scenario() -> None:
        async with lined(valkey.address) as line:
            await line.ask("PING")
            answered, wrong = await asked_by_many(line)
            assert wrong == 0
            assert 4500 < answered < 10_000
            assert line.available
            assert await line.ask("ECHO", "last") == b"last"

    on_loop(scenario)


def test_every_reply_reaches_its_asker_while_connections_are_lost(valkey, on_loop):
    async def scenario() -> None:
        answered = wrong = lost = 0
        async with lined(valkey.address) as line:

            async def caller(name: int) -> None:
                nonlocal answered, wrong, lost
                for number in itertools.count():
                    try:
                        wrong += await line.ask("ECHO", f"{name}-{number}") != f"{name}-{number}".encode()
                        answered += 1
                    except StoreUnavailable:
                        lost += 1
                        await asyncio.sleep(0.01)

            link = StoreLink(valkey.address)
            callers = [asyncio.ensure_future(caller(name)) for name in range(50)]
            for _ in range(5):
                before = answered
                while answered < before + 500:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                await link.run(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
            for one in callers:
                one.cancel()
            await link.aclose()
        assert wrong == 0
        assert lost > 0

    on_loop(scenario)


async def test_an_error_for_somebody_who_gave_up_goes_to_nobody(store):
    async with lined(store) as line:
        await line.ask("PING")
        given_up = line.ask("EVALSHA", "0" * 40, 0)
        asked = line.ask("ECHO", "x")
        given_up.cancel()
        assert await asked == b"x"
        assert line.available
        assert line.refused == {}


async def test_large_replies_and_commands_are_put_together(store):
    async with lined(store) as line:
        value = random.Random(1).randbytes(1_500_000)
        assert await line.ask("SET", "k", value) == b"OK"
        many = [line.ask("GET", "k"), *(line.ask("ECHO", f"{n}") for n in range(100))]
        assert await many[0] == value
        assert [await one for one in many[1:]] == [b"%d" % n for n in range(100)]


async def test_commands_of_one_turn_leave_in_one_write(tmp_path):
    reads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            reads.append(data.count(b"PING"))
            writer.write(b"+PONG\r\n" * data.count(b"PING"))

    async with scripted_store(tmp_path / "s", serve) as address, lined(address) as line:
        await line.ask("PING")
        reads.clear()
        await asyncio.gather(*(line.ask("PING") for _ in range(50)))
        assert reads == [50]


async def test_who_gave_up_before_there_was_a_connection_is_not_sent(store):
    async with lined(store) as line:
        given_up = line.ask("SET", "k", "v")
        given_up.cancel()
        assert await line.ask("EXISTS", "k") == 0


async def test_an_abandoned_question_leaves_no_complaint(tmp_path):
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"+PONG\r\n")
        await reader.read(100)

    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    async with scripted_store(tmp_path / "s", hang_up) as address, lined(address) as line:
        line.connect()
        line.ask("GET", "early")
        while line.available:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        line.ask("GET", "refused")
    gc.collect()
    assert complaints == []


async def test_what_many_ask_before_it_is_sent_is_asked_once_and_later_again(any_store):
    async with lined(any_store) as line:
        await line.ask("SET", "number", "0")
        counting = ("INCR", "number")
        together = [int(await reply) for reply in [line.ask_once(counting) for _ in range(5)]]
        later = int(await line.ask_once(counting))
    if any_store is IN_PROCESS:
        assert (together, later) == ([1, 2, 3, 4, 5], 6)
    else:
        assert (together, later) == ([1] * 5, 2)


class Told:
    """A waiter that is no future."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def done(self) -> bool:
        return False

    def set_result(self, reply: object, /) -> None:
        self.heard.append(reply)

    def set_exception(self, error: Exception, /) -> None:
        self.heard.append(type(error))

    def exception(self) -> None:
        """Nobody need see it."""


async def test_a_waiter_that_is_no_future_is_told_also_before_there_is_a_connection(any_store):
    told = Told()
    async with lined(any_store) as line:
        for command in (("SET", "k", b"\x00"), ("LPUSH", "k", "x"), ("GET", "k")):
            line.ask_for(told, pack(command))
        assert await line.ask_packed(pack(("GET", "k"))) == b"\x00"
        line.ask_for(told, pack(("STRLEN", "k")))
        await line.ask("PING")
        await asyncio.sleep(0)
    line.ask_for(told, pack(("PING",)))
    await asyncio.sleep(0.01)
    assert told.heard == [b"OK", ResponseError, b"\x00", 1, StoreUnavailable]


async def test_a_refusal_that_nobody_waits_for_leaves_no_complaint(store):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    async with lined(store) as line:
        line.ask("EVALSHA", "0" * 40, 0)
        await line.ask("PING")
    gc.collect()
    assert complaints == []


# -- where the store is


async def test_it_speaks_over_tcp_and_ipv6(valkey):
    for host in ("127.0.0.1", "::1"):
        with suppress(OSError):  # a machine without IPv6
            async with front_of(valkey, host) as port:
                shown = f"[{host}]" if ":" in host else host
                async with lined(StoreAddress("given", f"redis://{shown}:{port}")) as line:
                    assert await line.ask("ECHO", host) == host.encode()


async def test_the_database_number_is_selected(store):
    numbered = StoreAddress("given", f"{store.url}?db=3")
    async with lined(store) as line, lined(numbered) as third:
        await third.ask("SET", "k", "in three")
        assert await line.ask("GET", "k") is None
        assert await line.run(("SELECT", 3), ("GET", "k"), ("SELECT", 0)) == [b"OK", b"in three", b"OK"]


async def test_a_database_that_is_not_there_is_trouble(store):
    async with lined(StoreAddress("given", f"{store.url}?db=999")) as line:
        with pytest.raises(StoreUnavailable):
            await line.ask("PING")
        assert not line.available


async def test_an_option_that_is_not_known_is_trouble(store):
    async with lined(StoreAddress("given", f"{store.url}?no_such_option=1")) as line:
        with pytest.raises(StoreUnavailable):
            await line.ask("PING")
        assert not line.available


@pytest.mark.parametrize("login", ["password=hunter2", "username=ann&password=s%C3%A9cret%20%26"])
async def test_it_logs_in(login):
    with Valkey() as own:
        link = StoreLink(own.address)
        await link.run(
            ("CONFIG", "SET", "requirepass", "hunter2"),
            ("ACL", "SETUSER", "ann", "on", ">sécret &", "~*", "+@all"),
        )
        await link.aclose()
        async with lined(StoreAddress("given", f"{own.address.url}?{login}&db=2")) as line:
            assert await line.run(("SET", "k", "v"), ("GET", "k")) == [b"OK", b"v"]


@pytest.mark.parametrize("login", ["", "?password=wrong-one", "?username=ann&password=wrong-one"])
async def test_who_may_not_log_in_gets_no_store_and_no_password_is_told(login, capsys):
    with Valkey() as own:
        link = StoreLink(own.address)
        await link.run(("CONFIG", "SET", "requirepass", "hunter2"))
        async with lined(StoreAddress("given", f"{own.address.url}{login}")) as line:
            with pytest.raises(StoreUnavailable) as caught:
                await line.ask("GET", "k")
            assert str(caught.value) == "AuthenticationError"
            assert not line.available
        await link.aclose()
    assert "wrong-one" not in "".join(capsys.readouterr())


async def test_a_users_missing_rights_are_errors_of_commands(store):
    async with lined(store) as line:
        await line.ask("ACL", "SETUSER", "bob", "on", ">pass", "~mine:*", "+@all")
        async with lined(StoreAddress("given", f"{store.url}?username=bob&password=pass")) as bobs:
            await bobs.ask("SET", "mine:k", "v")
            with pytest.raises(ResponseError):
                await bobs.ask("SET", "others:k", "v")
            bobs.post("SET", "others:k", "v")
            await bobs.ask("PING")
            assert bobs.refused == {"NOPERM": 1}
        await line.ask("ACL", "DELUSER", "bob")


async def test_tls_certificates_are_checked_as_told(valkey, tmp_path):
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    outcomes = {}
    async with front_of(valkey, authority=authority) as port:
        for query in ("ssl_cert_reqs=required", "ssl_cert_reqs=none", f"ssl_cert_reqs=required&ssl_ca_certs={file}"):
            line = StoreLine(StoreAddress("given", f"rediss://localhost:{port}?{query}"), connect_timeout_s=5)
            line._reply_timeout_s = PATIENT
            with suppress(StoreUnavailable):
                outcomes[query.replace(str(file), "FILE")] = await line.ask("ECHO", "x" * 300_000) == b"x" * 300_000
            await line.aclose()
    assert outcomes == {"ssl_cert_reqs=none": True, "ssl_cert_reqs=required&ssl_ca_certs=FILE": True}


# -- a full queue


async def test_a_queue_that_is_full_refuses_at_once_and_loses_nothing():
    with Valkey() as own:
        async with lined(own.address) as line:
            await line.ask("PING")
            own.process.send_signal(signal.SIGSTOP)
            asked = []
            for number in range(1000):
                asked.append(line.ask("RPUSH", "k", b"x" * 10_000))
                if number % 10 == 0:
                    await asyncio.sleep(0)
            refused = [one for one in asked if one.done()]
            assert 100 < len(refused) < 900
            assert {str(one.exception()) for one in refused} == {"too many bytes wait to be sent"}
            assert not line.post("RPUSH", "k", "x")
            assert line.available
            own.process.send_signal(signal.SIGCONT)
            lengths = [await one for one in asked if one not in refused]
            assert lengths == list(range(1, 1001 - len(refused)))
            assert line.post("RPUSH", "k", "x")
            assert await line.ask("LLEN", "k") == len(lengths) + 1


async def test_a_reply_beyond_all_measure_ends_the_connection(store, monkeypatch):
    monkeypatch.setattr(store_wire, "MAX_REPLY_BYTES", 1_000_000)
    async with lined(store) as line:
        for _ in range(4):
            await line.ask("APPEND", "k", b"x" * 500_000)
        with pytest.raises(StoreUnavailable, match="too large"):
            await line.ask("GET", "k")
        while not line.available:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await line.ask("GETRANGE", "k", 0, 9) == b"x" * 10
