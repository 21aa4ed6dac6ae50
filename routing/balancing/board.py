"""The health of all endpoints in this worker, the leases on them, and who is told when something changes.

Applies `health`'s transitions and never waits: what other workers must know is handed to the announcer.
"""

import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from routing.balancing.health import Cooldown, Health, Reason
from routing.config.table import Endpoint

_PROBE_CLAIM_EVERY_S = 0.25  # a probe that is due is asked for this often at most


class Announcer(Protocol):
    """Tells other workers; returns at once and never raises."""

    def cooled(self, endpoint_id: str, cooldown: Cooldown, now: float) -> None: ...
    def failed(self, endpoint_id: str) -> None: ...
    def healed(self, endpoint_id: str, began: float, now: float) -> None: ...
    def claim_probe(self, endpoint_id: str) -> None: ...


class Silent:
    """Nobody to tell: the only worker of a gateway without a store."""

    def cooled(self, endpoint_id: str, cooldown: Cooldown, now: float) -> None: ...
    def failed(self, endpoint_id: str) -> None: ...
    def healed(self, endpoint_id: str, began: float, now: float) -> None: ...
    def claim_probe(self, endpoint_id: str) -> None: ...


class HealthBoard:
    """Looked up by endpoint id, so that health outlives a change of the routing table."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.announcer: Announcer = Silent()
        self.version = 0  # changes whenever an availability may have changed
        self._health: dict[str, Health] = {}
        self._claimed_at: dict[str, float] = {}
        self._refuses_usage: WeakSet[Endpoint] = WeakSet()  # forgotten with the table that they belong to

    def of(self, endpoint: Endpoint) -> Health:
        health = self._health.get(endpoint.id)
        if health is None:
            health = self._health[endpoint.id] = Health()
        return health

    def by_id(self, endpoint_id: str) -> Health:
        return self._health.setdefault(endpoint_id, Health())

    # -- what this worker's attempts report

    def succeeded(self, endpoint: Endpoint, began: float) -> None:
        """An attempt that began at `began` was answered as it should be."""
        if self.of(endpoint).succeeded(began):
            self.version += 1
            self.announcer.healed(endpoint.id, began, self.clock())

    def answered(self, endpoint: Endpoint, began: float) -> None:
        """The head of an answer has come: the endpoint lives, whether or not the rest will be good."""
        if self.of(endpoint).answered(began):
            self.version += 1
            self.announcer.healed(endpoint.id, began, self.clock())

    def failed(self, endpoint: Endpoint, began: float, threshold: int | None) -> bool:
        """Counts a failure; returns whether it started a cooldown. threshold None: it may not start one."""
        health, now = self.of(endpoint), self.clock()
        if health.late(now, began):
            return False
        health.failed(now, began)
        self.announcer.failed(endpoint.id)
        if threshold is None or health.consecutive_failures < threshold:
            return False
        self.cool(endpoint, endpoint.cooldown_s, Reason.FAILURE)
        return True

    def cool(self, endpoint: Endpoint, seconds: float, reason: Reason) -> None:
        """Takes the endpoint out for `seconds`, for all workers."""
        now = self.clock()
        cooldown = self.of(endpoint).cool(now, seconds, reason)
        self._claimed_at.pop(endpoint.id, None)
        self.version += 1
        self.announcer.cooled(endpoint.id, cooldown, now)

    def asks_usage(self, endpoint: Endpoint) -> bool:
        """Whether its chat streams shall be asked for their usage."""
        return endpoint.asks_usage and endpoint not in self._refuses_usage

    def refused_usage(self, endpoint: Endpoint) -> None:
        """It takes requests without that wish only; until the configuration changes."""
        self._refuses_usage.add(endpoint)

    def ask_for_probe(self, endpoint: Endpoint, now: float) -> None:
        """The endpoint's cooldown is over: claim the one probe, in the background."""
        health = self.of(endpoint)
        if health.probing or now - self._claimed_at.get(endpoint.id, -1e9) < _PROBE_CLAIM_EVERY_S:
            return
        self._claimed_at[endpoint.id] = now
        self.announcer.claim_probe(endpoint.id)

    # -- what other workers report

    def merge_cooldown(self, endpoint_id: str, cooldown: Cooldown) -> None:
        self.by_id(endpoint_id).merge_cooldown(cooldown)
        self.version += 1

    def merge_failure(self, endpoint_id: str) -> None:
        self.by_id(endpoint_id).consecutive_failures += 1

    def merge_healed(self, endpoint_id: str, began: float) -> None:
        self.by_id(endpoint_id).heal(began)
        self.version += 1

    def grant_probe(self, endpoint_id: str, seconds: float) -> None:
        """The claim was won: the next request to come is the probe."""
        self.by_id(endpoint_id).grant(self.clock(), seconds)
        self.version += 1

    def probing_ids(self) -> list[str]:
        """Endpoints that this worker is probing now."""
        return [endpoint_id for endpoint_id, health in self._health.items() if health.probing]

    def reset(self, endpoint_id: str) -> None:
        """An operator ends the endpoint's cooldown."""
        self.by_id(endpoint_id).reset(self.clock())
        self.version += 1

    def keep_only(self, endpoint_ids: frozenset[str]) -> None:
        """Forgets endpoints that no table names any more and no request uses."""
        gone = [i for i, health in self._health.items() if i not in endpoint_ids and not health.in_flight]
        for endpoint_id in gone:
            del self._health[endpoint_id]


class Lease:
    """One attempt's hold on an endpoint: counts it as in flight to the last byte, and as a probe until it answers."""

    __slots__ = ("_health", "began", "probe")

    def __init__(self, health: Health, began: float, *, probe: bool) -> None:
        self._health, self.began, self.probe = health, began, probe

    def __enter__(self) -> "Lease":
        self._health.in_flight += 1
        self._health.probing += self.probe
        return self

    def answered(self) -> None:
        """The probe has its answer: a stream may go on for an hour, and the next cooldown needs a probe of its own."""
        self._health.probing -= self.probe
        self.probe = False

    def __exit__(self, *_: object) -> None:
        self._health.in_flight -= 1
        self.answered()
