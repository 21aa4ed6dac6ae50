"""The story of a request: which group, who may answer, one answer that can be passed on, and what is remembered of it.

Read it top down; every step calls only the next one. Errors leave as `errors.Refusal`.
"""

import random
from collections.abc import Coroutine
from typing import Any

from cache_app.flight import Presence
from routing.affinity import Affinity
from routing.answer import Answer, Kept
from routing.attempt import Attempt
from routing.balancing.board import HealthBoard
from routing.balancing.rotation import Rotation
from routing.caching import Caching
from routing.config.live import LiveTable
from routing.config.table import Group, RoutingTable
from routing.course import Course
from routing.errors import NotFound, UpstreamTimedOut
from routing.failover import Failover, unknown_id
from routing.openai.request import LLMRequest, encrypted_pins
from routing.openai.routes import Route
from routing.plans import AskingPlan, BalancedPlan, PinnedPlan, Plan
from routing.trail import Trail
from routing.upstream.classify import Outcome


class Gateway:
    """Answers requests from the routing table in memory."""

    def __init__(
        self,
        live: LiveTable,
        board: HealthBoard,
        failover: Failover,
        affinity: Affinity,
        caching: Caching,
        rng: random.Random,
    ) -> None:
        self._live = live
        self._board = board
        self._affinity = affinity
        self._caching = caching
        self._rng = rng
        self._failover = failover
        self._rotations: dict[str, Rotation] = {}
        self._rotations_of: RoutingTable | None = None

    def at_hand(self, route: Route, scope: str, body: bytes, trail: Trail) -> Kept | None:
        """The answer to a body that was answered from this worker's memory before, if it is still there."""
        kept = self._caching.at_hand(route, scope, body, self._live.table, trail)
        if kept is not None:
            self._remember_again(scope, kept)
        return kept

    async def answer(self, request: LLMRequest, presence: Presence) -> Answer:
        """What is passed on; leaving it (`with`) frees everything. presence: of the client. Raises Refusal."""
        table = self._live.table
        if request.route.kind == "item":
            request.trail.revision = table.revision
            self._caching.bypassed(request, "route")
            return await self._asked(request, None, table)
        group = table.groups.get(request.model)
        if group is None:
            raise NotFound(
                f"The model {request.model!r} does not exist here. GET /v1/models lists those that do.",
                param="model",
                code="model_not_found",
            )
        request.trail.group, request.trail.revision = group.name, table.revision
        routed_at = self._board.clock()
        answer = await self._caching.answer(
            request, group, table, presence, lambda: self._asked_after(routed_at, request, group, table)
        )
        if isinstance(answer, Kept):
            self._remember_again(request.scope, answer)
        return answer

    def _asked_after(
        self, routed_at: float, request: LLMRequest, group: Group, table: RoutingTable
    ) -> Coroutine[Any, Any, Attempt]:
        """routed_at: since when it may have waited for an equal request's answer, which did not come."""
        waited = self._board.clock() - routed_at
        if waited > 0.1 and not request.stream and all(waited >= one.timeouts.http_s for one in group.endpoints):
            raise UpstreamTimedOut("An equal request was waited for, and not answered in time. Try again.")
        return self._asked(request, group, table)

    async def _asked(self, request: LLMRequest, group: Group | None, table: RoutingTable) -> Attempt:
        if group is not None and not request.pins:
            plan: Plan = self._balanced(group, table)
        else:
            plan = await self._plan_by_pins(request, group, table)
        course = Course(request, table, group, plan)
        attempt = await self._failover.first_good(course)
        if request.route.events == "responses" or request.pins:
            self._remember(attempt, table)
        return attempt

    def _balanced(self, group: Group, table: RoutingTable) -> Plan:
        return BalancedPlan([self._rotation(name, table) for name in group.chain], self._board)

    def _rotation(self, name: str, table: RoutingTable) -> Rotation:
        if self._rotations_of is not table:
            self._rotations, self._rotations_of = {}, table
        rotation = self._rotations.get(name)
        if rotation is None:
            rotation = self._rotations[name] = Rotation(table.groups[name], self._board, self._rng)
        return rotation

    async def _plan_by_pins(self, request: LLMRequest, group: Group | None, table: RoutingTable) -> Plan:
        """Back to the endpoint that made what the request refers to; where nobody remembers, whoever knows it."""
        endpoints = group.endpoints if group is not None else tuple(table.endpoints.values())
        makers = [maker for maker in await self._affinity.makers(request.scope, request.pins) if maker]
        accounts = {table.endpoints[maker].account for maker in makers if maker in table.endpoints}
        if len(accounts) > 1:
            raise unknown_id()
        if not accounts:
            return AskingPlan(endpoints, self._board)
        account = accounts.pop()
        same = [endpoint for endpoint in endpoints if endpoint.account == account]
        pinned = next((endpoint for endpoint in same if endpoint.id in makers), same[0] if same else None)
        return PinnedPlan(pinned, endpoints, self._board) if pinned else AskingPlan(endpoints, self._board)

    def _remember_again(self, scope: str, answer: Kept) -> None:
        """Who made what a kept answer holds."""
        if (entry := answer.entry).pins:
            self._affinity.keep(scope, entry.pins, entry.endpoint_id, answer.table.settings.response_affinity_ttl)

    def _remember(self, attempt: Attempt, table: RoutingTable) -> None:
        """Keeps who made the response, the conversation's endpoint, and encrypted items, also those still to come."""
        request = attempt.course.request
        if attempt.verdict is not None and attempt.verdict.outcome is not Outcome.SUCCESS:
            return
        ttl, scope, endpoint_id = table.settings.response_affinity_ttl, request.scope, attempt.endpoint.id

        def keep(body: bytes) -> None:
            made = attempt.relay.response_id if attempt.relay else attempt.facts and attempt.facts.id
            self._affinity.keep(scope, [*([made] if made else []), *encrypted_pins(body)], endpoint_id, ttl)

        self._affinity.keep(scope, request.pins, endpoint_id, ttl)
        keep(attempt.body)
        attempt.observe = keep
