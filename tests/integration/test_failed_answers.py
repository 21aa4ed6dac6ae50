"""What the client sees when every attempt failed: the last answer or an error of ours, and no invitation to retry."""

import pytest

from tests.fakes import behaviours as b
from tests.fakes.load import Got
from tests.fakes.scripted import Behaviour
from tests.integration.conftest import StartGateway, StartUpstreams


async def failed(behaviour: Behaviour, upstreams: StartUpstreams, gateway: StartGateway, **general: object) -> Got:
    (upstream,) = await upstreams(1)
    upstream.always = behaviour
    return await (await gateway(upstream, general={"num_retries": 0} | general)).ask()


async def test_the_last_upstream_answer(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    first, last = await upstreams(2)
    first.always, last.always = b.status(500, message="one"), b.status(502, message="two")
    got = await (await gateway(first, last, general={"num_retries": 1})).ask()
    assert (got.status, got.json["error"]["message"]) == (502, "two")
    assert got.headers["x-should-retry"] == "false"
    assert got.headers["x-llmproxy-attempts"] == "2"


async def test_known_secrets_are_struck_out(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    got = await failed(b.status(500, message="your key sk-key-of-a is bad"), upstreams, gateway)
    assert got.status == 500
    assert b"sk-key-of-a" not in got.body


async def test_no_answer_at_all_is_502(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    got = await failed(b.reset_before_head, upstreams, gateway)
    assert (got.status, got.error["code"], got.headers["x-should-retry"]) == (502, "upstream_error", "false")
    assert b"127.0.0.1" not in got.body


async def test_an_error_of_ours_tells_the_attempts(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    got = await failed(b.reset_before_head, upstreams, gateway)
    assert (got.headers["x-llmproxy-attempts"], got.headers["x-llmproxy-cache"]) == ("1", "bypass")


@pytest.mark.parametrize("unusable", [b.empty, b.html, b.redirect, b.cut_short, b.trailing_garbage, b.error_inside_200])
async def test_an_unusable_success_is_502(
    unusable: Behaviour, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    got = await failed(unusable, upstreams, gateway)
    assert (got.status, got.error["code"], got.headers["x-should-retry"]) == (502, "upstream_error", "false")
    assert b.SECRET_TEXT.encode() not in got.body


async def test_a_late_answer_is_504(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    got = await failed(b.silence, upstreams, gateway, http_timeout=0.4)
    assert (got.status, got.error["code"], got.headers["x-should-retry"]) == (504, "upstream_timeout", "false")
    assert 0.3 < got.seconds < 1.5


@pytest.mark.parametrize("status", [401, 403])
async def test_the_endpoints_own_credentials_are_not_the_clients_affair(
    status: int, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    got = await failed(b.status(status, message=b.SECRET_TEXT), upstreams, gateway)
    assert (got.status, got.error["code"]) == (502, "upstream_auth_failed")
    assert b.SECRET_TEXT.encode() not in got.body


async def test_rate_limits_everywhere_are_429_with_the_earliest_retry_after(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    first.always, second.always = b.rate_limited("retry-after: 40"), b.rate_limited("retry-after: 20")
    proxy = await gateway(first, second)
    assert (await proxy.ask()).status == 429
    got = await proxy.ask()
    assert (got.status, got.error["code"]) == (429, "rate_limit_exceeded")
    assert 18 <= int(got.headers["retry-after"]) <= 20
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_nothing_available_is_503_at_once(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    """Without weights and without health: a group whose endpoints are all switched off."""
    (upstream,) = await upstreams(1)
    got = await (await gateway(upstream, endpoints={"enabled": False})).ask()
    assert (got.status, got.error["code"]) == (503, "no_endpoint_available")
    assert int(got.headers["retry-after"]) >= 1
    assert got.seconds < 0.2
    assert "x-should-retry" not in got.headers


async def test_the_last_candidate_of_a_stream_is_not_cut_by_first_event_timeout(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (slow,) = await upstreams(1)
    slow.always = b.honest(delay=1)
    got = await (await gateway(slow, general={"first_event_timeout": 0.3, "idle_timeout": 3})).ask(stream=True)
    assert got.verdict is None
    assert len(slow.requests) == 1
