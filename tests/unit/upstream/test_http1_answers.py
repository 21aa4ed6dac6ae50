"""The corpus read byte by byte without a socket: where a read ends never changes what is understood."""

from collections.abc import Iterable

import pytest

from tests.wire.answers import CORPUS, GOOD, HI, JUNK_AFTER, OK, Case
from tests.wire.memory import Memory, memory

Outcome = tuple[object, ...]


def outcome(case: Case, pieces: Iterable[bytes]) -> Outcome:
    with memory() as wire:
        reply = wire.ask()
        wire.feed(pieces, case.closes)
        if reply.error is not None:
            return type(reply.error), wire.reusable
        assert reply.done, "still waiting"
        return reply.status, tuple(reply.headers), b"".join(reply.pieces), wire.reusable


def expected(case: Case) -> Outcome:
    return (case.error, False) if case.error else (case.status, case.body, case.reusable)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_answer_is_understood_as_the_corpus_says(case: Case):
    result = outcome(case, [case.raw])

    assert expected(case) == (result if case.error else (result[0], *result[2:]))


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_split_at_any_byte_changes_nothing(case: Case):
    whole = outcome(case, [case.raw])

    for position in range(1, len(case.raw)):
        assert outcome(case, [case.raw[:position], case.raw[position:]]) == whole, position


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_one_byte_at_a_time_changes_nothing(case: Case):
    assert outcome(case, (case.raw[n : n + 1] for n in range(len(case.raw)))) == outcome(case, [case.raw])


@pytest.mark.parametrize("case", [case for case in GOOD if case.reusable], ids=lambda case: case.name)
def test_connection_serves_the_next_request(case: Case):
    with memory() as wire:
        wire.ask()
        wire.feed([case.raw])

        second = wire.ask()
        wire.feed([b"HTTP/1.1 202 Accepted\r\nx-second: 1\r\n" + HI])

        assert (second.status, second.headers[0], second.pieces) == (202, (b"x-second", b"1"), [b"hi"])


@pytest.mark.parametrize("case", JUNK_AFTER, ids=lambda case: case.name)
def test_junk_after_the_end_closes_the_connection(case: Case):
    with memory() as wire:
        wire.ask()
        wire.feed([case.raw])

        assert wire.transport.aborted
        assert not wire.pool.connections


@pytest.mark.parametrize("junk", [b"J", b"\r\n", b"\n", OK + HI], ids=repr)
def test_bytes_on_an_idle_connection_close_it(junk: bytes):
    with memory() as wire:
        wire.ask()
        wire.feed([OK + HI])
        assert wire.reusable

        wire.feed([junk])

        assert wire.transport.aborted
        assert not wire.pool.idle


def test_trailers_are_not_headers():
    with memory() as wire:
        reply = wire.ask()
        wire.feed([OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ncontent-type: evil\r\n\r\n"])

        assert reply.headers == [(b"transfer-encoding", b"chunked")]


def test_headers_of_informational_answers_are_dropped():
    with memory() as wire:
        reply = wire.ask()
        wire.feed([b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + HI])

        assert reply.headers == [(b"content-length", b"2")]


def endless(wire: Memory, head: bytes, more: bytes) -> int:
    """Bytes fed until the connection was given up."""
    wire.feed([head])
    fed = 0
    while not wire.transport.aborted:
        assert fed < 1 << 20, "never given up"
        wire.feed([more])
        fed += len(more)
    return fed


@pytest.mark.parametrize(
    "head, more",
    [
        (b"", b"HTTP/1.1 200 " + b"a" * 999),
        (OK + b"x-a: ", b"a" * 1000),
        (OK + b"x", b"a" * 1000),
        (OK, b"x-a: b\r\n" * 100),
        (OK + b"transfer-encoding: chunked\r\n\r\n5;", b"a" * 1000),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5;", b"a" * 1000),
        (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n" * 100),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-a: ", b"a" * 1000),
        (b"", b"\r\n" * 500),
    ],
    ids=["reason", "value", "name", "headers", "extension", "later extension", "trailers", "trailer", "empty lines"],
)
def test_what_has_no_end_is_given_up_after_64_kib(head: bytes, more: bytes):
    with memory() as wire:
        reply = wire.ask()

        assert endless(wire, head, more) <= 80 * 1024
        assert reply.error is not None


def test_large_head_in_one_read_is_refused():
    with memory() as wire:
        reply = wire.ask()
        wire.feed([OK + b"x-a: " + b"a" * 70_000 + b"\r\n" + HI])

        assert reply.error is not None
        assert reply.status == 0


def test_answer_before_the_request_was_written_out_is_used_but_not_the_connection():
    with memory() as wire:
        reply = wire.ask()
        wire.transport.unsent = 1
        wire.feed([b"HTTP/1.1 413 Too Large\r\n" + HI])

        assert (reply.status, reply.done) == (413, True)
        assert wire.transport.aborted
