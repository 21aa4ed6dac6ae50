"""Whatever is answered, the bytes and the refusals are uvicorn's own."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from llmproxy_site import quick_cycle
from llmproxy_site.quick_cycle import LateEvent, QuickCycle

NAMES = st.sampled_from(
    [b"x-a", b"X-Mixed", b"content-length", b"Content-Length", b"connection", b"transfer-encoding", b"bad name", b"a\n"]
)
VALUES = st.binary(max_size=8) | st.sampled_from([b"close", b"chunked", b"4", b"keep-alive, close", b"a\r\nb: c"])
BODY = b"four"


def cycle_of(kind, out, *, method="POST", keep_alive=True, default=(), message_event=None):
    """One of uvicorn's or of ours, over a transport that keeps what is written."""
    transport = SimpleNamespace(
        write=out.append, finish=out.append, close=lambda: out.append(b"<closed>"), is_closing=lambda: False
    )
    return kind(
        scope={"method": method},
        transport=transport,
        flow=SimpleNamespace(write_paused=False, read_paused=False, resume_reading=lambda: None),
        logger=None,
        access_logger=None,
        access_log=False,
        default_headers=list(default),
        message_event=message_event or LateEvent(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )


def written(kind, headers, *, status=200, messages=({"type": "http.response.body", "body": BODY},), **told):
    """What the transport got, and whether it was closed; or the error."""
    out: list[bytes] = []
    cycle = cycle_of(kind, out, **told)

    async def answer():
        told = {} if headers is None else {"headers": headers}
        await cycle.send({"type": "http.response.start", "status": status, **told})
        for message in messages:
            await cycle.send(message)

    try:
        asyncio.run(answer())
    except (RuntimeError, ValueError) as error:
        return b"".join(out), str(error)
    return b"".join(out), cycle.response_complete


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.sampled_from([200, 204, 304, 503]),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.booleans(),
)
@example([(b"content-length", b"4"), (b"x-a", b"b")], 200, "POST", True)
@example([(b"content-length", b"4"), (b"content-length", b"5")], 200, "POST", True)
@example([(b"x-a", b"b")], 200, "POST", False)
def test_an_answer_is_the_same_as_uvicorns(headers, status, method, keep_alive):
    told = {"status": status, "method": method, "keep_alive": keep_alive, "default": [(b"date", b"now")]}
    assert written(QuickCycle, headers, **told) == written(RequestResponseCycle, headers, **told)


def test_an_answer_need_not_have_headers():
    assert written(QuickCycle, None) == written(RequestResponseCycle, None)


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0", b"\x7f"])
def test_no_value_breaks_out_of_its_line(value):
    assert written(QuickCycle, [(b"x-a", value)]) == (b"", "Invalid HTTP header value.")


def test_the_usual_answer_takes_the_quick_way(monkeypatch):
    monkeypatch.setattr(RequestResponseCycle, "send", None)
    sent, complete = written(QuickCycle, [(b"x-request-id", b"r"), (b"content-length", b"4")])
    assert sent.endswith(b"\r\n\r\n" + BODY)
    assert complete


BODIES = st.lists(st.tuples(st.sampled_from([b"", b"fo", b"ur", b"four"]), st.booleans()), min_size=1, max_size=3)


@given(BODIES, st.sampled_from(["GET", "HEAD"]), st.booleans())
@example([(b"fo", True), (b"ur", False)], "GET", True)
@example([(b"four", True), (b"", False)], "GET", True)
@example([(b"fo", False)], "GET", True)
def test_whatever_comes_of_a_body_the_bytes_are_uvicorns(pieces, method, keep_alive):
    messages = [{"type": "http.response.body", "body": body, "more_body": more} for body, more in pieces]
    told = {"method": method, "keep_alive": keep_alive, "messages": messages}
    headers = [(b"content-length", b"4")]
    assert written(QuickCycle, headers, **told) == written(RequestResponseCycle, headers, **told)


def test_a_body_too_large_to_be_copied_follows_its_head():
    body = b"x" * 100_000
    headers = [(b"content-length", b"100000")]
    told = {"messages": [{"type": "http.response.body", "body": body}]}
    assert written(QuickCycle, headers, **told) == written(RequestResponseCycle, headers, **told)


def received(kind, body, *, more_body=False, disconnected=False, rings=True):
    """What the application gets first, and whether it had to wait for it."""

    async def receive():
        cycle = cycle_of(kind, [], message_event=asyncio.Event() if kind is RequestResponseCycle else LateEvent())
        cycle.body, cycle.more_body, cycle.disconnected = bytearray(body), more_body, disconnected
        if rings:
            cycle.message_event.set()
        else:
            asyncio.get_running_loop().call_later(0.01, cycle.message_event.set)
        first = await cycle.receive()
        asyncio.get_running_loop().call_later(0.01, leaves, cycle)
        return first, await cycle.receive()

    def leaves(cycle):
        cycle.disconnected = True
        cycle.message_event.set()

    return asyncio.run(receive())


@pytest.mark.parametrize("rings", [True, False])
@pytest.mark.parametrize("more_body", [True, False])
@pytest.mark.parametrize("disconnected", [True, False])
def test_a_request_is_received_as_uvicorn_would(more_body, disconnected, rings):
    told = {"more_body": more_body, "disconnected": disconnected, "rings": rings}
    assert received(QuickCycle, b"body", **told) == received(RequestResponseCycle, b"body", **told)


def test_names_that_were_seen_are_not_remembered_without_end(monkeypatch):
    monkeypatch.setattr(quick_cycle, "_BEGINNINGS", dict(quick_cycle._BEGINNINGS))
    for number in range(2 * quick_cycle._MOST_NAMES):
        written(QuickCycle, [(b"x-%d" % number, b"v")])
    assert len(quick_cycle._BEGINNINGS) == quick_cycle._MOST_NAMES
