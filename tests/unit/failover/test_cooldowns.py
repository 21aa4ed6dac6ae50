"""When an endpoint cools, for how long, who probes it, and what clients hear when nothing is left."""

import asyncio

import pytest

from routing.balancing.health import Availability, Reason
from routing.upstream.errors import ConnectFailed, ConnectionReset
from tests.unit.failover.scene import Scene, play, request, three
from tests.unit.memory_upstream import CHUNK, GOOD_STREAM, NEVER, Says, fails, status, streams
from tests.unit.tables import model


@pytest.mark.parametrize(
    "says",
    [status(500), status(401), Says(body=b""), Says(head_after_s=NEVER), fails(ConnectionReset()), Says(404, b"no")],
    ids=["500", "401", "empty", "silence", "reset", "bare 404"],
)
def test_one_poisonous_prompt_starts_at_most_one_cooldown(says):
    @play(*three(), num_retries=9)
    async def _(scene: Scene) -> None:
        scene.script(a=says, b=says, c=says)
        await scene.ask()
        assert len(scene.cooled()) <= 1
        assert sum(scene.asked(name) for name in "abc") > 1


def test_connect_errors_cool_every_endpoint_that_has_them():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=fails(ConnectFailed()), b=fails(ConnectFailed()))
        assert (await scene.ask()).by == "c"
        assert scene.cooled() == ["a", "b"]


def test_rate_limits_cool_every_endpoint_that_has_them():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=status(429), b=status(429))
        assert (await scene.ask()).by == "c"
        assert scene.cooled() == ["a", "b"]


def test_a_rate_limit_does_not_use_up_the_one_cooldown_of_a_request():
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=status(429), b=status(500))
        await scene.ask()
        assert scene.cooled() == ["a", "b"]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (((b"retry-after", b"20"),), 20),
        (((b"retry-after", b"0"),), 1),
        (((b"retry-after", b"-1"),), 1),
        (((b"retry-after", b"1e9"),), 300),
        (((b"retry-after-ms", b"20000"), (b"retry-after", b"99")), 20),
        (((b"retry-after", b"soon"),), 45),
        ((), 45),
    ],
)
def test_a_rate_limit_cools_as_long_as_it_says(headers, seconds):
    @play(*three(), cooldown_time=45)
    async def _(scene: Scene) -> None:
        scene.script(a=status(429, *headers))
        await scene.ask()
        health = scene.board.of(scene["a"])
        assert health.until - scene.clock() == pytest.approx(seconds)
        assert health.reason is Reason.RATE_LIMIT


@pytest.mark.parametrize("fails_allowed", [1, 2, 3])
def test_failures_in_a_row_start_a_cooldown_at_allowed_fails(fails_allowed):
    @play(model("a"), model("b"), allowed_fails=fails_allowed, cooldown_time=30)
    async def _(scene: Scene) -> None:
        scene.script(a=status(500))
        for _request in range(2 * fails_allowed - 1):
            assert scene.state("a") is Availability.AVAILABLE
            await scene.ask()
        assert scene.state("a") is Availability.COOLING
        assert scene.board.of(scene["a"]).until == pytest.approx(scene.clock() + 30)


@pytest.mark.parametrize(
    "says",
    [Says(body=b"{"), streams(CHUNK)],
    ids=["JSON cut short after its head", "a stream cut after its first event"],
)
def test_answers_that_begin_well_and_break_reach_the_threshold(says):
    @play(model("a"), model("b"), allowed_fails=2, num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=says, b=says)
        for _request in range(4):
            await scene.ask(request(stream=says.pieces is not None))
        assert scene.cooled() != []


@pytest.mark.parametrize(("allowed_fails", "needed"), [(1, 3), (2, 3), (3, 3), (5, 5)])
def test_the_last_available_endpoint_needs_three_status_failures(allowed_fails, needed):
    @play(model("a"), allowed_fails=allowed_fails, num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=status(500))
        for _request in range(needed - 1):
            await scene.ask()
            assert scene.cooled() == []
        await scene.ask()
        assert scene.cooled() == ["a"]


def test_the_last_available_endpoint_cools_for_a_connect_error_at_once():
    @play(model("a"), num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=fails(ConnectFailed()))
        await scene.ask()
        assert scene.cooled() == ["a"]


def test_an_endpoint_of_a_fallback_group_makes_it_not_the_last():
    @play(model("a"), group={"fallbacks": ["other"]}, others=({"model_group": "other", "models": [model("b")]},))
    async def _(scene: Scene) -> None:
        scene.script(a=status(500))
        await scene.ask()
        assert scene.cooled() == ["a"]


def test_a_failure_in_a_cooldown_that_began_during_the_attempt_does_not_lengthen_it():
    @play(model("a"), model("b"), cooldown_time=60)
    async def _(scene: Scene) -> None:
        scene.script(a=[Says(500, head_after_s=20.0), status(500)])
        slow = asyncio.get_running_loop().create_task(scene.ask())
        await asyncio.sleep(1)
        await scene.ask()
        await scene.ask()
        until = scene.board.of(scene["a"]).until
        await slow
        assert scene.board.of(scene["a"]).until == until


def test_a_slow_success_that_began_before_the_cooldown_does_not_end_it():
    @play(model("a"), model("b"))
    async def _(scene: Scene) -> None:
        scene.script(a=[Says(head_after_s=20.0), status(500)])
        slow = asyncio.get_running_loop().create_task(scene.ask())
        await asyncio.sleep(1)
        await scene.ask()
        await scene.ask()
        await slow
        assert scene.state("a") is Availability.COOLING


async def cool(scene: Scene, name: str = "a") -> None:
    scene.board.cool(scene[name], 10, Reason.FAILURE)


def test_after_the_cooldown_one_probe_goes_through_and_heals():
    @play(model("a"), model("b"))
    async def _(scene: Scene) -> None:
        await cool(scene)
        await asyncio.sleep(10)
        scene.board.grant_probe(scene["a"].id, 3)
        scene.script(a=Says(head_after_s=5.0), b=Says(head_after_s=1.0))
        tasks = [asyncio.get_running_loop().create_task(scene.ask()) for _ in range(5)]
        gots = await asyncio.gather(*tasks)
        assert [got.by for got in gots] == ["a", "b", "b", "b", "b"]
        assert scene.state("a") is Availability.AVAILABLE


def test_a_failed_probe_cools_again_and_the_request_goes_elsewhere():
    @play(model("a"), model("b"), cooldown_time=60)
    async def _(scene: Scene) -> None:
        await cool(scene)
        await asyncio.sleep(10)
        scene.board.grant_probe(scene["a"].id, 3)
        scene.script(a=status(500))
        got = await scene.ask()
        assert (got.by, scene.order) == ("b", ["a", "b"])
        assert scene.state("a") is Availability.COOLING
        assert scene.board.of(scene["a"]).until == pytest.approx(scene.clock() + 60)


@pytest.mark.parametrize("names", ["a", "ab"])
def test_a_failed_probe_cools_again_whatever_the_threshold(names):
    """This worker may know the cooldown from others, without the failures that led to it."""

    @play(*(model(name) for name in names), allowed_fails=5, num_retries=1)
    async def _(scene: Scene) -> None:
        await cool(scene)
        await asyncio.sleep(10)
        scene.board.grant_probe(scene["a"].id, 3)
        scene.script(a=status(500))
        await scene.ask()
        assert scene.state("a") is Availability.COOLING
        assert scene.asked("a") == 1


def test_a_probe_that_is_refused_for_its_own_content_heals():
    @play(model("a"), model("b"))
    async def _(scene: Scene) -> None:
        await cool(scene)
        await asyncio.sleep(10)
        scene.board.grant_probe(scene["a"].id, 3)
        scene.script(a=status(400))
        assert (await scene.ask()).status == 400
        assert scene.state("a") is Availability.AVAILABLE


def test_the_first_event_of_a_stream_heals():
    @play(model("a"), model("b"))
    async def _(scene: Scene) -> None:
        await cool(scene)
        await asyncio.sleep(10)
        scene.board.grant_probe(scene["a"].id, 3)
        scene.script(a=streams(CHUNK, *((60.0, piece) for _, piece in GOOD_STREAM.pieces[1:])))
        asking = asyncio.get_running_loop().create_task(scene.ask(request(stream=True)))
        await asyncio.sleep(1)
        assert scene.state("a") is Availability.AVAILABLE
        await asking


def test_a_wholly_cooling_group_lets_one_request_a_second_through():
    @play(*three(), num_retries=3)
    async def _(scene: Scene) -> None:
        scene.script(**{name: fails(ConnectFailed()) for name in "abc"})
        await scene.ask()
        before, refused = len(scene.order), 0
        for _ in range(100):
            got = await scene.ask()
            refused += got.status == 503
            assert got.seconds == 0.0
            await asyncio.sleep(0.1)
        assert len(scene.order) - before == 10
        assert refused == 90
        assert got.refusal.retry_after == 1


def test_an_outage_ends_within_a_second_of_the_upstreams_return():
    @play(*three(), cooldown_time=600)
    async def _(scene: Scene) -> None:
        scene.script(**{name: fails(ConnectFailed()) for name in "abc"})
        for _ in range(50):
            await scene.ask()
            await asyncio.sleep(0.1)
        scene.script(**{name: Says() for name in "abc"})
        seconds = 0.0
        while (await scene.ask()).status != 200:
            await asyncio.sleep(0.1)
            seconds += 0.1
        assert seconds <= 1.01
        assert (await scene.ask()).status == 200


def test_a_rate_limited_group_is_429_with_the_earliest_retry_after():
    @play(*three())
    async def _(scene: Scene) -> None:
        for name, seconds in (("a", 40), ("b", 20), ("c", 30)):
            scene.board.cool(scene[name], seconds, Reason.RATE_LIMIT)
        got = await scene.ask()
        assert (got.status, got.code, got.refusal.retry_after, got.attempts) == (429, "rate_limit_exceeded", 20, 0)
        assert not got.refusal.after_attempt


def test_rate_limits_and_failures_together_are_503_until_the_earliest_recovery():
    @play(*three())
    async def _(scene: Scene) -> None:
        for name, seconds, reason in (
            ("a", 40, Reason.RATE_LIMIT),
            ("b", 20, Reason.FAILURE),
            ("c", 30, Reason.FAILURE),
        ):
            scene.board.cool(scene[name], seconds, reason)
        got = await scene.ask()
        assert (got.status, got.code, got.refusal.retry_after, got.attempts) == (503, "no_endpoint_available", 20, 0)


@pytest.mark.parametrize(
    "endpoint", [model("a", enabled=False), model("a", params={"api_key": "os.environ/NOT_SET"})], ids=["off", "no key"]
)
def test_nothing_configured_is_503_at_once(endpoint):
    @play(endpoint)
    async def _(scene: Scene) -> None:
        got = await scene.ask()
        assert (got.status, got.code, got.seconds) == (503, "no_endpoint_available", 0.0)
        assert got.refusal.retry_after >= 1
        assert scene.order == []


def test_a_group_without_endpoints_is_503():
    @play()
    async def _(scene: Scene) -> None:
        assert (await scene.ask()).code == "no_endpoint_available"


def test_a_misconfigured_endpoint_is_never_asked():
    @play(model("a", params={"api_key": "os.environ/NOT_SET"}), model("b"))
    async def _(scene: Scene) -> None:
        scene.script(b=status(500))
        await scene.ask()
        assert set(scene.order) == {"b"}
