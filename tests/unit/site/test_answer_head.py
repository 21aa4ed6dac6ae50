"""Whatever is answered, the bytes and the refusals are uvicorn's own."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from llmproxy_site import answer_head
from llmproxy_site.answer_head import QuickCycle

NAMES = st.sampled_from(
    [b"x-a", b"X-Mixed", b"content-length", b"Content-Length", b"connection", b"transfer-encoding", b"bad name", b"a\n"]
)
VALUES = st.binary(max_size=8) | st.sampled_from([b"close", b"chunked", b"4", b"keep-alive, close", b"a\r\nb: c"])
BODY = b"four"


def written(kind, headers, *, status=200, method="POST", keep_alive=True, default=()):
    """What the transport got, and whether it was closed; or the error."""
    out: list[bytes] = []
    transport = SimpleNamespace(write=out.append, close=lambda: out.append(b"<closed>"))
    cycle = kind(
        scope={"method": method},
        transport=transport,
        flow=SimpleNamespace(write_paused=False),
        logger=None,
        access_logger=None,
        access_log=False,
        default_headers=list(default),
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )

    async def answer():
        told = {} if headers is None else {"headers": headers}
        await cycle.send({"type": "http.response.start", "status": status, **told})
        await cycle.send({"type": "http.response.body", "body": BODY})

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
    with pytest.raises(TypeError):  # at the body, which is uvicorn's
        written(QuickCycle, [(b"x-request-id", b"r"), (b"content-length", b"4")])


def test_names_that_were_seen_are_not_remembered_without_end(monkeypatch):
    monkeypatch.setattr(answer_head, "_BEGINNINGS", dict(answer_head._BEGINNINGS))
    for number in range(2 * answer_head._MOST_NAMES):
        written(QuickCycle, [(b"x-%d" % number, b"v")])
    assert len(answer_head._BEGINNINGS) == answer_head._MOST_NAMES
