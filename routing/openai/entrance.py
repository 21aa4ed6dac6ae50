"""What all doors of a worker share: the collaborators, the limit of requests at a time, and the list of models."""

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from routing.config.live import LiveTable
from routing.errors import NotFound, Overloaded
from routing.gateway import Gateway
from routing.openai.doorstep import Neighbourhood
from routing.openai.time_limits import TimeLimits
from routing.openai.watch import DisconnectWatch
from stats.record import RequestRecord
from stats.recorder import Recorder


class Records(Protocol):
    """Takes what is kept of each request. Never waits."""

    def add(self, record: RequestRecord) -> None: ...


class Span(Protocol):
    """A request that is traced."""

    def ended(self, record: RequestRecord) -> None: ...


class Tracing(Protocol):
    """Decides at the door which requests are traced."""

    def begin(self, headers: dict[bytes, bytes]) -> Span | None:
        """Names the span in the headers as the upstream's parent. None: this request is not traced."""
        ...


class RecordTakers:
    """Hands each record to all who want it, in the order in which they came."""

    def __init__(self, *takers: Records) -> None:
        self._takers = takers

    def also(self, taker: Records) -> None:
        self._takers += (taker,)

    def add(self, record: RequestRecord) -> None:
        for taker in self._takers:
            taker.add(record)


@dataclass(slots=True)
class Entrance:
    """Built once by the composition root."""

    live: LiveTable
    gateway: Gateway
    recorder: Recorder
    neighbourhood: Neighbourhood
    records: RecordTakers = field(default_factory=RecordTakers)
    tracing: Tracing | None = None
    watch: DisconnectWatch = field(default_factory=DisconnectWatch)
    limits: TimeLimits = field(default_factory=TimeLimits)
    in_flight: int = 0

    def __enter__(self) -> None:
        """Takes one of `max_in_flight` places, given back on leaving. Raises Overloaded."""
        self.require_place()
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1

    def require_place(self) -> None:
        """Raises Overloaded if none is free now."""
        if self.in_flight >= self.live.table.settings.max_in_flight:
            raise Overloaded("The gateway has as many requests as it takes at a time (max_in_flight). Try again.")

    def models_body(self, name: str) -> bytes:
        """OpenAI's list of models, or the one named. Raises NotFound."""
        groups = self.live.table.groups
        if not name:
            return msgspec.json.encode({"object": "list", "data": [_model(group) for group in sorted(groups)]})
        if name not in groups:
            raise NotFound(
                f"The model {name!r} does not exist here. GET /v1/models lists those that do.",
                param="model",
                code="model_not_found",
            )
        return msgspec.json.encode(_model(name))


def _model(name: str) -> dict[str, str | int]:
    # OpenAI's shape wants a time of creation; a group has none that means anything to a client.
    return {"id": name, "object": "model", "created": 0, "owned_by": "llmproxy"}
