"""What is asked of the servers, and for how long."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal

# hit to miss: with the cache on. books: with book-keeping and without it, in turns.
Kind = Literal["json", "paced", "burst", "hit", "stored", "replay", "miss", "books"]
Shape = Literal["json", "paced", "burst"]

GATEWAY, EMPTY, PROXY, NGINX, MOCK = "LLMProxy", "empty app", "bare proxy", "nginx", "no proxy"  # the servers
UNCACHED = "cache off"  # the gateway, asked for a group without it
COUNTED, UNCOUNTED = "book-keeping on", "book-keeping off"  # records, counters, metrics and request log of one gateway

GROUP = "gpt-4o-fast"  # what clients of the gateway ask for; as long as the upstream's own name, so that sizes agree
MODEL = "gpt-4o-mini"
PACED_GROUP = "gpt-4o-slow"
KEPT_GROUP = "gpt-4o-kept"
KEPT_BODIES = 22_000  # that are asked for in turn to be read from the store; a worker's own memory holds 19,500
EVENTS = 100  # of a stream, the first with the role and the last two (finish, [DONE]) included
MOCK_EVENTS = EVENTS - 3
INTERVAL_MS = 5
PATH = "/v1/chat/completions"
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json",
    "authorization": "Bearer sk-bench",
    "user-agent": "bench",
}
CACHED: tuple[Kind, ...] = ("hit", "stored", "replay", "miss")
SHAPES: dict[Kind, Shape] = {  # of the question and the answer
    "json": "json",
    "paced": "paced",
    "burst": "burst",
    "hit": "json",
    "stored": "json",
    "replay": "burst",
    "miss": "json",
    "books": "json",
}
UNITS: dict[Kind, str] = {
    kind: {"json": "request", "paced": "event", "burst": "stream"}[shape] for kind, shape in SHAPES.items()
}


@dataclass(frozen=True)
class Step:
    """One line of the plan: every server in turn, `rounds` times `seconds`."""

    kind: Kind
    connections: int
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A run. starts: how often the gateway is started again, after the first time, to see how long that takes.
    bodies: how many different ones are read from the store."""

    steps: tuple[Step, ...]
    starts: int
    bodies: int = KEPT_BODIES

    def only(self, part: str | None) -> "Plan":
        """A part of it: json, sse, cache or start."""
        if part is None:
            return self
        kinds: dict[str, tuple[Kind, ...]] = {
            "json": ("json", "books"),
            "sse": ("paced", "burst"),
            "cache": CACHED,
            "start": (),
        }
        kept = tuple(step for step in self.steps if step.kind in kinds[part])
        return replace(self, steps=kept, starts=self.starts if part == "start" else 1)


FULL = Plan(
    (
        *(Step("json", connections, rounds, 1.0) for connections, rounds in ((1, 3), (32, 5), (128, 3))),
        Step("books", 32, 9, 1.0),
        *(Step("paced", connections, 3, 1.0) for connections in (1, 32, 128)),
        *(Step("burst", connections, 3, 0.6) for connections in (1, 32, 128)),
        *(Step(kind, 32, 5, 1.0) for kind in CACHED if kind != "miss"),
        Step("miss", 32, 9, 1.0),
    ),
    starts=3,
)
QUICK = Plan(
    (
        *(Step("json", 1, 1, 1.0), Step("json", 32, 3, 1.0), Step("paced", 32, 1, 1.0), Step("burst", 32, 1, 0.6)),
        Step("books", 32, 3, 1.0),
        *(Step(kind, 32, 1, 1.0) for kind in CACHED),
    ),
    starts=1,
)


_NUMBER = b"bench-000000000"


def body(model: str, *, stream: bool) -> bytes:
    """A chat request of about 300 bytes; the mock answers it with about 700. It is number 0."""
    asked = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. Answer in one short sentence."},
            {"role": "user", "content": "Which of the three machines in the hall should be serviced first, and why?"},
        ],
        "temperature": 0.2,
        "max_tokens": 256,
        "user": _NUMBER.decode(),
    }
    return json.dumps(asked | ({"stream": True} if stream else {}), separators=(",", ":")).encode()  # as SDKs write it


def numbered(asked: bytes, number: int) -> bytes:
    """The same request, or its body, with another number, so that its answer is another too."""
    return asked.replace(_NUMBER, b"bench-%09d" % number)


def identity(body: bytes) -> bytes:
    """What the mock makes of a body that it gets, for the `id` of its answer."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest().encode()


def request(host: str, path: str, body: bytes) -> bytes:
    """The whole request as it goes over the wire."""
    fields = {"host": host} | HEADERS | {"content-length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body
