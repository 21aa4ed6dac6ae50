"""Endpoints are asked for the usage of streams if they know it; one that refuses is asked once more without."""

import json

import pytest

from routing.upstream.errors import ConnectionReset
from tests.unit.failover.scene import Scene, play, request, response
from tests.unit.memory_upstream import CHUNK, DONE, GOOD_STREAM, LAST, NEVER, Says, fails, status, streams
from tests.unit.tables import model

ALWAYS = {"ask_usage": "always"}
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
REFUSES = status(400, code="x", message="Unrecognized request argument supplied: stream_options")
WITH_USAGE = streams(CHUNK, LAST, USAGE, DONE)
PLAIN = CHUNK + LAST + DONE


def wishes(scene: Scene, name: str = "a") -> list[bool]:
    """Of each request that reached the endpoint: does it ask for the usage?"""
    bodies = [json.loads(asked.body) for asked in scene.upstreams[name].asked]
    return [bool((body.get("stream_options") or {}).get("include_usage")) for body in bodies]


@pytest.mark.parametrize(
    ("params", "asked"),
    [
        ({}, False),
        (ALWAYS, True),
        ({"base_url": "https://api.openai.com/v1"}, True),
        ({"base_url": "https://api.openai.com/v1", "ask_usage": "never"}, False),
    ],
)
def test_who_is_asked(params, asked):
    @play(model("a", params=params))
    async def _(scene: Scene) -> None:
        scene.script(a=GOOD_STREAM)
        await scene.ask(request(stream=True))
        assert wishes(scene) == [asked]


def test_only_chat_streams_are_asked():
    @play(model("a", params=ALWAYS))
    async def _(scene: Scene) -> None:
        await scene.ask(request())
        await scene.ask(response())
        assert wishes(scene) == [False, False]


def test_the_usage_is_counted_and_not_passed_on():
    @play(model("a", params=ALWAYS))
    async def _(scene: Scene) -> None:
        scene.script(a=WITH_USAGE)
        got = await scene.ask(request(stream=True))
        assert got.body == PLAIN
        assert (got.attempt.usage.input, got.attempt.usage.output) == (7, 5)


def test_a_client_that_asks_itself_gets_it():
    @play(model("a", params=ALWAYS))
    async def _(scene: Scene) -> None:
        scene.script(a=WITH_USAGE)
        got = await scene.ask(request(stream=True, stream_options={"include_usage": True}))
        assert got.body == CHUNK + LAST + USAGE + DONE


@pytest.mark.parametrize("number", [400, 422])
def test_a_refusal_is_asked_once_more_without_and_remembered(number):
    @play(model("a", params=ALWAYS), model("b", weight=0))
    async def _(scene: Scene) -> None:
        refuses = status(number, message="include_usage: extra inputs are not permitted")
        scene.script(a=[refuses, GOOD_STREAM, GOOD_STREAM])
        asked = request(stream=True)
        got = await scene.ask(asked)
        await scene.ask(request(stream=True))
        assert (got.status, got.body, got.by, got.attempts) == (200, PLAIN, "a", 1)
        assert wishes(scene) == [True, False, False]
        assert (scene.counts("a"), scene.asked("b")) == ({"success": 2}, 0)
        assert [(attempt.outcome, attempt.status) for attempt in asked.trail.attempts] == [("success", 200)]


def test_another_configuration_asks_again():
    @play(model("a", params=ALWAYS))
    async def _(scene: Scene) -> None:
        scene.script(a=[REFUSES, GOOD_STREAM])
        await scene.ask(request(stream=True))
        fresh = Scene(model("a", params=ALWAYS))
        assert not scene.board.asks_usage(scene["a"])
        assert scene.board.asks_usage(fresh["a"])


def test_an_error_that_only_quotes_the_request_is_not_taken_for_a_refusal():
    """It is asked twice, as nobody can tell, but the next request is asked for its usage again."""

    @play(model("a", params=ALWAYS))
    async def _(scene: Scene) -> None:
        quotes = status(422, message="messages missing in (stream_options: (include_usage: true))")
        scene.script(a=[quotes, status(422), GOOD_STREAM])
        assert (await scene.ask(request(stream=True))).status == 422
        await scene.ask(request(stream=True))
        assert wishes(scene) == [True, False, True]
        assert scene.counts("a") == {"rejected": 1, "success": 1}


@pytest.mark.parametrize("other", [status(400), status(500, message="stream_options"), status(429)])
def test_other_errors_are_no_refusal(other):
    @play(model("a", params=ALWAYS), num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=other)
        await scene.ask(request(stream=True))
        assert wishes(scene) == [True]


def test_a_refusal_of_what_the_client_asks_for_itself_is_passed_on():
    @play(model("a", params=ALWAYS))
    async def _(scene: Scene) -> None:
        scene.script(a=REFUSES)
        got = await scene.ask(request(stream=True, stream_options={"include_usage": True}))
        assert (got.status, scene.asked("a")) == (400, 1)


@pytest.mark.parametrize("then", [fails(ConnectionReset()), status(500), Says(head_after_s=NEVER)])
def test_trouble_after_a_refusal_goes_on_to_the_next_endpoint(then):
    @play(model("a", params=ALWAYS), model("b", weight=0))
    async def _(scene: Scene) -> None:
        scene.script(a=[REFUSES, then], b=GOOD_STREAM)
        got = await scene.ask(request(stream=True))
        assert (got.by, got.status, got.body, got.attempts) == ("b", 200, PLAIN, 2)
        assert scene.counts("a") == {"failure": 1}
        assert scene.board.asks_usage(scene["a"])


def test_the_first_refusal_is_not_shown_when_the_second_request_gets_no_answer():
    @play(model("a", params=ALWAYS), num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=[REFUSES, fails(ConnectionReset())])
        got = await scene.ask(request(stream=True))
        assert (got.status, got.code) == (502, "upstream_error")
