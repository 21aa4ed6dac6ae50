"""The chunk with the usage, which only LLMProxy asked for, is taken out of a stream; every other byte stays."""

import asyncio
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing.openai.stream_end import ChatWatch, Seen
from routing.stream_relay import StreamRelay
from routing.upstream.answer_facts import Usage
from routing.upstream.classify import Outcome
from tests.unit.memory_upstream import MemoryReply, streams
from tests.unit.virtual_time import run

FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}],"usage":null}'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}'
FILTERED = b'data: {"choices":[],"prompt_filter_results":[]}'
DONE = b"data: [DONE]"
TOLD = Usage(7, 5)


def relayed(*reads: bytes, drops_usage: bool = True, gathers: bool = False) -> tuple[bytes, StreamRelay]:
    """What of these reads reaches the client."""

    async def work() -> tuple[bytes, StreamRelay]:
        loop = asyncio.get_running_loop()
        reply = MemoryReply(streams(*reads), loop.time() + 60)
        relay = StreamRelay(reply, "chat", 1, 1 << 20, drops_usage=drops_usage)
        assert await relay.open() is None
        if gathers:
            await relay.gather()
        pieces = []
        while (piece := await relay.piece()) is not None:
            assert piece
            pieces.append(piece)
        return b"".join(pieces), relay

    return run(work())


def lines(*events: bytes, eol: bytes = b"\n") -> bytes:
    return b"".join(event + 2 * eol for event in events)


def split(text: bytes, *places: int) -> list[bytes]:
    cuts = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(cuts) if begin < end]


@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=6, max_size=6),
    st.sets(st.sampled_from([0, 1, 2, 3, 4])),
    st.lists(st.integers(0, 1000), max_size=12),
    st.booleans(),
)
@example([b"\n", b"\r\n", b"\r", b"\n", b"\n", b"\r\n"], {0, 1, 2, 3}, [448], False)
def test_whatever_reads_bring_the_stream_all_but_the_usage_passes(eols, extra, places, gathers):
    events = [FIRST, b": comment", FILTERED, LAST, DONE]
    sent = kept = b""
    for number, event in enumerate(events):
        if number in extra:
            sent += USAGE + 2 * eols[5]
        sent += event + 2 * eols[number]
        kept += event + 2 * eols[number]
    got, relay = relayed(*split(sent, *places), gathers=gathers)
    assert got == kept
    assert relay.usage == (TOLD if extra else None)
    assert relay.verdict is not None and relay.verdict.outcome is Outcome.SUCCESS


@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_wherever_a_read_ends_all_but_the_usage_passes(eol):
    sent, kept = lines(FIRST, LAST, USAGE, DONE, eol=eol), lines(FIRST, LAST, DONE, eol=eol)
    for place in range(len(sent)):
        assert relayed(*split(sent, place))[0] == kept


def test_a_client_that_asked_for_it_gets_it():
    sent = lines(FIRST, LAST, USAGE, DONE)
    got, relay = relayed(sent, drops_usage=False)
    assert (got, relay.usage) == (sent, TOLD)


def test_usage_beside_a_choice_stays():
    last = LAST[:-1] + b',"usage":{"prompt_tokens":7,"completion_tokens":5}}'
    got, relay = relayed(lines(FIRST, last, DONE))
    assert (got, relay.usage) == (lines(FIRST, last, DONE), TOLD)


def test_usage_without_done_is_a_whole_answer():
    got, relay = relayed(lines(FIRST, LAST), lines(USAGE))
    assert (got, relay.usage, relay.verdict.outcome) == (lines(FIRST, LAST), TOLD, Outcome.SUCCESS)


def test_a_stream_that_breaks_after_its_usage_says_so():
    got, relay = relayed(lines(FIRST, USAGE) + b"data: {nonsense\n\n")
    assert got.startswith(lines(FIRST) + b'data: {"error"')
    assert (relay.usage, relay.verdict.outcome) == (TOLD, Outcome.FAILURE)


@pytest.mark.parametrize("choices", [b"", b'"choices":null,', b'"choices":[],'])
@pytest.mark.parametrize("usage", [b"{}", b'{"prompt_tokens":1.5}', b'"odd"'])
def test_a_chunk_of_nothing_but_usage_is_known_however_it_is_spelled(choices, usage):
    assert ChatWatch(1).see(b'{%b"usage":%b}' % (choices, usage)) is Seen.USAGE


@pytest.mark.parametrize("chunk", [b'{"choices":[]}', b'{"choices":[],"usage":null}', FILTERED[6:], FIRST[6:], b"{}"])
def test_other_chunks_are_no_usage(chunk):
    assert ChatWatch(1).see(chunk) is Seen.MORE
