"""Who is next in one group: turns, probes, weight 0, and the last resort."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.balancing.board import HealthBoard, Lease
from routing.balancing.health import Availability, Reason
from routing.balancing.rotation import Rotation
from tests.unit.balancing.test_board import Clock, Heard
from tests.unit.tables import group_of, model


class Scene:
    def __init__(self, *weights: int, strategy: str = "weighted_round_robin") -> None:
        self.clock = Clock()
        self.heard = Heard()
        self.board = HealthBoard(self.clock)
        self.board.announcer = self.heard
        models = [model("abcdefgh"[index], weight) for index, weight in enumerate(weights)]
        self.group = group_of(*models, strategy=strategy)
        self.rotation = Rotation(self.group, self.board, random.Random(1))

    def __getitem__(self, name):
        return next(endpoint for endpoint in self.group.endpoints if endpoint.name == name)

    def cool(self, names, seconds=60.0, reason=Reason.FAILURE):
        for name in names:
            self.board.cool(self[name], seconds, reason)

    def first(self):
        pick = self.rotation.first(self.clock.now)
        return pick and pick.endpoint.name

    def another(self, tried):
        pick = self.rotation.another([self[name] for name in tried], self.clock.now)
        return pick and pick.endpoint.name

    def last_resort(self):
        pick = self.rotation.last_resort(self.clock.now)
        return pick and pick.endpoint.name


def test_first_attempts_take_turns_by_weight():
    scene = Scene(3, 2, 1)
    assert Counter(scene.first() for _ in range(60)) == {"a": 30, "b": 20, "c": 10}


@pytest.mark.parametrize("strategy", ["weighted_round_robin", "least_busy", "lowest_latency"])
@given(data=st.data())
def test_never_a_cooled_endpoint_while_a_healthy_one_exists(strategy, data):
    scene = Scene(*data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=6)), strategy=strategy)
    names = [endpoint.name for endpoint in scene.group.endpoints]
    steps = st.tuples(st.sampled_from(["cool", "limit", "heal", "wait", "grant"]), st.sampled_from(names))
    for step, name in data.draw(st.lists(steps, max_size=8)):
        if step == "wait":
            scene.clock.now += 7.0
        elif step == "heal":
            scene.board.succeeded(scene[name], scene.clock.now + 0.001)
        elif step == "grant":
            scene.board.grant_probe(scene[name].id, 3.0)
        else:
            scene.cool(name, 10.0, Reason.FAILURE if step == "cool" else Reason.RATE_LIMIT)
        now = scene.clock.now
        states = {e: scene.board.of(e).availability(now) for e in scene.group.endpoints}
        healthy = {endpoint for endpoint, state in states.items() if state is Availability.AVAILABLE}
        pick = scene.rotation.first(now)
        if healthy:
            assert pick is not None
        if pick is not None:
            assert states[pick.endpoint] in (Availability.AVAILABLE, Availability.PROBE)
            assert pick.probe is (states[pick.endpoint] is Availability.PROBE)
            assert pick.probe or pick.endpoint.weight > 0 or not any(e.weight for e in healthy)
        tried = [pick.endpoint] if pick else []
        further = scene.rotation.another(tried, now)
        assert (further is not None) is bool(healthy - set(tried))
        assert further is None or further.endpoint in healthy - set(tried)


def test_weight_zero_serves_only_when_no_weighted_endpoint_is_available():
    scene = Scene(1, 0)
    assert {scene.first() for _ in range(10)} == {"a"}
    scene.cool("a")
    assert scene.first() == "b"
    scene.clock.now += 61
    scene.board.grant_probe(scene["a"].id, 3)
    scene.board.succeeded(scene["a"], scene.clock.now)
    assert {scene.first() for _ in range(10)} == {"a"}


def test_a_further_attempt_takes_weight_zero_last():
    scene = Scene(1, 1, 0)
    assert scene.another(["a"]) == "b"
    assert scene.another(["a", "b"]) == "c"
    assert scene.another(["a", "b", "c"]) is None


def test_another_endpoint_serves_while_one_cools():
    scene = Scene(1, 1)
    scene.cool("a")
    assert {scene.first() for _ in range(4)} == {"b"}


def test_after_the_cooldown_one_single_request_probes():
    scene = Scene(1, 1)
    scene.cool("a", 10)
    scene.clock.now += 10
    assert scene.first() == "b"
    assert ("claim", scene["a"].id) in scene.heard.all
    scene.board.grant_probe(scene["a"].id, 3)
    pick = scene.rotation.first(scene.clock.now)
    assert (pick.endpoint.name, pick.probe) == ("a", True)
    with Lease(scene.board.of(pick.endpoint), scene.clock.now, probe=True):
        assert {scene.first() for _ in range(5)} == {"b"}


def test_a_probe_whose_client_left_is_sent_again():
    scene = Scene(1, 1)
    scene.cool("a", 10)
    scene.clock.now += 10
    scene.board.grant_probe(scene["a"].id, 3)
    with Lease(scene.board.of(scene["a"]), scene.clock.now, probe=True):
        pass
    assert scene.first() == "a"


def test_a_probe_that_was_granted_but_not_used_in_time_is_claimed_again():
    scene = Scene(1, 1)
    scene.cool("a", 10)
    scene.clock.now += 10
    scene.first()
    scene.board.grant_probe(scene["a"].id, 3)
    scene.clock.now += 3
    assert scene.first() == "b"
    assert scene.heard.all.count(("claim", scene["a"].id)) == 2


def test_a_probe_is_never_a_further_attempt():
    scene = Scene(1, 1)
    scene.cool("a", 10)
    scene.clock.now += 10
    scene.board.grant_probe(scene["a"].id, 3)
    assert scene.another(["b"]) is None


def test_the_last_resort_is_whose_cooldown_ends_first_once_a_second():
    scene = Scene(1, 1)
    scene.cool("a", 60)
    scene.cool("b", 30)
    assert scene.first() is None
    served = []
    for _ in range(25):
        served.append(scene.last_resort())
        scene.clock.now += 0.1
    assert [name for name in served if name] == ["b", "b", "b"]


def test_the_last_resort_is_a_probe():
    scene = Scene(1)
    scene.cool("a")
    assert scene.rotation.last_resort(scene.clock.now).probe


def test_a_rate_limited_group_has_no_last_resort():
    scene = Scene(1, 1)
    scene.cool("a")
    scene.cool("b", 30, Reason.RATE_LIMIT)
    assert scene.last_resort() is None


def test_a_cooldown_that_is_over_is_not_held_up_by_an_unanswered_claim():
    scene = Scene(1)
    scene.cool("a", 30, Reason.RATE_LIMIT)
    scene.clock.now += 30
    assert scene.first() is None
    assert scene.last_resort() == "a"


def test_switched_off_endpoints_are_no_last_resort():
    clock = Clock()
    board = HealthBoard(clock)
    rotation = Rotation(group_of(model("a", enabled=False)), board, random.Random(1))
    board.cool(rotation.group.endpoints[0], 60, Reason.FAILURE)
    assert rotation.last_resort(clock.now) is None
    assert rotation.cooling() == []


def test_turns_go_on_where_they_were_after_an_unrelated_change():
    scene = Scene(1, 1, 1)
    served = []
    for _ in range(6):
        served.append(scene.first())
        scene.board.merge_healed("another endpoint", scene.clock.now)
    assert Counter(served) == {"a": 2, "b": 2, "c": 2}
