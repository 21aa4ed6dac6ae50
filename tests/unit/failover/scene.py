"""One worker's failover with upstreams in memory and a clock that jumps."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from routing.attempt import Attempt
from routing.balancing.board import HealthBoard
from routing.balancing.health import Availability
from routing.balancing.rotation import Rotation
from routing.config.table import Endpoint
from routing.course import Course
from routing.errors import Refusal
from routing.failover import Failover
from routing.openai.request import LLMRequest, parse_request
from routing.openai.routes import CHAT, RESPONSES, Route
from routing.plans import AskingPlan, BalancedPlan, PinnedPlan, Plan
from stats.recorder import Recorder
from tests.unit.memory_upstream import MemoryUpstream, Says
from tests.unit.tables import model, table_of
from tests.unit.virtual_time import run

JSON, STREAM = False, True


class NoStore:
    async def run(self, *commands: Any, timeout_s: float | None = None) -> list[Any]:
        raise ConnectionError

    def ask(self, *words: Any) -> asyncio.Future[Any]:
        raise AssertionError("the cache is off")


def request(*, stream: bool = False, route: Route = CHAT, **fields: Any) -> LLMRequest:
    return parse_request(route, json.dumps({"model": "m", "stream": stream} | fields).encode())


def response(**fields: Any) -> LLMRequest:
    return request(route=RESPONSES, **fields)


@dataclass
class Got:
    """How a request ended."""

    course: Course
    attempt: Attempt | None = None
    refusal: Refusal | None = None
    body: bytes = b""
    seconds: float = 0.0

    @property
    def status(self) -> int:
        return self.refusal.status if self.refusal else self.attempt.status if self.attempt else 0

    @property
    def code(self) -> str | None:
        return self.refusal.code if self.refusal else None

    @property
    def by(self) -> str:
        return self.attempt.endpoint.name if self.attempt else ""

    @property
    def attempts(self) -> int:
        return self.course.attempts


class Scene:
    """groups: name -> its endpoints' configurations; "m" is what requests ask for."""

    def __init__(self, *models: dict[str, Any], seed: int = 1, group: dict[str, Any] | None = None,
                 others: tuple[dict[str, Any], ...] = (), **general: Any) -> None:  # fmt: skip
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.table = table_of(
            {"model_group": "m", "models": list(models)} | (group or {}), *others, **{"cache": False} | general
        )
        self.board = HealthBoard(loop.time)
        self.recorder = Recorder(NoStore())
        self.rng = random.Random(seed)
        self.upstreams: dict[str, MemoryUpstream] = {e.name: MemoryUpstream() for e in self.table.endpoints.values()}
        self.order: list[str] = []
        self.failover = Failover(self.board, self._upstream_of, self.recorder, self.rng)
        self.rotations = {name: Rotation(g, self.board, self.rng) for name, g in self.table.groups.items()}

    def _upstream_of(self, endpoint: Endpoint) -> MemoryUpstream:
        self.order.append(endpoint.name)
        return self.upstreams[endpoint.name]

    def __getitem__(self, name: str) -> Endpoint:
        return next(endpoint for endpoint in self.table.endpoints.values() if endpoint.name == name)

    def script(self, **says: Says | list[Says]) -> None:
        """What endpoints answer: one thing always, or a list first."""
        for name, answer in says.items():
            if isinstance(answer, list):
                self.upstreams[name].script = answer
            else:
                self.upstreams[name].always = answer

    def balanced(self) -> Plan:
        return BalancedPlan([self.rotations[name] for name in self.table.groups["m"].chain], self.board)

    def pinned(self, name: str) -> Plan:
        return PinnedPlan(self[name], self.table.groups["m"].endpoints, self.board)

    def asking(self) -> Plan:
        return AskingPlan(self.table.groups["m"].endpoints, self.board)

    def course(self, asked: LLMRequest | None = None, plan: Plan | None = None) -> Course:
        return Course(asked or request(), self.table, self.table.groups["m"], plan or self.balanced())

    async def ask(self, asked: LLMRequest | None = None, plan: Plan | None = None) -> Got:
        """One request from its begin to its last byte."""
        got, began = Got(self.course(asked, plan)), self.clock()
        try:
            with await self.failover.first_good(got.course) as attempt:
                got.attempt = attempt
                pieces = [attempt.body]
                while attempt.relay is not None and (piece := await attempt.piece()) is not None:
                    pieces.append(piece)
                got.body = b"".join(pieces)
        except Refusal as refusal:
            got.refusal = refusal
        got.seconds = self.clock() - began
        return got

    def state(self, name: str) -> Availability:
        return self.board.of(self[name]).availability(self.clock())

    def cooled(self) -> list[str]:
        return [e.name for e in self.table.endpoints.values() if self.board.of(e).cooled()]

    def asked(self, name: str) -> int:
        return len(self.upstreams[name].asked)

    def counts(self, name: str) -> dict[str, int]:
        """Outcomes counted for the endpoint."""
        counts = self.recorder.own().endpoint(self[name].id)
        outcomes = {outcome: getattr(counts, outcome) for outcome in ("success", "failure", "rejected", "cancelled")}
        return {outcome: count for outcome, count in outcomes.items() if count}

    def nothing_held(self) -> bool:
        """All leases ended, all replies closed."""
        replies = [asked.reply for upstream in self.upstreams.values() for asked in upstream.asked if asked.reply]
        idle = all(self.board.of(e).in_flight == 0 == self.board.of(e).probing for e in self.table.endpoints.values())
        return idle and all(reply.closed for reply in replies)


def play(*args: Any, **options: Any) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    """Runs the scenario at once, with a Scene of these arguments; whatever happened, nothing stays held."""

    def now(scenario: Callable[[Scene], Awaitable[None]]) -> None:
        async def begin() -> None:
            scene = Scene(*args, **options)
            await scenario(scene)
            assert scene.nothing_held()

        run(begin())

    return now


def three(**options: Any) -> tuple[dict[str, Any], ...]:
    return tuple(model(name, **options) for name in "abc")
