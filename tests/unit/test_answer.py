"""What the door passes on of a kept answer, and of a stream that several requests get."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from cache_app.answers import Shared
from cache_app.shared_stream import Budget, SharedStream
from routing.answer import Joined, Kept
from routing.openai.answers import HIT, MISS
from routing.trail import Trail
from routing.upstream.classify import Outcome
from tests.unit.cache_app.clients import Client, PacedSource
from tests.unit.cache_app.entries import entry
from tests.unit.tables import model, table_of
from tests.unit.virtual_time import run

MADE_AT = 1000.0
CHUNK = 256 << 10


def kept(body: bytes = b"body", *, stream: bool = False, age_s: float = 0.0, **fields: Any) -> Kept:
    fields = {"endpoint_header": b"east", "headers": []} | fields
    table = table_of({"model_group": "m", "models": [model("a")]}, http_timeout=7, stream_timeout=70)
    return Kept(entry(body, made_at=MADE_AT, **fields), table, stream=stream, unix_now=MADE_AT + age_s)


async def pieces_of(answer: Kept | Joined) -> list[bytes]:
    got = []
    while (piece := await answer.piece()) is not None:
        got.append(piece)
    return got


# -- kept


def test_a_kept_answer_has_the_bytes_and_the_type_of_the_first_time():
    answer = kept(b"\x00\xff", content_type=b"application/json; charset=utf-8")
    assert (answer.status, answer.body) == (200, b"\x00\xff")
    assert (b"content-type", b"application/json; charset=utf-8") in answer.head()


def test_the_head_of_a_kept_answer_says_where_it_is_from():
    head = dict(kept(age_s=61.5).head())
    assert head[b"x-llmproxy-cache"] == b"hit"
    assert head[b"age"] == b"61"
    assert head[b"x-llmproxy-endpoint"] == b"east"
    assert head[b"x-llmproxy-attempts"] == b"0"


@pytest.mark.parametrize("stream", [False, True])
def test_headers_of_the_upstream_are_sent_again(stream):
    line = (b"openai-version", b"2020-10-01")
    assert line in kept(headers=(line,), stream=stream).head()


def test_a_kept_stream_has_the_headers_of_a_stream():
    head = kept(stream=True, content_type=b"whatever").head()
    assert [value for name, value in head if name == b"content-type"] == [b"text/event-stream; charset=utf-8"]
    assert (b"cache-control", b"no-cache") in head
    assert (b"x-accel-buffering", b"no") in head


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_a_kept_stream_comes_whole_and_in_pieces_that_a_slow_client_can_take(size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    got = run(pieces_of(kept(body, stream=True)))
    assert b"".join(got) == body
    assert all(len(piece) <= CHUNK for piece in got)
    assert len(got) == -(-size // CHUNK)


def test_a_kept_answer_is_a_success_and_a_hit():
    answer = kept()
    assert answer.is_hit
    assert answer.outcome is Outcome.SUCCESS
    assert (answer.upstream_s, answer.hopeless) == (0.0, False)


def test_a_kept_stream_is_a_success_when_all_of_it_was_taken():
    async def story():
        answer = kept(bytes(CHUNK + 1), stream=True)
        assert answer.outcome is Outcome.CANCELLED
        await answer.piece()
        assert answer.outcome is Outcome.CANCELLED
        await pieces_of(answer)
        assert answer.outcome is Outcome.SUCCESS

    run(story())


def test_a_client_may_take_as_long_as_an_upstream_may():
    assert kept().patience_s == 7
    assert kept(stream=True).patience_s == 70


# -- joined


def request() -> Any:
    return SimpleNamespace(route=SimpleNamespace(events="chat"), trail=Trail())


@dataclass
class Attempted:
    """As much of an attempt as a stream of several requests is asked about."""

    source: PacedSource
    outcome: Outcome = Outcome.CANCELLED
    table: Any = "the table"
    patience_s: float = 70.0
    upstream_s: float = 1.5
    endpoint: Any = field(default_factory=lambda: SimpleNamespace(name="east", id="e1"))
    course: Any = field(default_factory=lambda: SimpleNamespace(request=request()))

    def head(self, cache: tuple[bytes, bytes], attempts: int | None = None) -> list[tuple[bytes, bytes]]:
        told = b"own" if attempts is None else b"%d" % attempts
        return [cache, (b"x-llmproxy-attempts", told)]


def joined_by(count: int, pieces: list[bytes], most_bytes: int = 1 << 20, **more: Any) -> list[Joined]:
    """The first of them leads."""
    source = PacedSource(pieces, **more)
    attempt = Attempted(source)

    def ended(stream: SharedStream) -> None:
        attempt.outcome = Outcome.SUCCESS if source.taken == len(source.pieces) else Outcome.CANCELLED

    stream = SharedStream(source, most_bytes, Budget(1 << 20), ended, most_lag=most_bytes)
    return [Joined(Shared(stream.join(Client()), attempt, leads=number == 0), Trail()) for number in range(count)]


def test_who_leads_has_a_miss_with_its_own_attempts():
    async def story():
        leader, _ = joined_by(2, [])
        assert leader.head() == [MISS, (b"x-llmproxy-attempts", b"own")]
        assert not leader.is_hit

    run(story())


def test_who_follows_has_a_hit_of_age_0_without_attempts():
    async def story():
        _, follower = joined_by(2, [])
        assert follower.head() == [HIT, (b"x-llmproxy-attempts", b"0"), (b"age", b"0")]
        assert follower.is_hit

    run(story())


def test_it_answers_as_the_attempt_does():
    async def story():
        (leader,) = joined_by(1, [])
        assert (leader.status, leader.is_stream, leader.body) == (200, True, b"")
        assert (leader.table, leader.patience_s, leader.upstream_s) == ("the table", 70.0, 1.5)
        assert not leader.hopeless

    run(story())


def test_all_get_all_bytes_and_then_nothing_more():
    async def story():
        both = joined_by(2, [b"a", b"b"])
        for answer in both:
            assert await pieces_of(answer) == [b"a", b"b"]
            assert await answer.piece() is None
            assert answer.outcome is Outcome.SUCCESS

    run(story())


def test_a_client_that_leaves_early_has_cancelled():
    async def story():
        leader, follower = joined_by(2, [b"a", b"b"], says_its_end=True)
        with leader:
            await leader.piece()
        assert leader.outcome is Outcome.CANCELLED
        await pieces_of(follower)
        assert leader.outcome is Outcome.CANCELLED

    run(story())


def test_a_client_that_leaves_with_the_last_event_has_its_whole_answer():
    async def story():
        leader, follower = joined_by(2, [b"a", b"b"], says_its_end=True)
        with leader:
            await leader.piece()
            await leader.piece()
        assert leader.outcome is Outcome.SUCCESS
        with follower:
            await follower.piece()
        assert follower.outcome is Outcome.CANCELLED

    run(story())


def test_a_client_too_slow_for_what_is_held_gets_an_error_as_its_last_event():
    async def story():
        leader, follower = joined_by(2, [b"a", b"b", b"c"], most_bytes=1)
        assert await pieces_of(leader) == [b"a", b"b", b"c"]
        (last,) = await pieces_of(follower)
        assert b"upstream_stream_interrupted" in last
        assert b"[DONE]" not in last
        assert (leader.outcome, follower.outcome) == (Outcome.SUCCESS, Outcome.FAILURE)

    run(story())


def test_leaving_it_leaves_the_stream():
    async def story():
        (leader,) = joined_by(1, [b"a"])
        source = leader._attempt.source
        with leader:
            assert not source.closed_at
        assert len(source.closed_at) == 1

    run(story())
