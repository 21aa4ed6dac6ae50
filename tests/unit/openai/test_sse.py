"""Whatever reads bring a stream, its whole events come out with their bytes unchanged, and with the right data."""

import itertools
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from routing.openai.sse import EventCutter, EventTooLarge, until, without

LIMIT = 1 << 24
EOLS = [b"\n", b"\r", b"\r\n"]

LINES = st.sampled_from(
    [b"data: x", b"data:x", b"data", b"data: ", b"data:  two", b": comment", b":", b"event: e", b"id: 1", b"retry: 10",
     b"data: \xc3\xa9\xf0\x9f\x98\x80", b'data: {"a":1}', b"unknown: y", b"unknown", b"data:: z", b"database: no",
     b"data: [DONE]", b"\xef\xbb\xbfdata: not a BOM here", b" data: no"]
)  # fmt: skip


@st.composite
def streams(draw):
    """Bytes of a stream, and the bytes up to its last empty line."""
    eol = draw(st.sampled_from(EOLS))
    blocks = draw(st.lists(st.lists(LINES, max_size=4), max_size=5))
    whole = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
    for lines in blocks:
        for line in [*lines, b""]:
            whole += line + (draw(st.sampled_from(EOLS)) if draw(st.booleans()) else eol)
    tail = draw(st.lists(LINES, max_size=2))
    return whole + eol.join(tail)


def reference(text: bytes) -> tuple[list[bytes], int]:
    """The data of each event and where the last whole one ends: the standard's algorithm, byte by byte."""
    payloads, lines, line, end, at = [], [], b"", 0, 0
    while at < len(text):
        size = 2 if text[at : at + 2] == b"\r\n" else 1
        if text[at : at + 1] not in (b"\r", b"\n"):
            line += text[at : at + 1]
        elif line:
            lines.append(line.removeprefix(b"\xef\xbb\xbf") if at - len(line) == 0 else line)
            line = b""
        else:
            data = b"\n".join(d for one in lines if (d := field(one)) is not None)
            payloads += [data] if data else []  # an empty buffer dispatches nothing
            lines, end = [], at + size
        at += size
    return payloads, end


def field(line: bytes) -> bytes | None:
    name, _, value = line.partition(b":")
    return value.removeprefix(b" ") if name == b"data" else None


def cut(reads: list[bytes]) -> tuple[bytes, list[bytes], bytes]:
    cutter, whole, payloads = EventCutter(LIMIT), b"", []
    for read in reads:
        done = cutter.feed(read)
        whole += done.whole
        payloads += done.payloads
    return whole, payloads, cutter.tail()


def split(text: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [10])
@example(b"\n\n\ndata: x\n\n", [1, 2])
def test_any_rechunking_gives_the_same_bytes_and_data(text, places):
    payloads, _end = reference(text)
    whole, seen, tail = cut(split(text, places))
    assert whole + tail == text
    assert seen == payloads
    assert reference(whole)[0] == payloads, "an event that is whole is not held back"


@given(streams())
def test_one_byte_at_a_time_gives_the_same(text):
    payloads, _ = reference(text)
    whole, seen, tail = cut([text[i : i + 1] for i in range(len(text))])
    assert (whole + tail, seen) == (text, payloads)


SAMPLES = {
    "LF": b'data: {"a":"\xc3\xa9\xf0\x9f\x98\x80"}\n\ndata: 2\n\n',
    "CRLF": b"event: e\r\ndata: 1\r\ndata: 2\r\n\r\n: c\r\n\r\ndata: 3\r\n\r\n",
    "CR": b"data: 1\r\rid: 7\rretry: 5\rdata:x\r\r",
    "BOM": b"\xef\xbb\xbfdata: 1\n\ndata\n\n",
    "mixed": b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\rdata: 4\n\n",
}


@pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES)
def test_split_in_two_and_three_at_every_byte(text):
    payloads, end = reference(text)
    assert end == len(text)
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert cut([text[:first], text[first:second], text[second:]]) == (text, payloads, b"")


@pytest.mark.parametrize(
    ("text", "payloads"),
    [
        (b"data: x\n\n", [b"x"]),
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data\n\n", []),
        (b"data:\n\n", []),
        (b"data: \n\n", []),
        (b"data: a\n\ndata: \n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\nevent: e\ndata: b\n\n: c\n\n", [b"a", b"b"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": c\ndata: a\nevent: e\nid: 1\nretry: 2\n\n", [b"a"]),
        (b": c\n\n", []),
        (b"event: e\n\n", []),
        (b"database: x\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"\n\n\n\n", []),
    ],
)
def test_data_of_an_event(text, payloads):
    assert cut([text])[1] == payloads
    assert cut([b": begun\n\n", text])[1] == [p for p in payloads if not text.startswith(b"\xef\xbb\xbf")]


def test_events_are_passed_on_with_the_read_that_completes_them():
    cutter = EventCutter(LIMIT)
    assert cutter.feed(b"data: 1\n").whole == b""
    assert cutter.feed(b"\ndata: 2\n\ndata").whole == b"data: 1\n\ndata: 2\n\n"
    assert cutter.tail() == b"data"


@pytest.mark.parametrize("eol", EOLS)
def test_an_event_is_not_held_back_for_the_next_one(eol):
    """A CR may be the first half of CR LF; the event is whole all the same."""
    assert EventCutter(LIMIT).feed(b"data: 1" + eol + eol).whole == b"data: 1" + eol + eol


def test_an_event_of_one_megabyte_passes():
    event = b"data: " + b"x" * (1 << 20) + b"\n\n"
    whole, payloads, _ = cut([event[i : i + 1400] for i in range(0, len(event), 1400)])
    assert (whole, len(payloads[0])) == (event, 1 << 20)


def test_an_event_over_the_limit_is_refused():
    cutter = EventCutter(1000)
    cutter.feed(b"data: " + b"x" * 900)
    with pytest.raises(EventTooLarge):
        cutter.feed(b"x" * 200)


def seconds(size: int, read: int, unit: bytes) -> float:
    text = b"data: " + (unit * (size // len(unit))) + b"\n\n"
    reads = [text[i : i + read] for i in range(0, len(text), read)]
    began = time.process_time()
    cut(reads)
    return time.process_time() - began


@pytest.mark.parametrize("unit", [b"x", b"\r", b"\ndata: y", b"x\r\nid: 1\r\n", b"\n"])
def test_time_stays_linear(unit):
    """Four times the bytes take four times as long, not sixteen; a generous bound for a busy machine."""
    small = min(seconds(1 << 17, 16, unit) for _ in range(3))
    large = min(seconds(1 << 19, 16, unit) for _ in range(3))
    assert large < 9 * small + 0.05


@given(streams(), st.integers(0, 6))
def test_until_ends_right_after_that_event(text, events):
    payloads, end = reference(text)
    kept = until(text[:end], events)
    assert text.startswith(kept)
    assert reference(kept)[0] == payloads[:events]


@given(streams(), st.sets(st.integers(1, 5)))
def test_without_some_events_the_others_stay(text, numbers):
    assume(b"\xef\xbb\xbf" not in text[1:])  # it would come to stand at the begin, where it means something
    payloads, end = reference(text)
    kept, _ = without(text[:end], numbers)
    assert reference(kept)[0] == [data for number, data in enumerate(payloads, 1) if number not in numbers]
    assert kept == text[:end] or numbers & set(range(1, len(payloads) + 1))


@pytest.mark.parametrize(
    ("text", "kept", "end_is_missing"),
    [
        (b"data: 1\n\ndata: 2\n\ndata: 3\n\n", b"data: 1\n\ndata: 3\n\n", False),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", b"data: 1\r\n\r\n", True),
        (b": c\n\ndata: 1\n\n: d\n\nid: 2\ndata: 2\n\n: e\n\n", b": c\n\ndata: 1\n\n: d\n\n: e\n\n", False),
        (b"\ndata: 1\r\n\r\n\r\ndata: 2\r\n\r\n", b"\ndata: 1\r\n\r\n\r\n", True),
        (b"data: 1\n\ndata: 2\n\ndata: 3", b"data: 1\n\ndata: 3", False),
    ],
)
def test_all_bytes_around_an_event_that_is_left_out_stay(text, kept, end_is_missing):
    assert without(text, [2]) == (kept, end_is_missing)
