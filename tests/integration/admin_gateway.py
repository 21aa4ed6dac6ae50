"""A gateway for the admin's pages without a server: the test's middleware puts it into every request."""

import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse

from routing.balancing.board import HealthBoard
from routing.config.live import LiveTable
from routing.config.references import resolve
from routing.config.snapshot import load
from routing.config.table import Endpoint, compile_table
from routing.config.watch import Refused
from stats.recorder import Recorder


class MemoryStore:
    """Answers HGETALL with nothing and counts the round trips."""

    def __init__(self) -> None:
        self.trips: list[tuple[Any, ...]] = []

    async def run(self, *commands: tuple[Any, ...]) -> list[Any]:
        self.trips.append(commands)
        return [[] if command[0] == "HGETALL" else 1 for command in commands]


class SaidReply:
    """One whole JSON answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.headers, self._body = status, [], body
        self.deadline, self.idle_timeout_s = 0.0, None
        self.closed = False

    async def read(self) -> bytes:
        return self._body

    def close(self) -> None:
        self.closed = True


class Watch:
    refused: Refused | None = None


class AdminGateway:
    """What `routing.admin.running` asks for, of what is published now."""

    def __init__(self) -> None:
        loaded = load()
        variables: Mapping[str, str] = {"EAST_KEY": "sk-of-east-0123456789"}
        resolution = resolve(loaded.configuration, variables, Path("none"), loaded.stored)
        self.live = LiveTable(compile_table(resolution, loaded.revision))
        self.board = HealthBoard()
        self.store = MemoryStore()
        self.recorder = Recorder(self.store)
        self.revisions = Watch()
        self.answer: bytes | Exception = json.dumps({"object": "chat.completion", "model": "m-2024"}).encode()
        self.status = 200
        self.asked: list[tuple[str, Any]] = []
        self.ended: list[str] = []
        self.emptied: list[str | None] = []

    def endpoint(self, name: str) -> Endpoint:
        return next(endpoint for endpoint in self.live.table.endpoints.values() if endpoint.name == name)

    def upstream_of(self, endpoint: Endpoint) -> "AdminGateway":
        return self

    async def send(self, target: Any, body: bytes, limits: Any, extra: Any = None, *, fresh: bool = False) -> SaidReply:
        self.asked.append((target.path, json.loads(body)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return SaidReply(self.status, self.answer)

    def in_flight(self) -> dict[str, int]:
        return {endpoint.id: self.board.of(endpoint).in_flight for endpoint in self.live.table.endpoints.values()}

    async def end_cooldowns(self, endpoint_ids: list[str]) -> None:
        self.ended += endpoint_ids
        for endpoint_id in endpoint_ids:
            self.board.reset(endpoint_id)

    async def delete_kept(self, group: str | None) -> int:
        self.emptied.append(group)
        return 3


RUNNING: list[AdminGateway] = []


def in_every_request(answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware."""

    def answered(request: HttpRequest) -> HttpResponse:
        request.scope = {"llmproxy": RUNNING[-1]}
        return answer(request)

    return answered


@contextmanager
def gateway_in_requests(settings: Any):
    """settings: pytest-django's."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.integration.admin_gateway.in_every_request"]
    RUNNING.append(AdminGateway())
    yield RUNNING[-1]
    RUNNING.pop()


def run(awaitable: Callable[..., Any], *arguments: Any) -> Any:
    return async_to_sync(awaitable)(*arguments)
