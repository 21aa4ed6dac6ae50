"""Turn-taking of one group in this worker: keeps `selection`'s assessment while it holds, and the cycle's place."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from routing.balancing.board import HealthBoard
from routing.balancing.health import Reason
from routing.balancing.selection import Assessment, SmoothTurns, assess, by_weight, least_busy, lowest_latency
from routing.config.table import Endpoint, Group

_LAST_RESORT_EVERY_S = 1.0  # per worker: how often a request may try an endpoint of a group that is wholly cooling


@dataclass(slots=True)
class Pick:
    """An endpoint to ask, and whether the attempt is a probe: at most one attempt, no matter how it ends."""

    endpoint: Endpoint
    probe: bool = False


class Rotation:
    """Answers "who is next?" for one group."""

    def __init__(self, group: Group, board: HealthBoard, rng: random.Random) -> None:
        self.group = group
        self._board = board
        self._rng = rng
        self._assessment: Assessment | None = None
        self._version = -1
        self._turns: SmoothTurns | None = None
        self._turns_of: tuple[Endpoint, ...] = ()
        self._last_resort_at = float("-inf")

    def assessment(self, now: float) -> Assessment:
        """The group as it is now; costs nothing while no health changed and no cooldown ended."""
        kept = self._assessment
        if kept is not None and self._version == self._board.version and now < kept.valid_until:
            if kept.due:
                self._claim(kept, now)
            return kept
        fresh = self._assessment = assess(self.group.endpoints, self._board.of, now)
        self._version = self._board.version
        self._claim(fresh, now)
        return fresh

    def _claim(self, assessment: Assessment, now: float) -> None:
        for endpoint in assessment.due:
            self._board.ask_for_probe(endpoint, now)

    def first(self, now: float) -> Pick | None:
        """For a request's first attempt: a granted probe, else whose turn it is."""
        assessment = self.assessment(now)
        for endpoint in assessment.probes:
            if not self._board.of(endpoint).probing:
                return Pick(endpoint, probe=True)
        if not assessment.turn:
            return None
        return Pick(self._by_strategy(assessment.turn, now))

    def another(self, tried: Collection[Endpoint], now: float) -> Pick | None:
        """For a further attempt: one not yet tried, those of weight 0 last."""
        assessment = self.assessment(now)
        left = [endpoint for endpoint in assessment.turn if endpoint not in tried]
        left = left or [endpoint for endpoint in assessment.reserve if endpoint not in tried]
        return Pick(by_weight(left, self._rng)) if left else None

    def last_resort(self, now: float) -> Pick | None:
        """Nothing is available: once a second one request tries the endpoint whose cooldown ends first all the same.

        A cooldown for a rate limit is respected to its end; a deadline that has passed is not held up by an unanswered
        claim or probe.
        """
        if now - self._last_resort_at < _LAST_RESORT_EVERY_S:
            return None
        cooling = self.cooling()
        over = [endpoint for endpoint in cooling if self._board.of(endpoint).until <= now]
        if not over and any(self._board.of(endpoint).reason is Reason.RATE_LIMIT for endpoint in cooling):
            return None
        if not cooling:
            return None
        self._last_resort_at = now
        return Pick(min(over or cooling, key=lambda endpoint: self._board.of(endpoint).until), probe=True)

    def cooling(self) -> list[Endpoint]:
        """Endpoints that would serve but for a cooldown or an unanswered probe."""
        usable = (endpoint for endpoint in self.group.endpoints if endpoint.enabled and not endpoint.missing)
        return [endpoint for endpoint in usable if self._board.of(endpoint).cooled()]

    def _by_strategy(self, endpoints: tuple[Endpoint, ...], now: float) -> Endpoint:
        if self.group.strategy == "least_busy":
            return least_busy(endpoints, self._board.of, self._rng)
        if self.group.strategy == "lowest_latency":
            return lowest_latency(endpoints, self._board.of, now, self._rng)
        if self._turns is None or self._turns_of != endpoints:
            self._turns, self._turns_of = SmoothTurns(endpoints), endpoints
        return self._turns.next()
