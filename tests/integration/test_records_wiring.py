"""What becomes of a request on its way from the door to the database: one record, true in every field, and no secret."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from llmproxy_site.store import StoreAddress
from stats.models import RecordedRequest, Rollup
from stats.record import RequestRecord
from stats.record_tables import RecordTables
from stats.record_writer import RecordWriter
from stats.rollups import MINUTE
from tests.e2e.processes import free_port
from tests.fakes import behaviours as b
from tests.fakes.load import Client, verdict
from tests.fakes.nonce import chat_body, new_nonce
from tests.integration.in_process import Gateway, configuration
from tests.integration.records_database import ALIAS, database, empty, recorded
from tests.integration.test_cache_faults import eventually

CHAT = "/chat/completions"
SECRETS = ("nonce:", "crc:", "sk-", "Bearer", "http://", b.SECRET_TEXT)
CLIENT_HEADERS = {"authorization": "Bearer sk-of-the-client", "x-request-id": "mine"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory, django_db_blocker) -> Iterator[None]:
    with (
        django_db_blocker.unblock(),
        database({"NAME": str(tmp_path_factory.mktemp("wiring") / "numbers.sqlite3")}),
    ):
        yield


class Recording:
    """Gateways as of the fixture `gateway`, which keep records."""

    def __init__(self, store: StoreAddress) -> None:
        self._store = store
        self.running: list[Gateway] = []

    async def start(self, *urls: Any, **settings: Any) -> Gateway:
        writer = RecordWriter(RecordTables(ALIAS))
        self.running.append(await Gateway.start(configuration(*urls, **settings), self._store, writer))
        return self.running[-1]

    async def stop(self) -> None:
        while self.running:
            await self.running.pop().stop()

    async def records(self) -> list[RequestRecord]:
        """Of gateways that have ended. They hold no secret, and the sums have counted the same."""
        await self.stop()
        texts = await asyncio.to_thread(_seen, _every_text)
        assert not [secret for secret in SECRETS if secret in texts]
        found: list[RequestRecord] = await asyncio.to_thread(_seen, recorded)
        attempts = sum(len(one.attempts) for one in found)
        assert await asyncio.to_thread(_seen, _counted) == (len(found), attempts)
        return found


@pytest.fixture
async def recording(tables, store: StoreAddress, django_db_blocker) -> AsyncIterator[Recording]:
    with django_db_blocker.unblock():
        await asyncio.to_thread(_seen, empty)
        recording = Recording(store)
        yield recording
        await recording.stop()


def _seen(look: Callable[[], Any]) -> Any:
    """In a thread of its own: with a connection of its own."""
    try:
        return look()
    finally:
        connections[ALIAS].close()


def _every_text() -> str:
    return repr([list(model.objects.using(ALIAS).values_list()) for model in (RecordedRequest, Rollup)])


def _counted() -> tuple[int, int]:
    """Requests and attempts, by the sums."""
    sums = {True: 0, False: 0}
    for row in Rollup.objects.using(ALIAS).filter(step=MINUTE):
        sums[row.endpoint == ""] += row.success + row.failure + row.rejected + row.cancelled
    return sums[True], sums[False]


def summary(one: RequestRecord) -> tuple[Any, ...]:
    """What tells kinds of requests apart."""
    return one.outcome, one.status, one.error, one.model_group, one.cache, one.endpoint, len(one.attempts)


async def test_an_answer_is_recorded(upstreams, recording):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.1)
    running = await recording.start(a)
    before = time.time()
    endpoint_id = (await running.get("/stats")).json["model_groups"]["m"][0]["id"]
    got = await running.ask(size=120, headers=CLIENT_HEADERS)
    (one,) = await recording.records()
    (attempt,) = one.attempts

    assert got.verdict is None
    assert summary(one) == ("success", 200, "", "m", "bypass", "a", 1)
    assert (one.request_id, one.operation, one.stream, one.revision) == ("mine", "chat/completions", False, 1)
    assert (one.key, one.partial, one.ttft_ms) == ("", False, None)
    assert (one.endpoint_id, attempt.endpoint_id, attempt.endpoint) == (endpoint_id, endpoint_id, "a")
    assert (one.input_tokens, one.output_tokens) == (7, 120)
    assert (one.cost_nano_usd, one.saved_nano_usd) == (None, None)
    assert before <= one.at <= time.time()
    assert (attempt.outcome, attempt.cause, attempt.status) == ("success", "", 200)
    assert 100 <= attempt.duration_ms <= one.duration_ms <= got.seconds * 1000
    assert 0 <= attempt.began_ms <= one.duration_ms - attempt.duration_ms + 1
    assert one.overhead_ms is not None and 0 < one.overhead_ms < one.duration_ms - 90


async def test_a_stream_is_recorded_to_its_last_byte(upstreams, recording):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.1, interval=0.02)
    running = await recording.start(a)
    got = await running.ask(stream=True, size=120, stream_options={"include_usage": True})
    (one,) = await recording.records()
    (attempt,) = one.attempts

    assert got.verdict is None
    assert summary(one) == ("success", 200, "", "m", "bypass", "a", 1)
    assert (one.stream, one.partial, one.input_tokens, one.output_tokens) == (True, False, 7, 120)
    assert one.ttft_ms is not None and 100 <= one.ttft_ms < one.duration_ms
    assert attempt.outcome == "success" and one.ttft_ms < attempt.began_ms + attempt.duration_ms


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failover_is_recorded_with_both_attempts(upstreams, recording, stream):
    bad, good = await upstreams(2)
    bad.always = b.status(503, message=b.SECRET_TEXT, delay=0.05)
    running = await recording.start(bad, good)
    got = await running.ask(stream=stream)
    (one,) = await recording.records()
    first, second = one.attempts

    assert got.verdict is None
    assert summary(one) == ("success", 200, "", "m", "bypass", "b", 2)
    assert one.troubled
    assert (first.endpoint, first.outcome, first.cause, first.status) == ("a", "failure", "status 503", 503)
    assert (second.endpoint, second.outcome, second.cause, second.status) == ("b", "success", "", 200)
    assert first.duration_ms >= 50
    assert first.began_ms + first.duration_ms <= second.began_ms + 1


async def test_a_request_that_every_endpoint_failed_is_recorded(upstreams, recording):
    a, other = await upstreams(2)
    a.always, other.always = b.status(500), b.silence
    running = await recording.start(a, other, general={"num_retries": 1, "http_timeout": 0.3})
    got = await running.ask()
    (one,) = await recording.records()

    assert (one.outcome, one.status, one.error) == ("failure", 500, "")
    assert (got.status, got.headers["x-llmproxy-endpoint"]) == (500, one.endpoint)
    assert [(attempt.endpoint, attempt.outcome) for attempt in one.attempts] == [("a", "failure"), ("b", "failure")]
    assert (one.attempts[1].cause, one.attempts[1].status) == ("head timeout", 0)
    assert (one.input_tokens, one.output_tokens, one.partial) == (None, None, False)


async def test_a_refused_connection_is_an_attempt_without_status(recording):
    running = await recording.start(f"http://127.0.0.1:{free_port()}", general={"num_retries": 0})
    got = await running.ask()
    (one,) = await recording.records()
    (attempt,) = one.attempts

    assert (one.outcome, one.status, one.cost_nano_usd) == ("failure", got.status, 0)
    assert (attempt.outcome, attempt.status, bool(attempt.cause)) == ("failure", 0, True)


async def test_what_the_upstream_refuses_is_recorded_as_rejected(upstreams, recording):
    a, other = await upstreams(2)
    a.always = other.always = b.status(400, code="bad_thing", message=b.SECRET_TEXT)
    running = await recording.start(a, other)
    got = await running.ask()
    (one,) = await recording.records()

    assert got.status == 400
    assert summary(one) == ("rejected", 400, "", "m", "bypass", "a", 1)
    assert (one.attempts[0].outcome, one.attempts[0].cause, one.troubled) == ("rejected", "status 400", False)


async def test_a_client_that_leaves_a_stream_is_recorded_as_partial(upstreams, recording):
    (a,) = await upstreams(1)
    a.always = b.honest(interval=0.05)
    running = await recording.start(a)
    async with Client(running.url) as client:
        await client.start("POST", CHAT, chat_body(new_nonce(), stream=True, size=3000))
        await client.piece(await client.head())
    await eventually(lambda: running.parts.recorder.own().requests.cancelled == 1)
    (one,) = await recording.records()

    assert summary(one) == ("cancelled", 200, "", "m", "bypass", "a", 1)
    assert (one.partial, one.attempts[0].outcome, one.attempts[0].cause) == (True, "cancelled", "client left")
    assert one.ttft_ms is not None


async def test_a_client_that_leaves_before_the_answer_has_no_status(upstreams, recording):
    (a,) = await upstreams(1)
    a.always = b.silence
    running = await recording.start(a)
    async with Client(running.url) as client:
        await client.start("POST", CHAT, chat_body(new_nonce()))
        await a.wait_for_requests(1)
    await eventually(lambda: running.parts.recorder.own().requests.cancelled == 1)
    (one,) = await recording.records()

    assert summary(one) == ("cancelled", 0, "", "m", "bypass", "a", 1)
    assert (one.partial, one.overhead_ms) == (False, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_is_recorded_without_an_attempt(upstreams, recording, stream):
    (a,) = await upstreams(1)
    running = await recording.start(a, general={"cache": True})
    nonce = new_nonce()
    got = [await running.ask(nonce=nonce, stream=stream, size=120) for _ in range(2)]
    first, second = await recording.records()

    assert [one.verdict for one in got] == [None, None]
    assert summary(first) == ("success", 200, "", "m", "miss", "a", 1)
    assert summary(second) == ("success", 200, "", "m", "hit", "a", 0)
    assert second.cache_detail in ("process", "store")
    assert second.endpoint_id == first.endpoint_id
    assert (second.cost_nano_usd, second.overhead_ms) == (0, None)
    if not stream:
        assert (second.input_tokens, second.output_tokens) == (7, 120)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_waits_for_the_same_answer_is_recorded_as_a_hit(upstreams, recording, stream):
    (a,) = await upstreams(1)
    a.always = b.honest(delay=0.3)
    running = await recording.start(a, general={"cache": True})
    nonce = new_nonce()
    got = await asyncio.gather(*(running.ask(nonce=nonce, stream=stream) for _ in range(3)))
    found = await recording.records()

    assert {one.verdict for one in got} == {None}
    assert len(a.requests) == 1
    assert sorted((one.cache, one.cache_detail, len(one.attempts)) for one in found) == [
        ("hit", "flight", 0),
        ("hit", "flight", 0),
        ("miss", "", 1),
    ]
    assert {one.outcome for one in found} == {"success"}


async def test_a_request_for_no_group_is_recorded_without_its_words(upstreams, recording):
    (a,) = await upstreams(1)
    running = await recording.start(a)
    got = await running.ask(model="sk-not-a-group")
    (one,) = await recording.records()

    assert got.status == 404
    assert summary(one) == ("rejected", 404, "model_not_found", "", "bypass", "", 0)
    assert (one.cost_nano_usd, a.requests) == (0, [])


async def test_a_body_that_is_no_json_is_recorded(upstreams, recording):
    (a,) = await upstreams(1)
    running = await recording.start(a)
    async with running.client() as client:
        got = await client.post(CHAT, b'{"model": "sk-secret"')
    (one,) = await recording.records()

    assert (got.status, one.request_id) == (400, got.headers["x-request-id"])
    assert summary(one) == ("rejected", 400, "invalid_json", "", "bypass", "", 0)


async def test_what_is_no_request_to_a_model_is_not_recorded(upstreams, recording):
    running = await recording.start(*await upstreams(1))
    for path in ("/v1/models", "/v1/nothing", "/health", "/stats"):
        await running.get(path)
    assert await recording.records() == []


async def test_every_request_of_a_mixture_has_one_record(upstreams, recording):
    mixed, good = await upstreams(2)
    kinds = [b.honest(), b.status(400), b.status(500), b.interrupted(3)]
    mixed.always = lambda request: (
        b.honest() if request.number % 4 == 3 and not request.stream else kinds[request.number % 4]
    )
    running = await recording.start(mixed, good, group={"allowed_fails": 10_000})
    ids = [f"request-{number}" for number in range(80)]

    async def ask(number: int) -> tuple[str, int, bool]:
        nonce, stream = new_nonce(), number % 2 == 0
        async with running.client() as client:
            try:
                got = await client.post(CHAT, chat_body(nonce, stream=stream), {"x-request-id": ids[number]})
            except (asyncio.IncompleteReadError, OSError):  # an interrupted stream
                return ids[number], 200, False
        return ids[number], got.status, verdict(got, nonce, stream=stream) is None

    got = [await asyncio.gather(*(ask(number) for number in range(start, start + 10))) for start in range(0, 80, 10)]
    found = await recording.records()

    assert sorted((one.request_id, one.status, one.outcome == "success") for one in found) == sorted(
        itertools.chain(*got)
    )
    assert sum(len(one.attempts) for one in found) == len(mixed.requests) + len(good.requests)
