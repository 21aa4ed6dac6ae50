"""What an upstream's result means, and how long Retry-After asks to wait."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.upstream.classify import Cause, Outcome, of_error, of_status, retry_after
from routing.upstream.errors import (
    AnswerBroken,
    AnswerTooLarge,
    ConnectFailed,
    ConnectionReset,
    PoolFull,
    UpstreamError,
    UpstreamTimeout,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def error(code: object = "x", message: object = "m", **fields: object) -> bytes:
    return json.dumps({"error": {"message": message, "type": "t", "param": None, "code": code} | fields}).encode()


@pytest.mark.parametrize(
    ("kind", "outcome", "cause"),
    [
        (ConnectFailed("connect timeout"), Outcome.FAILURE, Cause.CONNECT),
        (ConnectionReset(), Outcome.FAILURE, Cause.RESET),
        (UpstreamTimeout("head"), Outcome.FAILURE, Cause.TIMEOUT),
        (UpstreamTimeout("idle"), Outcome.FAILURE, Cause.TIMEOUT),
        (UpstreamTimeout("total"), Outcome.FAILURE, Cause.TIMEOUT),
        (AnswerBroken(), Outcome.FAILURE, Cause.STATUS),
        (AnswerTooLarge(), Outcome.FAILURE, Cause.STATUS),
        (PoolFull(), Outcome.UNCOUNTED, Cause.POOL_FULL),
        (UpstreamError(), Outcome.FAILURE, Cause.STATUS),
    ],
)
def test_errors_without_an_answer(kind, outcome, cause):
    verdict = of_error(kind)
    assert (verdict.outcome, verdict.retry, verdict.cause) == (outcome, True, cause)
    assert verdict.error


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 401, 408, 500, 501, 502, 503, 504, 520, 529, 599])
@pytest.mark.parametrize("body", [b"", b"<html>", error(), error("model_not_found")])
def test_statuses_that_count_against_the_endpoint(status, body):
    verdict = of_status(status, [], body)
    assert (verdict.outcome, verdict.retry, verdict.cause) == (Outcome.FAILURE, True, Cause.STATUS)
    assert verdict.error == f"status {status}"


@pytest.mark.parametrize(
    "status", [400, 402, 405, 406, 409, 410, 411, 413, 414, 415, 418, 421, 422, 423, 424, 425, 431, 451]
)
@pytest.mark.parametrize("body", [b"", b"<html>", error(), error("context_length_exceeded"), error("content_filter")])
def test_statuses_that_are_the_requests_own(status, body):
    verdict = of_status(status, [], body)
    assert (verdict.outcome, verdict.retry, verdict.cause) == (Outcome.REJECTED, False, Cause.REQUEST)


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", Outcome.FAILURE),
        (b"<html>", Outcome.FAILURE),
        (b"{}", Outcome.FAILURE),
        (b'{"detail":"Not Found"}', Outcome.FAILURE),
        (b"[1]", Outcome.FAILURE),
        (b"[" * 100_000, Outcome.FAILURE),
        (error("model_not_found"), Outcome.FAILURE),
        (error("DeploymentNotFound"), Outcome.FAILURE),
        (error(None, type="model_not_found"), Outcome.FAILURE),
        (error("unsupported_country"), Outcome.REJECTED),
        (error(None), Outcome.REJECTED),
        (error(404), Outcome.REJECTED),
        (error(None, None), Outcome.REJECTED),
        (b'{"error":"nope"}', Outcome.REJECTED),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_403_and_404_by_what_they_say(status, body, outcome):
    verdict = of_status(status, [], body)
    assert (verdict.outcome, verdict.retry) == (outcome, True)


def test_a_rate_limit_cools_for_as_long_as_it_says():
    verdict = of_status(429, [(b"retry-after", b"7")], error("rate_limit_exceeded"))
    assert (verdict.outcome, verdict.retry, verdict.cause) == (Outcome.REJECTED, True, Cause.RATE_LIMIT)
    assert (verdict.cools_s, verdict.retry_after_s) == (7, 7)


@pytest.mark.parametrize("body", [b"", b"<html>", error(), error("insufficient_quota"), b"[" * 100_000])
def test_a_rate_limit_that_says_nothing_leaves_it_to_the_configuration(body):
    verdict = of_status(429, [], body)
    assert (verdict.cause, verdict.cools_s) == (Cause.RATE_LIMIT, None)


@pytest.mark.parametrize(
    "message",
    [
        "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 45002. The "
        "input or output tokens must be reduced in order to run successfully.",
        "Request too large",
        "Limit 100, Requested 200",
        "limit: 100 / min. Current: 0, requested: 101.",
        "Please reduce the length of the messages.",
    ],
)
def test_a_429_that_blames_the_requests_size_is_the_requests_own(message):
    verdict = of_status(429, [(b"retry-after", b"7")], error("rate_limit_exceeded", message))
    assert (verdict.outcome, verdict.retry, verdict.cause) == (Outcome.REJECTED, True, Cause.REQUEST)
    assert (verdict.cools_s, verdict.retry_after_s) == (None, None)


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000, Requested "
        "2000. Please try again in 2s.",
        "Rate limit reached for requests",
        "You exceeded your current quota, please check your plan and billing details.",
        "Limit 200, Requested 200",
    ],
)
def test_a_429_that_passes_by_waiting_is_a_rate_limit(message):
    assert of_status(429, [], error("rate_limit_exceeded", message)).cause is Cause.RATE_LIMIT


@pytest.mark.parametrize("code", ["previous_response_not_found", "invalid_encrypted_content"])
def test_an_unknown_id_is_no_failure(code):
    verdict = of_status(400, [], error(code))
    assert (verdict.outcome, verdict.cause) == (Outcome.REJECTED, Cause.UNKNOWN_ID)


def test_what_is_kept_for_operators_is_never_the_upstreams_text():
    for status in (400, 401, 403, 404, 429, 500, 503):
        assert "secret" not in of_status(status, [(b"retry-after", b"secret")], error("secret", "secret")).error


WAITS = {
    b"7": 7, b"7.5": 7.5, b" 7 ": 7, b"1": 1, b"0": 1, b"-1": 1, b"-1e9": 1, b"0.2": 1, b"300": 300, b"301": 300,
    b"1e9": 300, b"inf": 300, b"Infinity": 300, b"-inf": 1, b"9" * 400: 300, b"nan": None, b"": None, b"soon": None,
    b"7 seconds": None, b"0x10": None, b"\xff": None, b"7,8": None, b"Mon": None, b"99/99/9999": None,
}  # fmt: skip


@pytest.mark.parametrize(("value", "seconds"), WAITS.items(), ids=lambda value: repr(value)[:20])
def test_retry_after_in_seconds(value, seconds):
    assert retry_after([(b"retry-after", value)], NOW) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"2500", 2.5), (b"1000", 1), (b"500", 1), (b"0", 1), (b"-5", 1), (b"1e9", 300), (b"inf", 300), (b"nan", 9),
     (b"soon", 9), (b"", 9)],
)  # fmt: skip
def test_retry_after_in_milliseconds_comes_first_unless_it_is_nonsense(value, seconds):
    assert retry_after([(b"retry-after-ms", value), (b"retry-after", b"9")], NOW) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(20, 20), (0, 1), (-3600, 1), (1, 1), (299, 299), (86_400, 300)])
def test_retry_after_as_a_date(ahead, seconds):
    date = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True).encode()
    assert retry_after([(b"retry-after", date)], NOW) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (b"Sunday, 01-Mar-26 12:00:30 GMT", 30),
        (b"Sun Mar  1 12:00:30 2026", 30),
        (b"Sun, 01 Mar 2026 13:00:30 +0100", 30),
        (b"Sun, 01 Mar 2026 12:00:30 -0000", 30),
        (b"Sun, 01 Mar 2026 25:00:30 GMT", None),
        (b"Sun, 99 Mar 2026 12:00:30 GMT", None),
        (b"Sun, 01 Mar 99999999999 12:00:30 GMT", None),
        (b"Sun, 01 Mar 2026 12:00:30 +9999", None),
    ],
)
def test_odd_dates(date, seconds):
    assert retry_after([(b"retry-after", date)], NOW) == seconds


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_retry_after_is_none_or_within_bounds(value, milliseconds):
    seconds = retry_after([(b"retry-after", value), (b"retry-after-ms", milliseconds)], NOW)
    assert seconds is None or 1 <= seconds <= 300


def test_without_the_header_there_is_none():
    assert retry_after([]) is None


@given(st.integers(300, 599), st.binary(max_size=200))
def test_no_body_makes_it_fail(status, body):
    verdict = of_status(status, [], b'{"error":' + body)
    assert verdict.error.startswith(f"status {status}")
