"""Answers bent at random: never a hang, never another error than ours, and what we take httpx's parser takes alike."""

import itertools
import re

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.upstream.errors import UpstreamError
from tests.wire.answers import CORPUS
from tests.wire.memory import memory

FRAGMENTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"-1", b";", b"\0", b"\xff", b"0\r\n\r\n", b"\r\n\r\n",
    b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"HTTP/1.1 200 OK\r\n",
    b"content-encoding: gzip\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"ffffffff\r\n", b"2\r\nhi\r\n",
]  # fmt: skip

STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d)\d\d ")


def plain(raw: bytes) -> bytes:
    """Without what has no meaning, which our parser skips and h11 refuses: empty lines before a status line, and
    control characters in its reason."""
    heads = b""
    while True:
        line, end, rest = raw.lstrip(b"\r\n").partition(b"\r\n")
        status = STATUS_LINE.match(line)
        raw = (line if status is None else status[0]) + end + rest
        if status is None or status[1] != b"1":
            return heads + raw
        head, end, raw = raw.partition(b"\r\n\r\n")
        heads += head + end


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """An answer of the corpus with a few pieces taken out, doubled or put in."""
    raw = draw(st.sampled_from(CORPUS)).raw[:2000]
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 8)))
        middle = draw(st.sampled_from([b"", raw[start:end] * 2, *FRAGMENTS]) | st.binary(max_size=4))
        raw = raw[:start] + middle + raw[end:]
    return raw


def cut_up(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


def ours(pieces: list[bytes]) -> tuple[int, bytes, bool] | None:
    """Status, body, and whether the connection would be used again; None for an error."""
    with memory() as wire:
        reply = wire.ask()
        wire.feed(pieces, closes=True)
        assert reply.done or reply.error is not None
        if reply.error is not None:
            assert isinstance(reply.error, UpstreamError)
            assert not wire.pool.connections
            return None
        return reply.status, b"".join(reply.pieces), wire.reusable


def theirs(raw: bytes) -> tuple[int, bytes] | None:
    """The same by h11, the parser of httpx."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    parser.send(h11.EndOfMessage())
    if raw := plain(raw):
        parser.receive_data(raw)
    parser.receive_data(b"")
    status, body = 0, []
    try:
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, b"".join(body)


@settings(max_examples=600, deadline=None)
@given(bent())
def test_what_we_take_is_what_h11_takes(raw: bytes):
    answer = ours([raw])

    if answer is not None:
        assert answer[:2] == theirs(raw)


@settings(max_examples=600, deadline=None)
@given(bent(), st.lists(st.integers(0, 10_000), max_size=8))
def test_reads_may_end_anywhere(raw: bytes, cuts: list[int]):
    assert ours(cut_up(raw, cuts)) == ours([raw]) or ours(cut_up(raw, cuts)) == leftover(raw)


def leftover(raw: bytes) -> tuple[int, bytes, bool] | None:
    """Stray line ends after an answer are seen only when they come in a read of their own; then they close."""
    answer = ours([raw])
    return (*answer[:2], False) if answer is not None and raw[-1:] in b"\r\n" else answer


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_an_error(noise: bytes):
    assert ours([noise]) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=12), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_body_in_any_chunks_comes_back_whole(pieces: list[bytes], cuts: list[int]):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    with memory() as wire:
        reply = wire.ask()
        wire.feed(cut_up(raw, cuts))
        assert (reply.done, b"".join(reply.pieces), wire.reusable) == (True, b"".join(pieces), True)
