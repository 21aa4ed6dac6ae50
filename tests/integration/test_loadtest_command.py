"""manage.py loadtest against scripted upstreams: what it sends, and how it judges answers."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from llmproxy_site.loadtest.sender import Sender
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.scripted import ScriptedUpstream

ANSWER = b'{"object": "chat.completion", "choices": []}'
GOOD = b.body(200, ANSWER)
CHUNK = b'data: {"object": "chat.completion.chunk", "choices": []}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    with LoopThread() as running:
        yield running


@pytest.fixture
def upstream(thread: LoopThread) -> Iterator[ScriptedUpstream]:
    async def start() -> ScriptedUpstream:
        fresh = ScriptedUpstream(GOOD)
        await fresh.start()
        return fresh

    started = thread.run(start)
    yield started
    thread.run(started.stop)


def loadtest(upstream: ScriptedUpstream, *options: str, requests: int = 20) -> dict[str, Any]:
    out = io.StringIO()
    call = ["loadtest", upstream.url, "--model", "m", "--connections", "4", "--json", *options]
    if "--seconds" not in options:
        call += ["--requests", str(requests)]
    call_command(*call, stdout=out)
    return json.loads(out.getvalue())


def test_so_many_requests_are_sent_and_one_before(upstream):
    told = loadtest(upstream)
    assert (told["requests"], told["succeeded"], told["failed"]) == (20, 20, 0)
    assert told["statuses"] == {"200": 20}
    assert told["body_bytes"] == 20 * len(ANSWER)
    assert told["requests_per_s"] > 0 and told["latency_ms"]["p50"] > 0
    assert len(upstream.requests) == 21


def test_every_request_differs_from_the_others(upstream):
    loadtest(upstream)
    assert len({one.body for one in upstream.requests}) == 21
    assert {one.json["model"] for one in upstream.requests} == {"m"}


def test_the_key_goes_upstream_and_may_come_from_a_variable(upstream, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-from-variable")
    loadtest(upstream, "--key", "os.environ/SOME_KEY")
    assert {one.header("authorization") for one in upstream.requests} == {"Bearer sk-from-variable"}


def test_a_variable_that_is_not_set_is_told(upstream):
    with pytest.raises(CommandError, match="SURELY_NOT_SET is not set"):
        loadtest(upstream, "--key", "os.environ/SURELY_NOT_SET")
    assert not upstream.requests


def test_no_more_than_the_wanted_connections_are_open(upstream):
    upstream.always = b.body(200, ANSWER, delay=0.01)
    loadtest(upstream)
    assert upstream.most_in_flight == 4
    assert upstream.connections_made <= 5


@pytest.mark.parametrize(
    ("behaviour", "trouble"),
    [
        (b.status(503), "status 503"),
        (b.error_inside_200, "error in a 200 answer"),
        (b.html, "no JSON"),
        (b.cut_short, "broken answer"),
    ],
)
def test_a_bad_answer_is_counted_as_what_it_is(upstream, behaviour, trouble):
    upstream.then(GOOD, GOOD, behaviour, behaviour)
    told = loadtest(upstream)
    assert told["errors"] == {trouble: 2}
    assert (told["requests"], told["succeeded"]) == (20, 18)


STREAM = b.stream(CHUNK, CHUNK, DONE)


def test_streams_are_measured_by_event(upstream):
    upstream.always = STREAM
    told = loadtest(upstream, "--stream")
    assert (told["succeeded"], told["events"]) == (20, 40)
    assert 0 < told["first_event_ms"]["p50"] <= told["latency_ms"]["max"]
    assert all(one.stream for one in upstream.requests)


@pytest.mark.parametrize(
    ("behaviour", "trouble"),
    [
        (b.stream(CHUNK), "stream without [DONE] at its end"),
        (b.stream(CHUNK, DONE, CHUNK), "stream without [DONE] at its end"),
        (b.stream(CHUNK, DONE, b"data: more"), "stream without [DONE] at its end"),
        (b.stream(CHUNK, b.ERROR_EVENT), "error in the stream"),
        (b.only_done, "stream without an event"),
        (b.no_events, "stream without an event"),
        (b.stream(CHUNK, end="reset"), "broken answer"),
    ],
)
def test_a_bad_stream_is_counted_as_what_it_is(upstream, behaviour, trouble):
    upstream.always = STREAM
    upstream.then(STREAM, behaviour)
    told = loadtest(upstream, "--stream")
    assert (told["errors"], told["succeeded"]) == ({trouble: 1}, 19)


def test_a_rate_is_kept(upstream):
    told = loadtest(upstream, "--rate", "20", requests=10)
    assert told["elapsed_s"] >= 0.45
    assert told["requests"] == 10


def test_a_time_ends_it(upstream):
    told = loadtest(upstream, "--seconds", "0.2")
    assert told["requests"] == len(upstream.requests) - 1 > 0
    assert told["elapsed_s"] >= 0.2


def test_nothing_but_errors_is_a_failure(upstream, capsys):
    upstream.always = b.status(500)
    with pytest.raises(CommandError, match="Not one request"):
        call_command("loadtest", upstream.url, "--model", "m", "--requests", "3")
    assert "status 500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("behaviour", "remedy"),
    [
        (b.status(401), "--key"),
        (b.status(404), "--model"),
        (b.html, "OpenAI-compatible"),
        (b.reset_before_head, "Is the server running"),
    ],
)
def test_what_the_first_request_shows_to_be_hopeless_is_not_begun(upstream, behaviour, remedy):
    upstream.always = behaviour
    with pytest.raises(CommandError, match=remedy):
        loadtest(upstream)
    assert len(upstream.requests) == 1


def test_a_server_that_is_not_there_is_told(upstream):
    with pytest.raises(CommandError, match=r"connection refused\. Is the server running"):
        call_command("loadtest", "http://127.0.0.1:1/v1", "--model", "m")


def test_ctrl_c_shows_what_was_measured(upstream, monkeypatch, capsys):
    ask = Sender._ask

    async def interrupted(sender: Sender, number: int) -> Any:
        if number == 8:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(10)
        return await ask(sender, number)

    monkeypatch.setattr(Sender, "_ask", interrupted)
    with pytest.raises(SystemExit) as ended:
        call_command("loadtest", upstream.url, "--model", "m", "--connections", "1", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["stopped"], told["requests"]) == (130, True, 7)


class Asked(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "message"), [(None, "Add --yes"), ("n\n", "Nothing was sent"), ("", "Nothing was")])
def test_a_url_elsewhere_needs_leave(monkeypatch, answer, message):
    monkeypatch.setattr(sys, "stdin", io.StringIO() if answer is None else Asked(answer))
    with pytest.raises(CommandError, match=message):
        call_command("loadtest", "http://llm.invalid/v1", "--model", "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--connections", "0"], "a whole number from 1 to 1,000"),
        (["--connections", "1001"], "a whole number from 1 to 1,000"),
        (["--requests", "1e3"], "a whole number from 1 to 1,000,000"),
        (["--seconds", "nan"], "a number from 0.1 to 3,600"),
        (["--rate", "inf"], "a number from 0.01 to 100,000"),
        (["--requests", "5", "--seconds", "5"], "not allowed with"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(CommandError, match=message):
        call_command("loadtest", "http://127.0.0.1:1/v1", "--model", "m", *options)


@pytest.mark.parametrize("url", ["127.0.0.1:4243", "ftp://127.0.0.1"])
def test_what_is_no_url_is_told_with_one_that_is(url):
    with pytest.raises(CommandError, match="Write a URL like http://"):
        call_command("loadtest", url, "--model", "m")
