"""The decision table: what each upstream result means for the request and for the endpoint."""

from typing import NamedTuple

import pytest

from routing.balancing.health import Availability
from routing.upstream.errors import (
    AnswerBroken,
    AnswerTooLarge,
    ConnectFailed,
    ConnectionReset,
    PoolFull,
    UpstreamError,
    UpstreamTimeout,
)
from tests.unit.failover.scene import Scene, play, request, response, three
from tests.unit.memory_upstream import CHUNK, DONE, GOOD, GOOD_STREAM, LAST, NEVER, SSE, Says, fails, status, streams
from tests.unit.tables import model

BARE_404 = Says(404, b"<html>not found</html>")


class Row(NamedTuple):
    name: str
    says: Says
    counted: str
    cooled: bool
    stream: bool = False


TO_THE_NEXT = [
    Row("connect error", fails(ConnectFailed()), "failure", True),
    Row("reset before the head", fails(ConnectionReset()), "failure", True),
    Row("broken head", fails(AnswerBroken()), "failure", True),
    Row("answer too large", fails(AnswerTooLarge()), "failure", True),
    *(Row(f"status {number}", status(number), "failure", True) for number in (408, 500, 502, 503, 504, 529)),
    Row("429", status(429), "rejected", True),
    Row("429 for the size", status(429, message="Request too large for m"), "rejected", False),
    Row("401", status(401), "failure", True),
    Row("403 with an error", status(403), "rejected", False),
    Row("403 without an error", Says(403, b"forbidden"), "failure", True),
    Row("404 with an error", status(404), "rejected", False),
    Row("404 without an error", BARE_404, "failure", True),
    Row("404 of the model", status(404, code="model_not_found"), "failure", True),
    Row("404 of the deployment", status(404, code="DeploymentNotFound"), "failure", True),
    Row("invalid JSON", Says(body=b"{"), "failure", True),
    Row("trailing garbage", Says(body=GOOD + b"x"), "failure", True),
    Row("empty 200", Says(body=b""), "failure", True),
    Row("204", Says(204, b""), "failure", True),
    Row("error in a 200", Says(body=b'{"error":{"message":"x"}}'), "failure", True),
    Row("error text in a 200", Says(body=b'{"error":"x"}'), "failure", True),
    Row("redirect", Says(301, b"", ((b"location", b"http://elsewhere/"),)), "failure", True),
    Row("no head in time", Says(head_after_s=NEVER), "failure", True),
    Row("no whole JSON in time", Says(pieces=((0, b"{"), (NEVER, b"}"))), "failure", True),
    Row("no head of a stream in time", Says(head_after_s=NEVER), "failure", True, stream=True),
    Row("no first event in time", streams((NEVER, CHUNK)), "failure", True, stream=True),
    Row("only comments", streams(*[(20.0, b": ping\n\n")] * 20), "failure", True, stream=True),
    Row("a stream without any event", streams(b": hello\n\n"), "failure", True, stream=True),
    Row("a stream with [DONE] alone", streams(DONE), "failure", True, stream=True),
    Row("first event an error", streams(b'data: {"error":{"message":"x"}}\n\n'), "failure", True, stream=True),
    Row("first event malformed", streams(b"data: {oops\n\n"), "failure", True, stream=True),
    Row("JSON for a stream", Says(), "failure", True, stream=True),
    Row("reset before the first event", streams(AnswerBroken()), "failure", True, stream=True),
]


@pytest.mark.parametrize("row", TO_THE_NEXT, ids=lambda row: row.name)
def test_goes_to_the_next_endpoint(row):
    @play(model("a"), model("b"))
    async def _(scene: Scene) -> None:
        scene.script(a=row.says, b=GOOD_STREAM if row.stream else Says())
        got = await scene.ask(request(stream=row.stream))
        assert (got.status, got.by, got.attempts) == (200, "b", 2)
        assert got.body == (CHUNK + LAST + DONE if row.stream else GOOD)
        assert scene.counts("a") == {row.counted: 1}
        assert scene.counts("b") == {"success": 1}
        assert scene.cooled() == (["a"] if row.cooled else [])


@pytest.mark.parametrize("number", [400, 402, 405, 406, 409, 410, 413, 415, 418, 422, 451])
@pytest.mark.parametrize("body", [b'{"error":{"message":"no"}}', b"plain text", b""])
def test_other_4xx_are_passed_on_after_one_attempt(number, body):
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=Says(number, body))
        got = await scene.ask()
        assert (got.status, got.body, got.attempts) == (number, body, 1)
        assert scene.counts("a") == {"rejected": 1}
        assert scene.cooled() == []
        assert scene.board.of(scene["a"]).consecutive_failures == 0


def test_an_object_with_an_error_field_and_an_object_is_an_answer():
    @play(*three())
    async def _(scene: Scene) -> None:
        body = b'{"object":"response","error":{"code":"server_error"},"id":"resp_1"}'
        scene.script(a=Says(body=body))
        assert (await scene.ask(response())).body == body
        assert scene.cooled() == []


def test_an_answer_that_is_an_array_is_passed_on():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=Says(body=b"[1,2]"))
        assert (await scene.ask()).body == b"[1,2]"


@pytest.mark.parametrize(
    ("stop", "error"),
    [
        ("cut", None),
        ("reset", AnswerBroken()),
        ("stall", UpstreamTimeout("idle")),
        ("too large", AnswerTooLarge()),
    ],
)
def test_a_stream_that_breaks_after_its_first_event_goes_nowhere_else(stop, error):
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, *([error] if error else [])))
        got = await scene.ask(request(stream=True))
        assert got.attempts == 1
        assert got.body.startswith(CHUNK)
        assert got.body.count(b"upstream_stream_interrupted") == 1
        assert b"[DONE]" not in got.body
        assert scene.counts("a") == {"failure": 1}
        assert scene.cooled() == ["a"]


def test_a_stalled_stream_is_cut_by_the_idle_timeout():
    @play(*three(), idle_timeout=30)
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, (NEVER, LAST)))
        got = await scene.ask(request(stream=True))
        assert got.seconds == pytest.approx(30)
        assert scene.counts("a") == {"failure": 1}


def test_a_stream_of_comments_alone_is_cut_by_the_stream_timeout():
    @play(*three(), stream_timeout=100)
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, *[(7.0, b": ping\n\n")] * 50))
        got = await scene.ask(request(stream=True))
        assert got.seconds == pytest.approx(100)
        assert scene.counts("a") == {"failure": 1}


def test_a_missing_done_after_every_finish_reason_is_a_success():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, LAST))
        got = await scene.ask(request(stream=True))
        assert got.body == CHUNK + LAST
        assert scene.counts("a") == {"success": 1}


def test_one_finished_choice_of_two_is_not_a_success():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, LAST))
        got = await scene.ask(request(stream=True, n=2))
        assert b"upstream_stream_interrupted" in got.body
        assert scene.counts("a") == {"failure": 1}


def test_data_after_done_is_dropped():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, LAST + DONE + CHUNK, b"data: more\n\n"))
        got = await scene.ask(request(stream=True))
        assert got.body == CHUNK + LAST + DONE
        assert scene.counts("a") == {"success": 1}


def test_an_incomplete_tail_is_dropped():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, LAST, b"data: [DO"))
        assert (await scene.ask(request(stream=True))).body == CHUNK + LAST


def test_the_upstreams_own_error_event_is_the_last_one():
    @play(*three())
    async def _(scene: Scene) -> None:
        error = b'data: {"error":{"message":"overloaded"}}\n\n'
        scene.script(a=streams(CHUNK + error + CHUNK + DONE))
        got = await scene.ask(request(stream=True))
        assert got.body == CHUNK + error
        assert scene.counts("a") == {"failure": 1}


def test_a_known_secret_in_an_error_event_is_struck_out():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, b'data: {"error":{"message":"bad key sk-key-of-a"}}\n\n'))
        got = await scene.ask(request(stream=True))
        assert got.body.startswith(CHUNK + b'data: {"error":{"message":"bad key ')
        assert b"sk-key-of-a" not in got.body


def test_a_malformed_event_ends_the_stream_with_an_error():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, CHUNK + b"data: {oops\n\n" + CHUNK))
        got = await scene.ask(request(stream=True))
        assert got.body.startswith(CHUNK + CHUNK + b'data: {"error":')
        assert b"oops" not in got.body


def test_comments_before_the_first_event_reach_the_client_with_it():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams(b": one\n\n", b": two\n\n", CHUNK, LAST, DONE))
        got = await scene.ask(request(stream=True))
        assert got.body == b": one\n\n: two\n\n" + CHUNK + LAST + DONE


def test_a_responses_stream_that_breaks_says_so_in_its_own_way():
    @play(*three())
    async def _(scene: Scene) -> None:
        first = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
        scene.script(a=streams(first))
        got = await scene.ask(response(stream=True))
        assert got.body.startswith(first + b'event: error\ndata: {"type":"error",')


@pytest.mark.parametrize("end", [(), (AnswerBroken(),), (b'data: {"error":{"message":"x"}}\n\n',), (b"data: {\n\n",)])
def test_a_buffered_stream_fails_over_unseen(end):
    @play(model("a"), model("b"), group={"stream_recovery": "buffer"})
    async def _(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, *end), b=GOOD_STREAM)
        got = await scene.ask(request(stream=True))
        assert (got.by, got.body, got.attempts) == ("b", CHUNK + LAST + DONE, 2)
        assert scene.counts("a") == {"failure": 1}
        assert scene.counts("b") == {"success": 1}


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_pool_is_no_failure_and_no_attempt(stream):
    @play(model("a"), model("b"))
    async def _(scene: Scene) -> None:
        scene.script(a=fails(PoolFull()), b=GOOD_STREAM if stream else Says())
        got = await scene.ask(request(stream=stream))
        assert (got.by, got.attempts) == ("b", 1)
        assert scene.counts("a") == {}
        assert scene.cooled() == []


def test_full_pools_everywhere_are_overload():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=fails(PoolFull()), b=fails(PoolFull()), c=fails(PoolFull()))
        got = await scene.ask()
        assert (got.status, got.code, got.refusal.retry_after) == (503, "overloaded", 1)
        assert [scene.asked(name) for name in "abc"] == [1, 1, 1]


def test_more_full_pools_than_attempts_still_find_the_free_one():
    @play(*(model(name) for name in "abcdef"), num_retries=1)
    async def _(scene: Scene) -> None:
        scene.script(**{name: fails(PoolFull()) for name in "abcde"})
        assert (await scene.ask()).by == "f"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_counts_as_cancelled_and_ends_everything(stream):
    import asyncio

    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=streams((NEVER, CHUNK)) if stream else Says(head_after_s=50))
        asking = asyncio.get_running_loop().create_task(scene.ask(request(stream=stream)))
        await asyncio.sleep(5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert scene.counts("a") == {"cancelled": 1}
        assert [scene.asked(name) for name in "abc"] == [1, 0, 0]
        assert scene.cooled() == []


def test_a_client_that_leaves_during_a_backoff_causes_no_further_attempt():
    import asyncio

    @play(model("a"))
    async def _(scene: Scene) -> None:
        scene.script(a=status(503, (b"retry-after", b"4")))
        asking = asyncio.get_running_loop().create_task(scene.ask())
        await asyncio.sleep(2)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(10)
        assert scene.asked("a") == 1
        assert scene.counts("a") == {"failure": 1}


def test_usage_is_counted_with_the_attempt():
    @play(*three())
    async def _(scene: Scene) -> None:
        await scene.ask()
        counts = scene.recorder.own().endpoint(scene["a"].id)
        assert (counts.input_tokens, counts.output_tokens) == (3, 4)


def test_the_error_that_is_kept_is_a_class_and_a_status():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=status(500, message="sk-secret told by the upstream"))
        await scene.ask()
        assert scene.recorder.own().endpoint(scene["a"].id).last_error == "status 500"


def test_a_2xx_with_an_unusual_status_is_passed_on():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=Says(202))
        assert (await scene.ask()).status == 202


def test_a_stream_may_say_more_in_its_content_type():
    @play(*three())
    async def _(scene: Scene) -> None:
        kind = (SSE[0], b"Text/Event-Stream; charset=utf-8")
        scene.script(a=Says(headers=(kind,), pieces=GOOD_STREAM.pieces))
        assert (await scene.ask(request(stream=True))).by == "a"


def test_a_head_heals_before_the_answer_is_whole():
    import asyncio

    @play(model("a"))
    async def _(scene: Scene) -> None:
        scene.script(a=[fails(ConnectFailed()), fails(ConnectFailed())])
        await scene.ask(request(), scene.pinned("a"))
        scene.script(a=Says(pieces=((50.0, GOOD),)))
        asking = asyncio.get_running_loop().create_task(scene.ask())
        await asyncio.sleep(10)
        assert scene.state("a") is Availability.AVAILABLE
        await asking


@pytest.mark.parametrize("error", [UpstreamError(), AnswerBroken()])
def test_an_error_status_whose_body_breaks_is_judged_by_its_status(error):
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=Says(422, pieces=((0, b"{"), (0, error))))
        got = await scene.ask()
        assert (got.status, got.attempts) == (422, 1)
