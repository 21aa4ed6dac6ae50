"""The gateway that runs in this process, as far as the admin needs it. None where there is none: commands, tests."""

from collections.abc import Mapping
from typing import Protocol

from django.http import HttpRequest

from routing.balancing.board import HealthBoard
from routing.config.live import LiveTable
from routing.config.table import Endpoint
from routing.config.watch import RevisionWatch
from routing.upstream.transport import Upstream
from stats.recorder import Recorder, Store


class RunningGateway(Protocol):
    """The collaborators of one worker; the composition root puts them into the request's scope."""

    live: LiveTable
    board: HealthBoard
    recorder: Recorder
    revisions: RevisionWatch | None

    @property
    def store(self) -> Store: ...
    def upstream_of(self, endpoint: Endpoint) -> Upstream: ...
    def in_flight(self) -> Mapping[str, int]: ...
    async def end_cooldowns(self, endpoint_ids: list[str]) -> None: ...
    async def delete_kept(self, group: str | None) -> int: ...


def running_gateway(request: HttpRequest) -> RunningGateway | None:
    """The worker that answers this request."""
    scope: Mapping[str, RunningGateway] = getattr(request, "scope", {})
    return scope.get("llmproxy")
