"""How many attempts, at whom, and how long between them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.upstream.errors import ConnectFailed, ConnectionReset, PoolFull
from tests.unit.failover.scene import Scene, play, request, response, three
from tests.unit.memory_upstream import CHUNK, GOOD_STREAM, NEVER, Says, fails, status, streams
from tests.unit.tables import model

TROUBLE = {
    "good": Says(),
    "slow": Says(head_after_s=35.0),
    "silent": Says(head_after_s=NEVER),
    "500": status(500),
    "503 soon": status(503, (b"retry-after", b"3")),
    "503 later": status(503, (b"retry-after", b"5")),
    "429": status(429),
    "429 soon": status(429, (b"retry-after", b"2")),
    "400": status(400),
    "404": status(404),
    "refused": fails(ConnectFailed()),
    "reset": fails(ConnectionReset()),
    "full": fails(PoolFull()),
    "empty": Says(body=b""),
}


@given(
    scripts=st.lists(st.lists(st.sampled_from(sorted(TROUBLE)), min_size=1, max_size=5), min_size=1, max_size=5),
    retries=st.integers(0, 5),
    once_only=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_budget_of_a_request_holds_whatever_upstreams_do(scripts, retries, once_only, seed):
    names = "abcde"[: len(scripts)]

    @play(*(model(name) for name in names), num_retries=retries, http_timeout=40, seed=seed)
    async def _(scene: Scene) -> None:
        for name, script in zip(names, scripts, strict=True):
            scene.script(**{name: [TROUBLE[kind] for kind in script]})
            scene.script(**{name: Says()})
        got = await scene.ask(response(background=True) if once_only else request())
        said = [list(script) for script in scripts]
        history = [
            (name, said[names.index(name)].pop(0) if said[names.index(name)] else "good") for name in scene.order
        ]
        counted = [(name, kind) for name, kind in history if kind != "full"]
        assert len(counted) <= 1 + retries
        assert got.attempts == len(counted)
        distinct = list(dict.fromkeys(scene.order))
        assert scene.order[: len(distinct)] == distinct, "endpoints not yet tried come first"
        assert got.seconds <= 2 * 40 + 1e-6, "waits and attempts end within twice http_timeout"
        for name, kind in history[:-1]:
            assert kind not in ("good", "slow", "400"), "nothing comes after an answer that is passed on"
            if kind in ("silent", "503 later", "full", "404"):
                assert scene.order.count(name) <= 1 + script_index(scripts, names, name, kind)
        assert sum(kind == "silent" for _, kind in history) <= 2
        if once_only:
            assert all(
                kind in ("503 soon", "503 later", "429", "429 soon", "refused", "full") for _, kind in history[:-1]
            )
        started = [
            name for name, kind in counted if kind in ("500", "503 soon", "503 later", "silent", "empty", "reset")
        ]
        limited = [name for name, kind in counted if kind in ("429", "429 soon", "refused")]
        assert len(set(scene.cooled()) - set(limited)) <= min(1, len(started))


def script_index(scripts, names, name, kind):
    """How often the endpoint was asked before it said so."""
    return scripts[names.index(name)].index(kind)


def test_attempts_are_one_more_than_retries_over_all_groups():
    other = {"model_group": "other", "models": [model("c"), model("d"), model("e")]}

    @play(model("a"), model("b"), group={"fallbacks": ["other"], "num_retries": 2}, others=(other,))
    async def _(scene: Scene) -> None:
        scene.script(**{name: status(500) for name in "abcde"})
        got = await scene.ask()
        assert (got.status, got.attempts) == (500, 3)
        assert scene.order[:2] == ["a", "b"]
        assert scene.order[2] in "cde"


def test_without_retries_there_is_one_attempt():
    @play(*three(), num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=status(500))
        assert (await scene.ask()).attempts == 1


def test_fallback_groups_are_asked_in_order_when_nothing_of_the_first_is_left():
    groups = ({"model_group": "second", "models": [model("b")]}, {"model_group": "third", "models": [model("c")]})

    @play(model("a"), group={"fallbacks": ["second", "third"]}, others=groups)
    async def _(scene: Scene) -> None:
        scene.script(a=status(500), b=status(500))
        got = await scene.ask()
        assert (got.by, scene.order) == ("c", ["a", "b", "c"])


def test_a_fallback_group_gets_its_own_model_name():
    @play(model("a"), group={"fallbacks": ["second"]}, others=({"model_group": "second", "models": [model("b")]},))
    async def _(scene: Scene) -> None:
        scene.script(a=fails(ConnectFailed()))
        await scene.ask()
        assert b'"model": "b-model"' in scene.upstreams["b"].asked[0].body.replace(b'":"', b'": "')


def test_a_wholly_cooling_group_leaves_first_attempts_to_its_fallback():
    @play(model("a"), group={"fallbacks": ["second"]}, others=({"model_group": "second", "models": [model("b")]},))
    async def _(scene: Scene) -> None:
        scene.script(a=fails(ConnectFailed()))
        await scene.ask()
        scene.order.clear()
        got = await scene.ask()
        assert (scene.order, got.attempts) == (["b"], 1)


def test_weight_zero_serves_after_all_weighted_endpoints():
    @play(model("spare", 0), model("a"), model("b"))
    async def _(scene: Scene) -> None:
        scene.script(a=status(500), b=status(500))
        got = await scene.ask()
        assert (got.by, scene.order[-1], got.attempts) == ("spare", "spare", 3)


@pytest.mark.parametrize("endpoints", ["a", "abc"])
def test_waits_begin_at_100_ms_and_double_up_to_2_s(endpoints):
    @play(*(model(name) for name in endpoints), num_retries=len(endpoints) + 7)
    async def _(scene: Scene) -> None:
        scene.script(**{name: status(500) for name in endpoints})
        await scene.ask()
        times = sorted(asked.at for upstream in scene.upstreams.values() for asked in upstream.asked)
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert gaps[: len(endpoints) - 1] == [0.0] * (len(endpoints) - 1)
        for gap, longest in zip(gaps[len(endpoints) - 1 :], [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], strict=True):
            assert longest / 2 <= gap <= longest


def test_waits_are_jittered():
    seen = set()
    for seed in range(5):

        @play(model("a"), num_retries=1, seed=seed)
        async def _(scene: Scene) -> None:
            scene.script(a=status(500))
            seen.add((await scene.ask()).seconds)

    assert len(seen) == 5


@pytest.mark.parametrize(("header", "floor"), [((b"retry-after", b"3"), 3.0), ((b"retry-after-ms", b"1500"), 1.5)])
@pytest.mark.parametrize("number", [429, 503])
def test_a_short_retry_after_is_the_floor_of_the_wait(header, floor, number):
    @play(model("a"))
    async def _(scene: Scene) -> None:
        scene.script(a=[status(number, header)])
        got = await scene.ask()
        assert (got.status, got.attempts) == (200, 2)
        assert got.seconds == pytest.approx(floor)


def test_the_floor_of_the_wait_is_that_of_the_endpoint_that_is_asked_again():
    for seed in range(8):

        @play(model("a"), model("b"), seed=seed, allowed_fails=9)
        async def _(scene: Scene) -> None:
            scene.script(a=[status(503, (b"retry-after", b"4"))], b=[status(500)])
            got = await scene.ask()
            assert got.seconds == pytest.approx(4.0) if got.by == "a" else got.seconds < 0.2


@pytest.mark.parametrize("number", [429, 503])
def test_a_long_retry_after_ends_the_endpoints_part(number):
    @play(model("a"))
    async def _(scene: Scene) -> None:
        scene.script(a=status(number, (b"retry-after", b"5")))
        got = await scene.ask()
        assert (got.status, got.attempts, got.seconds) == (number, 1, 0.0)


def test_with_one_cooled_and_one_healthy_left_the_healthy_one_is_asked_again():
    for seed in range(10):

        @play(model("a"), model("b"), seed=seed)
        async def _(scene: Scene) -> None:
            scene.script(a=[status(500)], b=[status(500)])
            got = await scene.ask()
            assert (scene.cooled(), got.by) == (["a"], "b")


def test_the_request_that_started_the_cooldown_may_use_its_own_attempts():
    @play(model("a"))
    async def _(scene: Scene) -> None:
        scene.script(a=[fails(ConnectFailed()), fails(ConnectFailed())])
        got = await scene.ask()
        assert (got.status, got.attempts) == (200, 3)
        assert scene.cooled() == []


def test_a_request_does_not_repeat_an_endpoint_that_another_request_cooled():
    @play(model("a"), allowed_fails=9)
    async def _(scene: Scene) -> None:
        course = scene.course()
        pick = course.plan.first(scene.clock())
        course.begin(pick.endpoint, scene.clock())
        assert course.repeatable(scene.rng) is pick.endpoint
        scene.board.cool(pick.endpoint, 60, "failure")
        assert course.repeatable(scene.rng) is None


@pytest.mark.parametrize("stream", [False, True])
def test_silence_is_given_up_for_another_endpoint_only_once(stream):
    @play(*three(), http_timeout=40, first_event_timeout=10, stream_timeout=100, idle_timeout=1000)
    async def _(scene: Scene) -> None:
        silent = Says(head_after_s=NEVER)
        scene.script(a=silent, b=silent, c=GOOD_STREAM if stream else Says())
        got = await scene.ask(request(stream=stream))
        assert (got.status, got.code, got.attempts) == (504, "upstream_timeout", 2)
        assert scene.asked("c") == 0
        assert got.seconds == pytest.approx(10 + 100 if stream else 80)


def test_the_last_candidate_is_not_cut_by_the_first_event_timeout():
    @play(model("a"), first_event_timeout=10)
    async def _(scene: Scene) -> None:
        scene.script(a=streams((200.0, CHUNK), *[piece for _, piece in GOOD_STREAM.pieces[1:]]))
        got = await scene.ask(request(stream=True))
        assert (got.status, got.seconds) == (200, pytest.approx(200))


def test_a_silent_last_candidate_is_cut_by_the_idle_timeout():
    @play(model("a"), first_event_timeout=10, idle_timeout=30)
    async def _(scene: Scene) -> None:
        scene.script(a=streams((NEVER, CHUNK)))
        got = await scene.ask(request(stream=True))
        assert (got.code, got.seconds) == ("upstream_timeout", pytest.approx(30))


def test_comments_do_not_put_off_the_first_event_timeout():
    @play(model("a"), model("b"), first_event_timeout=10)
    async def _(scene: Scene) -> None:
        scene.script(a=streams(*[(3.0, b": ping\n\n")] * 9, CHUNK), b=GOOD_STREAM)
        got = await scene.ask(request(stream=True))
        assert (got.by, got.seconds) == ("b", pytest.approx(10))


def test_json_is_not_cut_by_the_first_event_timeout():
    @play(*three(), first_event_timeout=1, http_timeout=50)
    async def _(scene: Scene) -> None:
        scene.script(a=Says(head_after_s=49.0))
        assert (await scene.ask()).by == "a"


def test_no_json_attempt_goes_on_after_twice_http_timeout():
    @play(*three(), http_timeout=40, num_retries=5)
    async def _(scene: Scene) -> None:
        late = Says(500, head_after_s=30.0)
        scene.script(a=late, b=late, c=late)
        got = await scene.ask()
        assert got.seconds == pytest.approx(80)
        assert [asked.limits.deadline - asked.at for asked in scene.upstreams["a"].asked] == [40]


@pytest.mark.parametrize(
    ("says", "goes_on"),
    [("429", True), ("503 soon", True), ("refused", True), ("full", True), ("500", False), ("reset", False),
     ("silent", False), ("empty", False), ("404", False)],
)  # fmt: skip
@pytest.mark.parametrize("fields", [{"background": True}, {"conversation": "conv_1"}, {"conversation": {"id": "c"}}])
def test_requests_that_must_not_run_twice(says, goes_on, fields):
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=TROUBLE[says])
        got = await scene.ask(response(**fields))
        assert (len(scene.order) > 1) is goes_on
        assert (got.status == 200) is goes_on
        assert all(asked.fresh for upstream in scene.upstreams.values() for asked in upstream.asked)


@pytest.mark.parametrize("fields", [{"background": False}, {"background": None}, {"conversation": None}, {}])
def test_requests_that_may_run_twice(fields):
    @play(*three())
    async def _(scene: Scene) -> None:
        scene.script(a=status(500))
        assert (await scene.ask(response(**fields))).attempts == 2


def test_the_last_upstream_answer_is_what_the_client_gets():
    @play(model("a"), model("b"), num_retries=1)
    async def _(scene: Scene) -> None:
        scene.script(a=status(500, message="one"), b=status(502, message="two"))
        got = await scene.ask()
        assert (got.status, got.body) == (502, scene.upstreams["b"].always.body)


def test_an_answer_counts_for_more_than_a_later_silence():
    @play(model("a"), model("b"), num_retries=1)
    async def _(scene: Scene) -> None:
        scene.script(a=status(500, message="one"), b=fails(ConnectFailed()))
        got = await scene.ask()
        assert (got.status, got.body) == (500, scene.upstreams["a"].always.body)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (fails(ConnectFailed()), (502, "upstream_error")),
        (Says(body=b""), (502, "upstream_error")),
        (Says(503, b""), (502, "upstream_error")),
        (status(401), (502, "upstream_auth_failed")),
        (status(403), (502, "upstream_auth_failed")),
        (Says(403, b"<html>"), (502, "upstream_auth_failed")),
        (status(404, code="model_not_found"), (502, "upstream_error")),
        (Says(head_after_s=NEVER), (504, "upstream_timeout")),
    ],
)
def test_errors_of_ours_after_an_attempt_invite_no_retry(last, expected):
    @play(model("a"), num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=last)
        got = await scene.ask()
        assert (got.status, got.code) == expected
        assert got.refusal.after_attempt
        assert got.attempts == 1


def test_refused_credentials_are_named_even_if_the_next_endpoint_gave_no_answer():
    @play(model("a"), model("b"), num_retries=1)
    async def _(scene: Scene) -> None:
        scene.script(a=status(401), b=fails(ConnectFailed()))
        assert (await scene.ask()).code == "upstream_auth_failed"


def test_an_empty_429_stays_a_429():
    @play(model("a"), num_retries=0)
    async def _(scene: Scene) -> None:
        scene.script(a=Says(429, b"", ((b"retry-after", b"9"),)))
        assert (await scene.ask()).status == 429
