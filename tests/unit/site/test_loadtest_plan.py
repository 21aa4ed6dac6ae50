import json

import pytest

from llmproxy_site.loadtest.plan import Plan, PlanProblem, is_loopback, target_of


def plan(url: str = "http://127.0.0.1:4243/v1", **changes) -> Plan:
    usual = {"model": "m", "stream": False, "connections": 8, "requests": 1000, "seconds": None, "rate": None}
    return Plan(target_of(url, "m", None), **usual | changes)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:4243", "/v1/chat/completions"),
        ("http://127.0.0.1:4243/v1/", "/v1/chat/completions"),
        ("http://127.0.0.1:4243/v1/chat/completions", "/v1/chat/completions"),
        ("https://generative.example/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("https://east.openai.azure.com", "/openai/v1/chat/completions"),
    ],
)
def test_a_url_is_read_as_clients_are_given_it(url, path):
    assert target_of(url, "m", None).path == path


def test_the_key_goes_into_the_right_header():
    assert (b"authorization", b"Bearer sk-1") in target_of("http://127.0.0.1:1/v1", "m", "sk-1").headers
    assert (b"api-key", b"sk-1") in target_of("https://east.openai.azure.com", "m", "sk-1").headers


@pytest.mark.parametrize("url", ["127.0.0.1:4243", "ftp://127.0.0.1/v1", "http://", "http://host:99999/v1", ""])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(PlanProblem, match="the URL"):
        target_of(url, "m", None)


def test_a_key_that_breaks_a_header_is_refused_and_not_shown():
    with pytest.raises(PlanProblem, match="the key") as refused:
        target_of("http://127.0.0.1:1", "m", "sk-secret\r\nx: y")
    assert "sk-secret" not in str(refused.value)


def test_no_two_bodies_are_equal():
    first, second, other_run = plan().body("a", 1), plan().body("a", 2), plan().body("b", 1)
    assert len({first, second, other_run}) == 3
    assert json.loads(first)["model"] == "m" and "stream" not in json.loads(first)


def test_a_stream_is_asked_for():
    assert json.loads(plan(stream=True).body("a", 1))["stream"] is True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "1,000 requests"),
        ({"stream": True}, "1,000 streams"),
        ({"requests": None, "seconds": 10.0}, "as many requests as are answered, for 10 s"),
        ({"requests": None, "seconds": 10.0, "rate": 50.0}, "up to 50 requests a second, for 10 s"),
    ],
)
def test_what_will_be_sent_in_words(changes, words):
    assert plan(**changes).amount == words


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("LOCALHOST.", True),
     ("10.0.0.1", False), ("api.openai.com", False), ("localhost.example", False)],
)  # fmt: skip
def test_this_machine_is_known(host, here):
    assert is_loopback(host) is here
