"""One real, tiny call to an endpoint, to see whether it answers. Counted nowhere, and no news for health or routing.

What it tells is a status, a latency, the model's name and a class of error; never an upstream's text.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from routing.config.table import Endpoint, RoutingTable
from routing.config.wording import shown
from routing.redaction import strike_out
from routing.upstream.answer_facts import read_answer
from routing.upstream.classify import of_error, of_status
from routing.upstream.errors import UpstreamError
from routing.upstream.transport import Limits, Upstream

LONGEST_S = 30.0
_AT_A_TIME = 8
_ASKED = "Answer with the one word: ok"


@dataclass(frozen=True, slots=True)
class Trial:
    """error is empty where the answer was good; status is None where none came."""

    endpoint: str
    operation: str
    status: int | None
    latency_ms: float
    model: str  # as the answer names it
    error: str

    @property
    def ok(self) -> bool:
        return not self.error

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


class _Answered(msgspec.Struct):
    model: Any = None


async def try_all(
    endpoints: Iterable[Endpoint],
    upstream_of: Callable[[Endpoint], Upstream],
    table: RoutingTable,
    tell: Callable[[Trial], None] = lambda trial: None,
    longest_s: float = LONGEST_S,
) -> list[Trial]:
    """All of them, eight at a time. tell: hears of each as soon as it is over."""
    at_a_time = asyncio.Semaphore(_AT_A_TIME)

    async def tried(endpoint: Endpoint) -> Trial:
        async with at_a_time:
            trial = await try_endpoint(endpoint, upstream_of(endpoint), table, longest_s)
        tell(trial)
        return trial

    return list(await asyncio.gather(*(tried(endpoint) for endpoint in endpoints)))


async def try_endpoint(
    endpoint: Endpoint, upstream: Upstream, table: RoutingTable, longest_s: float = LONGEST_S
) -> Trial:
    """Through the endpoint's own carrier, with its own deadlines, but no longer than `longest_s`."""
    operation, body = tiny_request(endpoint.model)
    if endpoint.missing:
        return Trial(endpoint.name, operation, None, 0.0, "", f"misconfigured: {endpoint.trouble}")
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        status, headers, answer = await _asked(endpoint, upstream, operation, body, began + longest_s)
    except UpstreamError as error:
        return Trial(endpoint.name, operation, None, _since(began), "", of_error(error).error)
    took = _since(began)
    if not 200 <= status < 300:
        error_class = of_status(status, headers, answer).error
        return Trial(endpoint.name, operation, status, took, "", error_class)
    facts = read_answer(answer)
    trouble = "invalid JSON" if facts is None else "error in a 200 answer" if facts.is_error else ""
    return Trial(endpoint.name, operation, status, took, _model_of(answer, table), trouble)


async def _asked(
    endpoint: Endpoint, upstream: Upstream, operation: str, body: bytes, latest: float
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    deadline = min(asyncio.get_running_loop().time() + endpoint.timeouts.http_s, latest)
    limits = Limits(endpoint.timeouts.connect_s, deadline, endpoint.max_connections, endpoint.max_answer_bytes)
    reply = await upstream.send(endpoint.target("POST", operation), body, limits)
    try:
        return reply.status, reply.headers, await reply.read()
    finally:
        reply.close()


def tiny_request(model: str) -> tuple[str, bytes]:
    """The operation that suits the model, going by its name, and a body. No limit on tokens: models disagree on its
    name, and some refuse the other one."""
    name = model.lower()
    body: dict[str, Any] = {"model": model, "input": "ok"}
    operation = "embeddings" if "embed" in name else "moderations" if "moderation" in name else "chat/completions"
    if operation == "chat/completions":
        body = {"model": model, "messages": [{"role": "user", "content": _ASKED}]}
    return operation, json.dumps(body).encode()


def _since(began: float) -> float:
    return round((asyncio.get_running_loop().time() - began) * 1000, 1)


def _model_of(answer: bytes, table: RoutingTable) -> str:
    """An upstream may quote anything there, the key that it was sent included."""
    try:
        model = msgspec.json.decode(answer, type=_Answered).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return shown(strike_out(model.encode(), table).decode()) if isinstance(model, str) else ""
