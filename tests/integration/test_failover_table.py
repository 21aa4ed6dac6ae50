"""The decision table row by row: what an upstream's result means for the request and for the endpoint."""

from typing import NamedTuple

import pytest

from tests.fakes import behaviours as b
from tests.fakes.black_hole import BlackHole
from tests.fakes.scripted import Behaviour
from tests.integration.conftest import StartGateway, StartUpstreams


class Row(NamedTuple):
    name: str
    behaviour: Behaviour
    counted: str  # "failed" | "rejected"
    cooled: bool
    both: tuple[bool, ...] = (False, True)  # as JSON, as a stream


ELSEWHERE = [
    Row("reset before the head", b.reset_before_head, "failed", True),
    Row("closed before the head", b.close_before_head, "failed", True),
    Row("reset after half of the request", b.reset_after_half_request, "failed", True),
    Row("reset after the head", b.reset_after_head, "failed", True),
    *(Row(f"status {n}", b.status(n), "failed", True) for n in (408, 500, 502, 503, 504, 529)),
    Row("status 503 without a body", b.body(503, b""), "failed", True),
    Row("429", b.rate_limited("retry-after: 20"), "rejected", True),
    Row("429 for the request's size", b.status(429, message="Request too large for gpt-4o"), "rejected", False),
    Row("401", b.status(401, code="invalid_api_key"), "failed", True),
    Row("403 without a JSON error", b.body(403, b"<html>", kind="text/html"), "failed", True),
    Row("403 with a JSON error", b.status(403, code="unsupported_country"), "rejected", False),
    Row("404 without a JSON error", b.body(404, b"not found", kind="text/plain"), "failed", True),
    Row("404 model_not_found", b.status(404, code="model_not_found"), "failed", True),
    Row("404 DeploymentNotFound", b.status(404, code="DeploymentNotFound"), "failed", True),
    Row("404 with another JSON error", b.status(404, code="something_else"), "rejected", False),
    Row("JSON cut short", b.cut_short, "failed", True, (False,)),
    Row("trailing garbage", b.trailing_garbage, "failed", True, (False,)),
    Row("invalid UTF-8", b.invalid_utf8, "failed", True, (False,)),
    Row("NaN", b.not_a_number, "failed", True, (False,)),
    Row("empty 200", b.empty, "failed", True),
    Row("204", b.no_content, "failed", True),
    Row("HTML", b.html, "failed", True),
    Row("an error in a 200", b.error_inside_200, "failed", True, (False,)),
    Row("redirect", b.redirect, "failed", True),
    Row("gzip", b.gzip_unasked, "failed", True, (False,)),
    Row("malformed status line", b.malformed_status_line, "failed", True),
    Row("not HTTP", b.not_http, "failed", True),
    Row("stream without events", b.no_events, "failed", True, (True,)),
    Row("stream with [DONE] alone", b.only_done, "failed", True, (True,)),
    Row("first event an error", b.first_event_is_an_error, "failed", True, (True,)),
    Row("silence", b.silence, "failed", True),
    Row("silence after the head", b.silence_after_head, "failed", True),
    Row("only comments", b.comments_for_ever(), "failed", True, (True,)),
]


@pytest.mark.parametrize(
    ("row", "stream"),
    [
        pytest.param(row, stream, id=f"{row.name}-{'sse' if stream else 'json'}")
        for row in ELSEWHERE
        for stream in row.both
    ],
)
async def test_goes_to_the_next_endpoint(
    row: Row, stream: bool, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    broken, whole = await upstreams(2)
    broken.always = row.behaviour
    proxy = await gateway(broken, whole, general={"http_timeout": 0.6, "first_event_timeout": 0.6})
    got = await proxy.ask(stream=stream)
    assert (got.verdict, got.headers["x-llmproxy-attempts"], got.headers["x-llmproxy-endpoint"]) == (None, "2", "b")
    assert b.SECRET_TEXT.encode() not in got.body
    state = await proxy.endpoint("a")
    assert (state["total_requests"], state[f"{row.counted}_requests"]) == (1, 1)
    assert (state["status"] == "cooling_down") is row.cooled
    after = await proxy.ask(stream=stream)
    assert (after.verdict, len(broken.requests)) == (None, 1 if row.cooled else len(broken.requests))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_connection_goes_to_the_next_endpoint(
    stream: bool, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    gone, whole = await upstreams(2)
    await gone.stop()
    proxy = await gateway(gone, whole)
    got = await proxy.ask(stream=stream)
    assert (got.verdict, got.headers["x-llmproxy-attempts"]) == (None, "2")
    assert (await proxy.endpoint("a"))["status"] == "cooling_down"


async def test_a_black_hole_costs_one_connect_timeout(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (whole,) = await upstreams(1)
    with BlackHole() as hole:
        proxy = await gateway(hole.url, whole, general={"connect_timeout": 0.3})
        got = await proxy.ask()
    assert got.verdict is None
    assert 0.25 < got.seconds < 0.9


PASSED_ON = [
    *(b.status(number, code="some_code") for number in (400, 409, 413, 415, 422)),
    b.status(400, code="context_length_exceeded"),
    b.status(400, code="content_filter"),
    b.body(422, b"not json", kind="text/plain"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behaviour", PASSED_ON, ids=map(str, range(len(PASSED_ON))))
async def test_the_clients_own_mistake_is_passed_on_after_one_attempt(
    behaviour: Behaviour, stream: bool, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    strict, other = await upstreams(2)
    strict.always = other.always = behaviour
    proxy = await gateway(strict, other)
    got = await proxy.ask(stream=stream)
    assert (len(strict.requests), len(other.requests)) == (1, 0)
    assert got.headers["x-llmproxy-attempts"] == "1"
    state = await proxy.endpoint("a")
    assert (state["status"], state["rejected_requests"], state["consecutive_failures"]) == ("healthy", 1, 0)


async def test_the_upstreams_4xx_reaches_the_client_byte_for_byte(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (strict,) = await upstreams(1)
    content = b'{ "error": {"message":"too long","type":"invalid_request_error","param":"messages","code":"x"} }'
    strict.always = b.body(400, content)
    got = await (await gateway(strict)).ask()
    assert (got.status, got.body, got.headers["content-type"]) == (400, content, "application/json")


async def test_early_hints_are_skipped(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (hinting,) = await upstreams(1)
    hinting.always = b.hints_first
    proxy = await gateway(hinting)
    assert [(await proxy.ask(stream=stream)).verdict for stream in (False, True)] == [None, None]


@pytest.mark.parametrize("behaviour", [b.huge_header(), b.many_headers(), b.bare_lf], ids=["1 MB", "10,000", "bare LF"])
async def test_odd_heads_never_reach_the_client_broken(
    behaviour: Behaviour, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    odd, whole = await upstreams(2)
    odd.always = behaviour
    proxy = await gateway(odd, whole)
    got = await proxy.ask()
    assert got.verdict is None
    assert len(got.headers) < 40


async def test_a_pooled_connection_that_was_closed_costs_no_attempt(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    upstream.always = b.honest_then_closed(delay=0.02)
    proxy = await gateway(upstream, general={"num_retries": 0})
    for _ in range(5):
        got = await proxy.ask()
        assert (got.verdict, got.headers["x-llmproxy-attempts"]) == (None, "1")
    state = await proxy.endpoint("a")
    assert (state["status"], state["failed_requests"], state["total_requests"]) == ("healthy", 0, 5)


async def test_a_connection_reset_upon_reuse_costs_no_attempt(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    """The upstream closes at the moment the request comes: the race that an idle connection always risks."""
    (upstream,) = await upstreams(1)
    proxy = await gateway(upstream, general={"num_retries": 0})
    assert (await proxy.ask()).verdict is None
    upstream.then(b.reset_before_head)
    got = await proxy.ask()
    assert (got.verdict, got.headers["x-llmproxy-attempts"]) == (None, "1")
    assert (await proxy.endpoint("a"))["failed_requests"] == 0
