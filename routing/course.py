"""The course of one request: what was tried, with what result, and whether it may go on. Decides; does no I/O."""

import random

from routing.balancing.rotation import Pick
from routing.config.table import Endpoint, Group, RoutingTable
from routing.errors import (
    NoEndpoint,
    Overloaded,
    Refusal,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamTimedOut,
)
from routing.openai.request import LLMRequest
from routing.plans import Plan
from routing.upstream.classify import Cause, Verdict

_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 2.0
_LONG_RETRY_AFTER_S = 5.0  # an endpoint that says so is not asked again by this request
_LAST_AVAILABLE_FAILS = 3
_SAFE_TO_RUN_AGAIN = frozenset({Cause.CONNECT, Cause.RATE_LIMIT, Cause.POOL_FULL})
_ONE_COOLDOWN = frozenset({Cause.STATUS, Cause.TIMEOUT, Cause.RESET})


class Course:
    """What is known of one request while it is served."""

    __slots__ = ("_cooled_here", "_excluded", "_limit", "_retry_after", "_started_cooldown", "_timed_out", "_waits",
                 "attempts", "deadline", "group", "last", "last_status", "plan", "request", "table", "tried", "unknown",
                 "upstream_s")  # fmt: skip

    def __init__(self, request: LLMRequest, table: RoutingTable, group: Group | None, plan: Plan) -> None:
        self.request = request
        self.table = table
        self.group = group
        self.plan = plan
        self.attempts = 0
        self.tried: list[Endpoint] = []
        self.unknown: list[Endpoint] = []  # those that do not know the id
        self.last: Verdict | None = None
        self.last_status = 0
        self.deadline = float("inf")
        self.upstream_s = 0.0  # time spent waiting for upstreams
        self._limit = 1 + (group.num_retries if group else table.settings.num_retries)
        self._excluded: list[Endpoint] = []
        self._cooled_here: list[Endpoint] = []
        self._started_cooldown = False
        self._timed_out = False
        self._waits = 0
        self._retry_after: dict[Endpoint, float] = {}

    # -- before an attempt

    def begin(self, endpoint: Endpoint, now: float) -> None:
        if not self.tried and not self.request.stream:
            self.deadline = now + 2 * endpoint.timeouts.http_s
        if endpoint not in self.tried:
            self.tried.append(endpoint)
        self.attempts += 1

    def cuts_first_event(self, now: float) -> bool:
        """Whether a silent stream is given up for another endpoint: once, and only while there is another."""
        return not self._timed_out and self._attempts_left() and self.plan.has_other(self.tried, now)

    # -- after an attempt

    def threshold(self, pick: Pick, verdict: Verdict, now: float) -> int | None:
        """Failures in a row that start a cooldown; None: this request may not start another one.

        One prompt that provokes failures everywhere must not empty a group.
        """
        endpoint = pick.endpoint
        if pick.probe:
            return 1
        if verdict.cause in _ONE_COOLDOWN and self._started_cooldown:
            return None
        if verdict.cause is Cause.STATUS and self.plan.is_last(endpoint, now):
            return max(endpoint.allowed_fails, _LAST_AVAILABLE_FAILS)
        return max(endpoint.allowed_fails, 1)

    def note_cooldown(self, endpoint: Endpoint, verdict: Verdict) -> None:
        """This attempt started a cooldown."""
        self._cooled_here.append(endpoint)
        self._started_cooldown = self._started_cooldown or verdict.cause in _ONE_COOLDOWN

    def note(self, pick: Pick, verdict: Verdict, status: int) -> None:
        """The attempt ended."""
        endpoint = pick.endpoint
        self.last, self.last_status = verdict, status
        if verdict.cause is Cause.POOL_FULL:
            self.attempts -= 1
        if verdict.cause is Cause.UNKNOWN_ID:
            self.unknown.append(endpoint)
        if verdict.retry_after_s:
            self._retry_after[endpoint] = verdict.retry_after_s
        no_use = verdict.cause in (Cause.TIMEOUT, Cause.POOL_FULL, Cause.REQUEST)
        if pick.probe or no_use or (verdict.retry_after_s or 0) >= _LONG_RETRY_AFTER_S:
            self._excluded.append(endpoint)

    def may_go_on(self, now: float) -> bool:
        """Whether the last verdict allows another attempt."""
        verdict = self.last
        if verdict is None or now >= self.deadline:
            return False
        if self.plan.asks_around and verdict.cause is Cause.UNKNOWN_ID:
            return True
        if not verdict.retry or not self._attempts_left():
            return False
        if self.request.once_only and verdict.cause not in _SAFE_TO_RUN_AGAIN and self.last_status != 503:
            return False
        if verdict.cause is Cause.TIMEOUT:
            first, self._timed_out = not self._timed_out, True
            return first
        return True

    def repeatable(self, rng: random.Random) -> Endpoint | None:
        """An endpoint to try again when none is left that was not tried; one that this request cooled comes last."""
        if not self._attempts_left():
            return None
        left = [endpoint for endpoint in self.tried if endpoint not in self._excluded]
        choice = [endpoint for endpoint in left if self.plan.may_repeat(endpoint)]
        choice = choice or [endpoint for endpoint in left if endpoint in self._cooled_here]
        return rng.choice(choice) if choice else None

    def backoff_s(self, endpoint: Endpoint, rng: random.Random) -> float:
        """Doubling with every wait, with jitter; never shorter than what the endpoint asked for."""
        longest: float = min(_BACKOFF_S * 2**self._waits, _LONGEST_BACKOFF_S)
        self._waits += 1
        return max(longest * rng.uniform(0.5, 1.0), self._retry_after.get(endpoint, 0.0))

    def _attempts_left(self) -> bool:
        return self.attempts < self._limit

    # -- when nothing is left to try

    def failure(self, answered: int) -> Refusal:
        """Why the request failed, where no upstream answer can be passed on. answered: the last one's status, or 0."""
        cause = self.last.cause if self.last else Cause.NONE
        if cause is Cause.POOL_FULL and self.attempts == 0:
            return Overloaded("All connections to the endpoints of this model are in use. Try again in a moment.")
        refusal = self._failure(cause, answered)
        refusal.after_attempt = True
        self.tell_attempts(refusal)
        return refusal

    def tell_attempts(self, refusal: Refusal) -> None:
        """What answers say of the endpoints that were asked."""
        refusal.attempts = self.attempts
        refusal.endpoint_header = self.tried[-1].name_header if self.tried else None

    def _failure(self, cause: Cause, answered: int) -> Refusal:
        if answered in (401, 403):
            return UpstreamAuthFailed(
                "The upstream refused the gateway's own credentials. Ask the operator to check the endpoint's key."
            )
        if cause in (Cause.POOL_FULL, Cause.UNKNOWN_ID):  # the one that could know it was not there to be asked
            return NoEndpoint("No endpoint could take the request. Try again in a moment.", retry_after_s=1)
        if cause is Cause.TIMEOUT:
            return UpstreamTimedOut("The upstream did not answer in time. Try again, or ask for less at once.")
        return UpstreamFailed("No upstream brought a usable answer. Try again; if it stays, ask the operator.")
