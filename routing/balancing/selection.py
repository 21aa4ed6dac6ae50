"""Which endpoint is asked next. Pure: health, `now` and the random source are passed in.

`assess` says of every endpoint of a group whether it may be asked and why not; routing and explanations both use it.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from routing.balancing.health import Availability, Health
from routing.config.table import Endpoint

HealthOf = Callable[[Endpoint], Health]

_LONGEST_CYCLE = 20_000  # turns remembered of one group; a longer cycle is computed turn by turn
_STALE_LATENCY_S = 10.0  # a latency this old is tried again, so that a recovered endpoint is noticed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint of a group and what a request may do with it now."""

    endpoint: Endpoint
    availability: Availability


@dataclass(frozen=True, slots=True)
class Assessment:
    """A group at one moment; it holds until `valid_until` unless a health changes."""

    candidates: tuple[Candidate, ...]
    turn: tuple[Endpoint, ...]  # available and weighted; those of weight 0 if there is no other
    reserve: tuple[Endpoint, ...]  # available, weight 0, while others take turns
    probes: tuple[Endpoint, ...]  # the next request is their probe
    due: tuple[Endpoint, ...]  # a probe should be claimed
    valid_until: float

    def any_available(self) -> bool:
        return bool(self.turn or self.probes)


def availability(endpoint: Endpoint, health: Health, now: float) -> Availability:
    """What a request may do with the endpoint."""
    if not endpoint.enabled:
        return Availability.DISABLED
    if endpoint.missing:
        return Availability.MISCONFIGURED
    return health.availability(now)


def assess(endpoints: Iterable[Endpoint], health_of: HealthOf, now: float) -> Assessment:
    """Sorts a group's endpoints by what may be done with them; O(n), so callers keep the result while it holds."""
    candidates = tuple(Candidate(endpoint, availability(endpoint, health_of(endpoint), now)) for endpoint in endpoints)
    by = {kind: tuple(c.endpoint for c in candidates if c.availability is kind) for kind in Availability}
    available = by[Availability.AVAILABLE]
    weighted = tuple(endpoint for endpoint in available if endpoint.weight > 0)
    changes = [health_of(endpoint).until for endpoint in by[Availability.COOLING]]
    changes += [health_of(endpoint).granted_until for endpoint in by[Availability.PROBE]]
    return Assessment(
        candidates=candidates,
        turn=weighted or available,
        reserve=tuple(endpoint for endpoint in available if endpoint.weight == 0) if weighted else (),
        probes=by[Availability.PROBE],
        due=by[Availability.AWAITING_PROBE],
        valid_until=min(changes, default=math.inf),
    )


class SmoothTurns:
    """Smooth weighted round-robin: in every full cycle each endpoint's share is exact, and its turns are spread out.

    An endpoint's next turn falls due when its share says so, and whoever has to be served soonest comes first (earliest
    deadline first): no count is ever a whole turn away from its share, so no window is two off, for any weights. The
    usual scheme with credits is 2.2 off for some weights of 12 endpoints.
    The sequence repeats after sum / gcd turns, so it is computed once and then read: a turn costs the same for 3
    endpoints and for 1,000.
    """

    __slots__ = ("_cycle", "_endpoints", "_position", "_remembered", "_served", "_weights")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        weights = [endpoint.weight for endpoint in endpoints]
        divisor = math.gcd(*weights)
        self._weights = [weight // divisor for weight in weights] if divisor else [1] * len(weights)
        self._cycle = sum(self._weights)
        self._served = [0] * len(weights)  # turns of this cycle
        self._remembered: list[Endpoint] = []
        self._position = 0

    def next(self) -> Endpoint:
        if self._position < len(self._remembered):
            chosen = self._remembered[self._position]
        else:
            chosen = self._advance()
            if self._cycle <= _LONGEST_CYCLE:
                self._remembered.append(chosen)
        self._position += 1
        if self._position == self._cycle:
            self._position = 0
            self._served = [0] * len(self._served)
        return chosen

    def _advance(self) -> Endpoint:
        best, soonest = 0, math.inf
        for index, weight in enumerate(self._weights):
            served = self._served[index]
            if served * self._cycle > self._position * weight:
                continue  # it has had its share so far
            deadline = -((served + 1) * self._cycle // -weight)
            if deadline < soonest:
                best, soonest = index, deadline
        self._served[best] += 1
        return self._endpoints[best]


def by_weight(endpoints: Sequence[Endpoint], rng: random.Random) -> Endpoint:
    """One at random, in proportion to weight: for retries, so that a failed endpoint's load is spread."""
    weights = [endpoint.weight for endpoint in endpoints]
    if not any(weights):
        return rng.choice(endpoints)
    return rng.choices(endpoints, weights)[0]


def least_busy(endpoints: Sequence[Endpoint], health_of: HealthOf, rng: random.Random) -> Endpoint:
    """Power of two choices: of two drawn by weight, the one with fewer requests in flight for its weight."""
    if len(endpoints) == 1:
        return endpoints[0]
    first = by_weight(endpoints, rng)
    second = by_weight([endpoint for endpoint in endpoints if endpoint is not first], rng)
    return min(first, second, key=lambda endpoint: (health_of(endpoint).in_flight + 1) / max(endpoint.weight, 1))


def lowest_latency(endpoints: Sequence[Endpoint], health_of: HealthOf, now: float, rng: random.Random) -> Endpoint:
    """The lowest moving average of the time to the first event; unknown and stale ones come first, one request each.

    With requests in flight the average counts for more: the fastest endpoint does not get everything until it is slow.
    """
    unknown = [e for e in endpoints if _unknown(health_of(e), now) and not health_of(e).in_flight]
    if unknown:
        return rng.choice(unknown)
    known = [endpoint for endpoint in endpoints if health_of(endpoint).latency_s is not None]
    return min(known or endpoints, key=lambda endpoint: _expected_latency(health_of(endpoint)))


def _unknown(health: Health, now: float) -> bool:
    return health.latency_s is None or now - health.latency_at > _STALE_LATENCY_S


def _expected_latency(health: Health) -> float:
    """Where nothing is known yet, requests in flight alone tell endpoints apart."""
    return (1.0 if health.latency_s is None else health.latency_s) * (health.in_flight + 1)
