"""In which order endpoints are asked for one request: balanced over a group, pinned to one, or asked who knows an id.

A plan only chooses; `failover` counts attempts, waits and decides whether to go on.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from routing.balancing.board import HealthBoard
from routing.balancing.health import Availability, Reason
from routing.balancing.rotation import Pick, Rotation
from routing.balancing.selection import availability
from routing.config.table import Endpoint
from routing.errors import NoEndpoint, RateLimited, Refusal

_UNCONFIGURED_RETRY_S = 60.0  # nothing but a change of the configuration helps
_LAST_RESORT_RETRY_S = 1.0


class Plan(Protocol):
    """Where a request may go."""

    asks_around: bool  # an endpoint that does not know the id is no answer: the next one is asked

    def first(self, now: float) -> Pick | None:
        """For the first attempt; None: nothing may be asked, `refusal` says why."""
        ...

    def next(self, tried: Collection[Endpoint], now: float) -> Pick | None:
        """Another endpoint that has not been tried."""
        ...

    def has_other(self, tried: Collection[Endpoint], now: float) -> bool:
        """Whether `next` would find one."""
        ...

    def is_last(self, endpoint: Endpoint, now: float) -> bool:
        """Whether without this endpoint nobody could serve the group: it is not cooled as lightly."""
        ...

    def may_repeat(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint that was tried may be tried again although it was cooled by another request."""
        ...

    def refusal(self, now: float) -> Refusal: ...


class BalancedPlan:
    """A group by its strategy, then its fallback groups."""

    asks_around = False

    def __init__(self, rotations: Sequence[Rotation], board: HealthBoard) -> None:
        self._rotations = rotations
        self._board = board

    def first(self, now: float) -> Pick | None:
        for rotation in self._rotations:
            if (pick := rotation.first(now)) is not None:
                return pick
        for rotation in self._rotations:
            if (pick := rotation.last_resort(now)) is not None:
                return pick
        return None

    def next(self, tried: Collection[Endpoint], now: float) -> Pick | None:
        for rotation in self._rotations:
            if (pick := rotation.another(tried, now)) is not None:
                return pick
        return None

    def has_other(self, tried: Collection[Endpoint], now: float) -> bool:
        for rotation in self._rotations:
            assessment = rotation.assessment(now)
            for endpoint in (*assessment.turn, *assessment.reserve):
                if endpoint not in tried:
                    return True
        return False

    def is_last(self, endpoint: Endpoint, now: float) -> bool:
        return not self.has_other((endpoint,), now)

    def may_repeat(self, endpoint: Endpoint) -> bool:
        return not self._board.of(endpoint).cooled()

    def refusal(self, now: float) -> Refusal:
        name = self._rotations[0].group.name
        cooling = [endpoint for rotation in self._rotations for endpoint in rotation.cooling()]
        if not cooling:
            return NoEndpoint(
                f"No endpoint of model {name!r} is enabled and configured. Ask the operator to look at /stats.",
                retry_after_s=_UNCONFIGURED_RETRY_S,
            )
        reasons = {self._board.of(endpoint).reason for endpoint in cooling}
        earliest = min(self._board.of(endpoint).until for endpoint in cooling) - now
        if reasons == {Reason.RATE_LIMIT}:
            return RateLimited(
                f"All endpoints of model {name!r} are at their rate limit. Wait as long as Retry-After says.",
                retry_after_s=earliest,
            )
        wait = _LAST_RESORT_RETRY_S if reasons == {Reason.FAILURE} else earliest
        return NoEndpoint(
            f"No endpoint of model {name!r} is available right now. Wait as long as Retry-After says.",
            retry_after_s=wait,
        )


class PinnedPlan:
    """The one endpoint that made what the request refers to; failure cooldowns are ignored, rate limits respected."""

    asks_around = False

    def __init__(self, endpoint: Endpoint, siblings: Sequence[Endpoint], board: HealthBoard) -> None:
        """siblings: the endpoints that serve requests which refer to nothing."""
        self._endpoint = endpoint
        self._siblings = siblings
        self._board = board

    def first(self, now: float) -> Pick | None:
        state = availability(self._endpoint, self._board.of(self._endpoint), now)
        if state in (Availability.DISABLED, Availability.MISCONFIGURED) or self._rate_limited(now):
            return None
        return Pick(self._endpoint)

    def next(self, tried: Collection[Endpoint], now: float) -> Pick | None:
        return None

    def has_other(self, tried: Collection[Endpoint], now: float) -> bool:
        return False

    def is_last(self, endpoint: Endpoint, now: float) -> bool:
        return not _any_other(self._siblings, endpoint, self._board, now)

    def may_repeat(self, endpoint: Endpoint) -> bool:
        return True

    def refusal(self, now: float) -> Refusal:
        if self._rate_limited(now):
            return RateLimited(
                "The endpoint that made the response this request refers to is at its rate limit. "
                "Wait as long as Retry-After says.",
                retry_after_s=self._board.of(self._endpoint).until - now,
            )
        return NoEndpoint(
            "The endpoint that made the response this request refers to is disabled or misconfigured. "
            "Start a new conversation, or ask the operator to look at /stats.",
            retry_after_s=_UNCONFIGURED_RETRY_S,
        )

    def _rate_limited(self, now: float) -> bool:
        health = self._board.of(self._endpoint)
        return health.cooled() and health.reason is Reason.RATE_LIMIT and now < health.until


class AskingPlan:
    """Nobody remembers who made the id: endpoints are asked in order, one for each account."""

    asks_around = True

    def __init__(self, endpoints: Sequence[Endpoint], board: HealthBoard) -> None:
        usable = [endpoint for endpoint in endpoints if endpoint.enabled and not endpoint.missing]
        by_account: dict[str, Endpoint] = {}
        for endpoint in usable:
            kept = by_account.get(endpoint.account)
            if kept is None or board.of(kept).cooled():
                by_account[endpoint.account] = endpoint
        self._endpoints = list(by_account.values())
        self._board = board

    def first(self, now: float) -> Pick | None:
        return self.next((), now)

    def next(self, tried: Collection[Endpoint], now: float) -> Pick | None:
        for endpoint in self._endpoints:
            if endpoint not in tried and self._askable(endpoint, now):
                return Pick(endpoint)
        return None

    def has_other(self, tried: Collection[Endpoint], now: float) -> bool:
        return self.next(tried, now) is not None

    def is_last(self, endpoint: Endpoint, now: float) -> bool:
        return not _any_other(self._endpoints, endpoint, self._board, now)

    def may_repeat(self, endpoint: Endpoint) -> bool:
        return False

    def all_asked(self, unknown: Collection[Endpoint]) -> bool:
        """Whether every endpoint that could know the id said that it does not."""
        return all(endpoint in unknown for endpoint in self._endpoints)

    def refusal(self, now: float) -> Refusal:
        return NoEndpoint(
            "No endpoint that could know this id is available right now. Wait as long as Retry-After says.",
            retry_after_s=_LAST_RESORT_RETRY_S,
        )

    def _askable(self, endpoint: Endpoint, now: float) -> bool:
        return self._board.of(endpoint).availability(now) is not Availability.COOLING


def _any_other(endpoints: Sequence[Endpoint], endpoint: Endpoint, board: HealthBoard, now: float) -> bool:
    others = (other for other in endpoints if other is not endpoint)
    return any(availability(other, board.of(other), now) is Availability.AVAILABLE for other in others)
