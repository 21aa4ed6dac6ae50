"""From a plan to one answer: asks endpoint after endpoint until one brings an answer that can be passed on.

The loop ends before the first byte is passed on, so no retry can come after it.
"""

import asyncio
import random
from collections.abc import Callable

from routing.attempt import Attempt
from routing.balancing.board import HealthBoard
from routing.balancing.rotation import Pick
from routing.config.table import Endpoint
from routing.course import Course
from routing.errors import BadRequest, NotFound, Refusal
from routing.plans import AskingPlan
from routing.upstream.classify import Cause, Outcome
from routing.upstream.transport import Upstream
from stats.recorder import Recorder

_AUTH_STATUS = frozenset({401, 403})  # about the gateway's credentials, not the client's


class Failover:
    """Collaborators: health, who carries requests to an endpoint, who counts, and the random source for jitter."""

    def __init__(
        self, board: HealthBoard, upstream_of: Callable[[Endpoint], Upstream], recorder: Recorder, rng: random.Random
    ) -> None:
        self._board = board
        self._upstream_of = upstream_of
        self._recorder = recorder
        self._rng = rng

    async def first_good(self, course: Course) -> Attempt:
        """An answer to pass on: a success, a stream that has begun, or what the upstream says of the request itself.

        Raises Refusal where there is none. The caller leaves the attempt (`with`).
        """
        now = self._board.clock()
        pick = course.plan.first(now)
        if pick is None:
            raise course.plan.refusal(now)
        answered: Attempt | None = None
        while pick is not None:
            course.begin(pick.endpoint, self._board.clock())
            attempt = Attempt(pick, course, self._upstream_of(pick.endpoint), self._board, self._recorder)
            await attempt.open()
            if attempt.verdict is None or attempt.verdict.outcome is Outcome.SUCCESS:
                return attempt
            if attempt.status >= 400 and not (course.plan.asks_around and attempt.verdict.cause is Cause.UNKNOWN_ID):
                answered = attempt
            pick = await self._next(course)
        return self._last_answer(course, answered)

    async def _next(self, course: Course) -> Pick | None:
        now = self._board.clock()
        if not course.may_go_on(now):
            return None
        if (pick := course.plan.next(course.tried, now)) is not None:
            return pick
        endpoint = course.repeatable(self._rng)
        if endpoint is None:
            return None
        wait = course.backoff_s(endpoint, self._rng)
        if now + wait >= course.deadline:
            return None
        await asyncio.sleep(wait)
        return Pick(endpoint)

    def _last_answer(self, course: Course, answered: Attempt | None) -> Attempt:
        """The last answer an upstream gave, where it can be shown to the client."""
        if isinstance(course.plan, AskingPlan) and course.unknown and course.plan.all_asked(course.unknown):
            raise unknown_id(course)
        if answered is None or answered.verdict is None:
            raise course.failure(0)
        failed = answered.verdict.outcome is Outcome.FAILURE
        # A 404 that is a failure: the endpoint lacks the model, and its text is for the operator.
        if answered.status in _AUTH_STATUS or (failed and (answered.status == 404 or not answered.body)):
            raise course.failure(answered.status)
        trail = course.request.trail  # which names who was asked last
        trail.endpoint, trail.endpoint_id = answered.endpoint.name, answered.endpoint.id
        return answered


def unknown_id(course: Course | None = None) -> Refusal:
    """No endpoint knows the response, conversation or encrypted item that the request refers to."""
    refusal: Refusal
    if course is not None and course.request.route.kind == "item":
        refusal = NotFound("No response with this id is known here.", code="response_not_found")
    else:
        refusal = BadRequest(
            "What this request refers to (previous_response_id, conversation or encrypted content) is not known to any "
            "endpoint of this model, or not to one of them alone. Send the whole conversation instead.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    refusal.after_attempt = course is not None
    if course is not None:
        course.tell_attempts(refusal)
    return refusal
