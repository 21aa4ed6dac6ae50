"""Streams that go wrong after their first event, and streams that are odd but right."""

import json

import pytest

from tests.fakes import behaviours as b
from tests.fakes.nonce import new_nonce
from tests.fakes.scripted import Behaviour, Exchange
from tests.fakes.truth import EVENT_STREAM, events
from tests.integration.conftest import StartGateway, StartUpstreams

INTERRUPTED = {
    "reset after the first event": b.interrupted(1),
    "reset in the middle": b.interrupted(4),
    "reset inside an event": b.interrupted(4, "reset", b'data: {"id": "chat'),
    "closed without an end": b.interrupted(4, "close"),
    "ended without finish_reason": b.interrupted(4, "whole"),
    "stalled": b.interrupted(4, "silence"),
    "malformed event": b.interrupted(4, "whole", b"data: {not json\n\n"),
}


@pytest.mark.parametrize("behaviour", INTERRUPTED.values(), ids=INTERRUPTED.keys())
async def test_an_interrupted_stream_ends_with_one_error_event(
    behaviour: Behaviour, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    broken, other = await upstreams(2)
    broken.always = behaviour
    proxy = await gateway(broken, other, general={"idle_timeout": 0.4})
    got = await proxy.ask(stream=True)
    assert got.status == 200
    *before, last = got.data
    error = json.loads(last)["error"]
    assert (error["code"], set(error)) == ("upstream_stream_interrupted", {"message", "type", "param", "code"})
    assert before
    assert not any('"error"' in one for one in before)
    assert "[DONE]" not in got.data
    assert len(other.requests) == 0
    state = await proxy.endpoint("a")
    assert (state["failed_requests"], state["total_requests"]) == (1, 1)


async def test_the_events_before_the_cut_came_through_whole(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (broken,) = await upstreams(1)
    broken.always = b.interrupted(4, "close", b'data: {"half')
    nonce = new_nonce()
    got = await (await gateway(broken)).ask(stream=True, nonce=nonce)
    sent = b"".join(events(broken.requests[0], nonce, 300)[:4])
    assert got.body.startswith(sent + b"data: ")
    assert b'{"half' not in got.body


async def test_an_interrupted_responses_stream_names_the_event(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (broken,) = await upstreams(1)
    broken.always = b.interrupted(3)
    async with (await gateway(broken)).client() as client:
        got = await client.post("/responses", {"model": "m", "input": "x", "stream": True})
    *_, last = got.body.decode().strip().split("\n\n")
    name, data = last.split("\n")
    said = json.loads(data.removeprefix("data: "))
    assert (name, said["type"], said["error"]["code"]) == ("event: error", "error", "upstream_stream_interrupted")


async def test_comments_for_ever_end_at_stream_timeout(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (endless,) = await upstreams(1)
    endless.always = b.comments_for_ever(after=2)
    got = await (await gateway(endless, general={"stream_timeout": 0.8})).ask(stream=True)
    assert json.loads(got.data[-1])["error"]["code"] == "upstream_stream_interrupted"
    assert 0.6 < got.seconds < 1.6
    await endless.wait_for_close(endless.requests[0])


async def test_an_upstreams_own_error_event_is_the_last_one(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (broken,) = await upstreams(1)
    broken.always = b.interrupted(3, "whole", b.ERROR_EVENT, b"data: [DONE]\n\n")
    proxy = await gateway(broken)
    got = await proxy.ask(stream=True)
    assert got.body.endswith(b.ERROR_EVENT)
    assert (await proxy.endpoint("a"))["failed_requests"] == 1


async def test_only_done_missing_is_a_success(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (hasty,) = await upstreams(1)

    async def without_done(exchange: Exchange) -> None:
        sent = events(exchange.request, exchange.nonce, exchange.size)[:-1]
        await b.stream(*sent).play(exchange)

    hasty.always = Behaviour(without_done)
    proxy = await gateway(hasty)
    nonce = new_nonce()
    got = await proxy.ask(stream=True, nonce=nonce)
    assert got.body == b"".join(events(hasty.requests[0], nonce, 300)[:-1])
    assert (await proxy.endpoint("a"))["successful_requests"] == 1


async def test_data_after_done_is_dropped(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (chatty,) = await upstreams(1)
    chatty.always = b.interrupted(99, "whole", b'data: {"more": 1}\n\n', b"data: [DONE]\n\n")
    proxy = await gateway(chatty)
    nonce = new_nonce()
    got = await proxy.ask(stream=True, nonce=nonce)
    assert (got.verdict, got.body) == (None, b"".join(events(chatty.requests[0], nonce, 300)))
    assert (await proxy.endpoint("a"))["successful_requests"] == 1


async def test_a_buffered_group_fails_over_unseen(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    broken, whole = await upstreams(2)
    broken.always = b.interrupted(4)
    proxy = await gateway(broken, whole, group={"stream_recovery": "buffer"})
    got = await proxy.ask(stream=True)
    assert (got.verdict, got.headers["x-llmproxy-endpoint"]) == (None, "b")


CHUNK = (
    '{"id":"x","object":"chat.completion.chunk","choices":'
    '[{"index":0,"delta":{"content":"Grüße €😀"},"finish_reason":%s}]}'
)


def odd_stream(style: str) -> bytes:
    """A right stream of three events in an odd spelling."""
    first, last = CHUNK % "null", CHUNK % '"stop"'
    spelled = {
        "LF": f"data: {first}\n\ndata: {last}\n\ndata: [DONE]\n\n",
        "CRLF": f"data: {first}\r\n\r\ndata: {last}\r\n\r\ndata: [DONE]\r\n\r\n",
        "CR": f"data: {first}\r\rdata: {last}\r\rdata: [DONE]\r\r",
        "no space": f"data:{first}\n\ndata:{last}\n\ndata:[DONE]\n\n",
        "multi-line": "data: " + first.replace(",", ",\ndata: ", 1) + f"\n\ndata: {last}\n\ndata: [DONE]\n\n",
        "fields": f"event: x\nid: 1\nretry: 5\ndata: {first}\n\nid: 2\ndata: {last}\n\ndata: [DONE]\n\n",
        "BOM": f"\ufeffdata: {first}\n\ndata: {last}\n\ndata: [DONE]\n\n",
        "comments": f"data: {first}\n\n: keep-alive\n\n:\n\ndata: {last}\n\n: end\n\ndata: [DONE]\n\n",
    }
    return spelled[style].encode()


@pytest.mark.parametrize("style", ["LF", "CRLF", "CR", "no space", "multi-line", "fields", "BOM", "comments"])
async def test_odd_but_right_streams_come_through_unchanged(
    style: str, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (odd,) = await upstreams(1)
    odd.always = b.stream(odd_stream(style))
    proxy = await gateway(odd)
    got = await proxy.ask(stream=True)
    assert got.body.removeprefix("\ufeff".encode()) == odd_stream(style).removeprefix("\ufeff".encode())
    assert (await proxy.endpoint("a"))["successful_requests"] == 1


async def sliced_at(cuts: list[int], content: bytes, exchange: Exchange) -> None:
    await exchange.head(200, *EVENT_STREAM)
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        await exchange.chunk(content[start:end])
        await exchange.silence(0.002)
    await exchange.write(b"0\r\n\r\n")


@pytest.mark.parametrize("style", ["LF", "CRLF", "CR"])
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.full), 41])
async def test_the_stream_may_be_cut_at_any_byte(
    style: str, step: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    content = odd_stream(style)
    proxy = await gateway(upstream)
    for cut in range(1, len(content), step):

        async def play(exchange: Exchange, cut: int = cut) -> None:
            await sliced_at([cut], content, exchange)

        upstream.always = Behaviour(play)
        assert (await proxy.ask(stream=True)).body == content


async def test_byte_by_byte(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    content = odd_stream("CRLF")

    async def play(exchange: Exchange) -> None:
        await sliced_at(list(range(1, len(content))), content, exchange)

    upstream.always = Behaviour(play)
    proxy = await gateway(upstream)
    assert (await proxy.ask(stream=True)).body == content


async def test_an_event_of_a_megabyte(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    big = odd_stream("LF").replace("Grüße".encode(), b"y" * 1_000_000, 1)
    upstream.always = b.stream(big)
    got = await (await gateway(upstream)).ask(stream=True)
    assert got.body == big


async def test_events_are_passed_on_as_they_come(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.honest(interval=0.1)
    got = await (await gateway(upstream)).ask(stream=True)
    assert got.verdict is None
    assert got.first_byte_s < 0.3 < 0.8 < got.seconds


async def test_comments_before_the_first_event_commit_nothing(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    broken, whole = await upstreams(2)
    broken.always = b.stream(b": wait\n\n", end="reset")
    got = await (await gateway(broken, whole)).ask(stream=True)
    assert (got.verdict, got.headers["x-llmproxy-endpoint"]) == (None, "b")


async def test_headers_of_a_stream(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (upstream,) = await upstreams(1)
    got = await (await gateway(upstream)).ask(stream=True)
    shown = {name: got.headers.get(name) for name in ("content-type", "cache-control", "x-accel-buffering")}
    assert shown == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }
