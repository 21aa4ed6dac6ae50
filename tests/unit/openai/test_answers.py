"""Heads of answers and the shape of errors."""

import json

import pytest

from routing.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NoEndpoint,
    NotFound,
    NotJson,
    Overloaded,
    RateLimited,
    Refusal,
    TooLarge,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamTimedOut,
)
from routing.openai.answers import content_type, error_body, error_headers, passed_on

STATUSES = {
    BadRequest: 400, Forbidden: 403, NotFound: 404, TooLarge: 413, NotJson: 415, RateLimited: 429, UpstreamFailed: 502,
    UpstreamAuthFailed: 502, NoEndpoint: 503, UpstreamTimedOut: 504,
}  # fmt: skip
CODES = {
    Forbidden: "forbidden_origin", NotJson: "unsupported_media_type", TooLarge: "request_too_large", RateLimited: "rate_limit_exceeded",
    UpstreamFailed: "upstream_error", UpstreamAuthFailed: "upstream_auth_failed", NoEndpoint: "no_endpoint_available",
    UpstreamTimedOut: "upstream_timeout",
}  # fmt: skip


@pytest.mark.parametrize("kind", STATUSES)
def test_the_shape_of_errors(kind):
    refusal: Refusal = kind("What to do.", param="p")
    error = json.loads(error_body(refusal))["error"]
    assert (refusal.status, set(error)) == (STATUSES[kind], {"message", "type", "param", "code"})
    assert (error["message"], error["param"], error["code"]) == ("What to do.", "p", CODES.get(kind))


def test_overload_says_when_to_come_back():
    refusal = Overloaded("x")
    assert (refusal.status, refusal.code) == (503, "overloaded")
    assert dict(error_headers(refusal))[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, b"1"), (-5.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.1, b"2"), (59.5, b"60")]
)
def test_retry_after_is_in_whole_seconds_and_never_too_early(seconds, header):
    assert dict(error_headers(NoEndpoint("x", retry_after_s=seconds)))[b"retry-after"] == header


def test_a_wrong_method_names_the_right_ones():
    headers = dict(error_headers(MethodNotAllowed("PUT", ("DELETE", "GET"))))
    assert headers[b"allow"] == b"DELETE, GET"


def test_only_errors_after_an_attempt_forbid_a_retry():
    refusal = UpstreamFailed("x")
    assert b"x-should-retry" not in dict(error_headers(refusal))
    refusal.after_attempt = True
    assert dict(error_headers(refusal))[b"x-should-retry"] == b"false"


def test_which_upstream_headers_clients_see():
    upstream = [
        (b"openai-processing-ms", b"5"), (b"openai-version", b"v"), (b"x-ratelimit-remaining-tokens", b"9"),
        (b"retry-after", b"3"), (b"retry-after-ms", b"3000"), (b"x-request-id", b"up-1"), (b"set-cookie", b"a=b"),
        (b"server", b"nginx"), (b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"content-length", b"9"),
        (b"content-encoding", b"identity"), (b"x-powered-by", b"x"), (b"strict-transport-security", b"x"),
        (b"access-control-allow-origin", b"*"), (b"x-llmproxy-endpoint", b"forged"), (b"keep-alive", b"x"),
    ]  # fmt: skip
    assert passed_on(upstream) == [*upstream[:5], (b"x-llmproxy-upstream-request-id", b"up-1")]


def test_the_content_type_is_the_upstreams():
    assert content_type([(b"server", b"x"), (b"content-type", b"text/plain")]) == (b"content-type", b"text/plain")
    assert content_type([]) == (b"content-type", b"application/json")
