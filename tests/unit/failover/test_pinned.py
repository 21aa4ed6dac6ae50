"""Requests that belong to one endpoint, and those of which nobody remembers where they belong."""

import pytest

from routing.balancing.health import Availability, Reason
from routing.openai.request import LLMRequest
from routing.openai.routes import RETRIEVE
from routing.upstream.errors import ConnectFailed
from tests.unit.failover.scene import Scene, play, response, three
from tests.unit.memory_upstream import NEVER, Says, fails, status
from tests.unit.tables import model

UNKNOWN = status(400, code="previous_response_not_found")
FOLLOW_UP = response(previous_response_id="resp_1")


def item() -> LLMRequest:
    return LLMRequest(RETRIEVE, "GET", b"", pins=("resp_1",), operation="responses/resp_1")


def test_a_pinned_request_is_retried_on_its_endpoint_only():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(b=[status(500), status(503)])
        got = await scene.ask(FOLLOW_UP, scene.pinned("b"))
        assert (got.by, got.attempts, scene.order) == ("b", 3, ["b", "b", "b"])


def test_a_pinned_request_makes_no_more_attempts_than_others():
    @play(*three(), num_retries=2)
    async def _(scene: Scene) -> None:
        scene.script(b=status(500))
        got = await scene.ask(FOLLOW_UP, scene.pinned("b"))
        assert (got.status, got.attempts) == (500, 3)


def test_a_pinned_request_is_not_retried_for_its_own_mistakes():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(b=status(400))
        assert (await scene.ask(FOLLOW_UP, scene.pinned("b"))).attempts == 1


def test_a_pinned_request_ignores_a_failure_cooldown():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.board.cool(scene["b"], 60, Reason.FAILURE)
        assert (await scene.ask(FOLLOW_UP, scene.pinned("b"))).by == "b"


def test_a_pinned_request_respects_a_rate_limit():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.board.cool(scene["b"], 33, Reason.RATE_LIMIT)
        got = await scene.ask(FOLLOW_UP, scene.pinned("b"))
        assert (got.status, got.code, got.refusal.retry_after) == (429, "rate_limit_exceeded", 33)
        assert scene.order == []


def test_a_pinned_request_gets_through_after_the_rate_limit():
    @play(*three())
    async def _(scene: Scene) -> None:
        import asyncio

        scene.board.cool(scene["b"], 33, Reason.RATE_LIMIT)
        await asyncio.sleep(33)
        assert (await scene.ask(FOLLOW_UP, scene.pinned("b"))).by == "b"


def test_a_pinned_request_to_a_switched_off_endpoint_says_so():
    @play(model("a"), model("b", enabled=False))
    async def _(scene: Scene) -> None:
        got = await scene.ask(FOLLOW_UP, scene.pinned("b"))
        assert (got.status, got.code) == (503, "no_endpoint_available")


def test_an_unknown_id_is_asked_around_until_somebody_knows_it():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=UNKNOWN, b=UNKNOWN)
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert (got.status, got.by, scene.order) == (200, "c", ["a", "b", "c"])
        assert scene.cooled() == []
        assert scene.counts("a") == {"rejected": 1}


def test_an_id_that_nobody_knows_is_400():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=UNKNOWN, b=UNKNOWN, c=UNKNOWN)
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert (got.status, got.code) == (400, "previous_response_not_found")
        assert [scene.asked(name) for name in "abc"] == [1, 1, 1]


def test_a_stored_response_that_nobody_knows_is_404():
    @play(*three())
    async def _(scene: Scene) -> None:
        unknown = status(404, code="invalid_request_error")
        scene.script(a=unknown, b=unknown, c=unknown)
        got = await scene.ask(item(), scene.asking())
        assert got.status == 404
        assert [scene.asked(name) for name in "abc"] == [1, 1, 1]


def test_more_endpoints_than_attempts_are_all_asked():
    @play(*(model(name) for name in "abcdef"), num_retries=1)
    async def _(scene: Scene) -> None:
        scene.script(**dict.fromkeys("abcde", UNKNOWN))
        assert (await scene.ask(FOLLOW_UP, scene.asking())).by == "f"


def test_endpoints_that_share_an_account_are_asked_once():
    shared = {"base_url": "https://same.example/v1", "api_key": "sk-the-same-key"}

    @play(model("a", params=shared), model("b", params=shared), model("c"))
    async def _(scene: Scene) -> None:
        scene.script(a=UNKNOWN, b=UNKNOWN, c=UNKNOWN)
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert (got.status, scene.order) == (400, ["a", "c"])


@pytest.mark.parametrize("trouble", [status(500), fails(ConnectFailed()), Says(head_after_s=NEVER), status(429)])
def test_an_id_is_not_declared_unknown_while_somebody_could_not_answer(trouble):
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=UNKNOWN, b=trouble, c=UNKNOWN)
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert got.code != "previous_response_not_found"
        assert got.body != UNKNOWN.body


def test_asking_around_makes_no_mistake_of_the_request_into_a_tour():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=status(422))
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert (got.status, scene.order) == (422, ["a"])


def test_asking_around_leaves_switched_off_endpoints_out():
    @play(model("a", enabled=False), model("b"))
    async def _(scene: Scene) -> None:
        scene.script(b=UNKNOWN)
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert (got.status, scene.order) == (400, ["b"])


def test_an_unknown_id_does_not_end_a_cooldown_by_itself():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.board.cool(scene["a"], 60, Reason.FAILURE)
        scene.script(b=UNKNOWN, c=UNKNOWN)
        got = await scene.ask(FOLLOW_UP, scene.asking())
        assert scene.state("a") is Availability.COOLING
        assert got.status == 503, "the one that could know it cools"
