"""Two books of the same events: what clients saw of their requests, and what upstreams did for them.

A gateway's numbers are right when they say the same as both.
"""

import json
from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes import behaviours as b
from tests.fakes.load import Got
from tests.fakes.nonce import heard
from tests.fakes.scripted import Behaviour, RecordedRequest

OUTCOMES = ("success", "failure", "rejected", "cancelled")

# What the upstreams do at the first attempt; the second one goes well.
AGAIN = {
    "again 500": (b.status(500), "failure"),
    "again 503": (b.status(503), "failure"),
    "again 429": (b.rate_limited(), "rejected"),
    # Not before the head: on a connection that was used before, the same request is sent again and no attempt.
    "again reset": (b.reset_after_head, "failure"),
    "again nothing": (b.empty, "failure"),
    "again error": (b.error_inside_200, "failure"),
}
ALWAYS = {
    "refused": (b.status(400), "rejected"),
    "unprocessable": (b.status(422), "rejected"),
    "limited": (b.rate_limited(), "rejected"),
    "unauthorized": (b.status(401), "failure"),
    "down": (b.status(500), "failure"),
    "broken": (b.interrupted(3), "failure"),
    "left before": (b.silence, "cancelled"),
    "left amid": (b.interrupted(3, "silence"), "cancelled"),
}
FINE = (b.honest(), "success")
SLOW = (b.honest(delay=0.1), "success")


class Upstreams:
    """The book of all upstreams. A request's `user` says what is to be done with it."""

    def __init__(self) -> None:
        self.book: Counter[str] = Counter()  # by "endpoint outcome" and "endpoint input" or "output" tokens
        self.asked: Counter[str] = Counter()  # by nonce

    def answering(self, endpoint: str, request: RecordedRequest) -> Behaviour:
        """For `ScriptedUpstream.always`."""
        nonce, size = heard(request.body)
        asked = request.json
        self.asked[nonce] += 1
        behaviour, outcome = _plan(asked["user"], self.asked[nonce])
        self.book[f"{endpoint} {outcome}"] += 1
        if outcome == "success":
            told = not request.path.endswith("/chat/completions") or not request.stream
            if told or (asked.get("stream_options") or {}).get("include_usage"):
                self.book[f"{endpoint} input"] += 7
                self.book[f"{endpoint} output"] += 0 if request.path.endswith("/embeddings") else size
        return behaviour


def _plan(kind: str, turn: int) -> tuple[Behaviour, str]:
    if kind in AGAIN and turn == 1:
        return AGAIN[kind]
    if kind == "slow":
        return SLOW
    return ALWAYS.get(kind, FINE)


class Clients:
    """The book of all clients."""

    def __init__(self) -> None:
        self.book: Counter[str] = Counter()  # by outcome, and "hits"
        self.ended: list[tuple[float, int]] = []  # when, by which connection

    def got(self, got: Got, stream: bool) -> str:
        """The outcome of an answer that came to its end."""
        outcome = _outcome(got, stream)
        self.book[outcome] += 1
        if outcome == "success" and got.headers["x-llmproxy-cache"] == "hit":
            self.book["hits"] += 1
        return outcome

    def left(self) -> None:
        self.book["cancelled"] += 1

    @property
    def total(self) -> int:
        return sum(self.book[outcome] for outcome in OUTCOMES)


def _outcome(got: Got, stream: bool) -> str:
    if got.status >= 500:
        return "failure"
    if got.status >= 400:
        return "rejected"
    assert got.status == 200, got
    if not stream:
        assert "error" not in got.json or got.json["error"] is None
        return "success"
    if b"upstream_stream_interrupted" in got.body:
        return "failure"
    assert got.data[-1] == "[DONE]" or json.loads(got.data[-1])["type"] == "response.completed", got.data[-1]
    return "success"


# -- the gateway's own books, in the same words


def of_stats(told: dict[str, Any]) -> Counter[str]:
    """`/stats`."""
    requests = told["requests"]
    names = dict(zip(OUTCOMES, ("succeeded", "failed", "rejected", "cancelled"), strict=True))
    book = Counter({ours: requests[theirs] for ours, theirs in names.items()})
    assert requests["total"] == sum(book.values()), requests
    book["hits"] = requests["cache_hits"]
    for endpoint in (one for group in told["model_groups"].values() for one in group):
        state = endpoint["state"]
        attempts = [state[f"{name}_requests"] for name in ("successful", "failed", "rejected", "cancelled")]
        assert state["total_requests"] == sum(attempts), state
        for name, value in zip(OUTCOMES, attempts, strict=True):
            book[f"{endpoint['name']} {name}"] = value
        for name, value in state["tokens"].items():
            book[f"{endpoint['name']} {name}"] = value
    return +book


def of_metrics(text: str) -> Counter[str]:
    """`/metrics`, which tells a request's status but not its outcome: all of them are "requests"."""
    book: Counter[str] = Counter()
    for sample in (one for family in text_string_to_metric_families(text) for one in family.samples):
        labels, value = sample.labels, int(sample.value)
        if sample.name == "llmproxy_requests_total":
            book.update({"requests": value, "hits": value if labels["cache"] == "hit" else 0})
        elif sample.name == "llmproxy_upstream_attempts_total":
            book[f"{labels['endpoint']} {labels['outcome']}"] += value
        elif sample.name == "llmproxy_tokens_total" and labels["direction"] in ("input", "output"):
            book[f"{labels['endpoint']} {labels['direction']}"] += value
    return +book
