"""A probe is over when it is answered, and nothing in the store can keep an endpoint from its next one."""

import asyncio
from typing import Any

import pytest

from routing.balancing.health import Availability, Reason
from tests.unit.balancing.test_shared_health import Fleet, in_fleet
from tests.unit.failover.scene import Scene, play, request
from tests.unit.memory_upstream import CHUNK, DONE, LAST, status, streams
from tests.unit.tables import model


def test_a_stream_that_was_a_probe_does_not_hold_up_the_next_probe():
    @play(model("a"), model("b"), cooldown_time=10)
    async def scenario(scene: Scene) -> None:
        scene.script(a=streams(CHUNK, (1000.0, LAST), DONE))
        health = scene.board.of(scene["a"])
        scene.board.cool(scene["a"], 10, Reason.FAILURE)
        await asyncio.sleep(11)
        scene.board.grant_probe(scene["a"].id, 3)
        probe = asyncio.ensure_future(scene.ask(request(stream=True)))
        await asyncio.sleep(1)
        assert (health.in_flight, health.probing, scene.state("a")) == (1, 0, Availability.AVAILABLE)
        scene.board.cool(scene["a"], 10, Reason.FAILURE)
        await asyncio.sleep(11)
        scene.board.grant_probe(scene["a"].id, 3)
        assert scene.state("a") is Availability.PROBE
        scene.script(a=status(400))
        assert (await scene.ask()).by == "a"
        await probe


def test_an_error_that_never_ends_is_not_awaited_for_as_long_as_a_stream():
    @play(model("a"), http_timeout=20, stream_timeout=3600, num_retries=0)
    async def scenario(scene: Scene) -> None:
        endless = status(500)
        scene.script(a=type(endless)(500, headers=endless.headers, pieces=((0.0, b"{"), (3000.0, b"}"))))
        got = await scene.ask(request(stream=True))
        assert (got.status, got.seconds) == (502, 20.0)


@pytest.mark.parametrize("message", [b'["x","cooled","\xff\xfe",1,5,"failure"]', b"[" * 100_000])
def test_unreadable_news_end_no_task(message):
    async def scenario(fleet: Fleet) -> None:
        fleet.store.set("llmproxy:health:cooldown:" + fleet.endpoint.id, message, "PX", 60_000)
        board = await fleet.worker()
        fleet.store.publish("any", message)
        await asyncio.sleep(0.01)
        assert not fleet.tasks[0].done()
        assert fleet.state(board) is Availability.AVAILABLE

    in_fleet(scenario)


def test_a_store_that_refuses_to_write_keeps_no_endpoint_out():
    async def scenario(fleet: Fleet) -> None:
        board = await fleet.worker()
        board.cool(fleet.endpoint, 1, Reason.FAILURE)
        await asyncio.sleep(1.1)

        def refused(*_: Any) -> Exception:
            return ValueError("READONLY")

        fleet.store.set = refused  # type: ignore[method-assign, assignment]
        board.ask_for_probe(fleet.endpoint, board.clock())
        await asyncio.sleep(0.01)
        assert fleet.state(board) is Availability.PROBE

    in_fleet(scenario)
