"""What attempts and other workers tell the board, and what it announces."""

from typing import Any

import pytest

from routing.balancing.board import HealthBoard, Lease
from routing.balancing.health import Availability, Cooldown, Reason
from tests.unit.tables import group_of, model


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Heard:
    """An announcer that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def cooled(self, endpoint_id: str, cooldown: Cooldown, now: float) -> None:
        self.all.append(("cooled", endpoint_id, cooldown.until - now, cooldown.reason))

    def failed(self, endpoint_id: str) -> None:
        self.all.append(("failed", endpoint_id))

    def healed(self, endpoint_id: str, began: float, now: float) -> None:
        self.all.append(("healed", endpoint_id))

    def claim_probe(self, endpoint_id: str) -> None:
        self.all.append(("claim", endpoint_id))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def board(clock, heard):
    board = HealthBoard(clock)
    board.announcer = heard
    return board


@pytest.fixture
def endpoint():
    return group_of(model("a"), cooldown_time=60).endpoints[0]


def state(board, endpoint):
    return board.of(endpoint).availability(board.clock())


def test_failures_in_a_row_start_a_cooldown_at_the_threshold(board, endpoint, heard):
    assert not board.failed(endpoint, 99.0, 2)
    assert state(board, endpoint) is Availability.AVAILABLE
    assert board.failed(endpoint, 99.5, 2)
    assert state(board, endpoint) is Availability.COOLING
    assert [news[0] for news in heard.all] == ["failed", "failed", "cooled"]
    assert heard.all[-1] == ("cooled", endpoint.id, 60.0, Reason.FAILURE)


def test_a_success_between_failures_starts_the_row_anew(board, endpoint):
    board.failed(endpoint, 99.0, 2)
    board.succeeded(endpoint, 99.5)
    assert not board.failed(endpoint, 99.6, 2)


def test_answers_that_break_after_their_head_still_reach_the_threshold(board, endpoint):
    board.answered(endpoint, 99.0)
    board.failed(endpoint, 99.0, 2)
    board.answered(endpoint, 99.5)
    assert board.failed(endpoint, 99.5, 2)


def test_a_failure_that_may_start_no_cooldown_still_counts(board, endpoint):
    assert not board.failed(endpoint, 99.0, None)
    assert board.of(endpoint).consecutive_failures == 1


def test_a_failure_that_began_before_a_running_cooldown_is_no_news(board, endpoint, heard, clock):
    board.cool(endpoint, 60, Reason.FAILURE)
    clock.now = 130.0
    assert not board.failed(endpoint, 90.0, 1)
    assert board.of(endpoint).until == 160.0
    assert [news[0] for news in heard.all] == ["cooled"]


def test_a_longer_cooldown_is_announced_when_a_shorter_one_comes(board, endpoint, heard):
    board.cool(endpoint, 300, Reason.RATE_LIMIT)
    board.cool(endpoint, 60, Reason.FAILURE)
    assert heard.all[-1] == ("cooled", endpoint.id, 300.0, Reason.RATE_LIMIT)


def test_failures_of_other_workers_count_towards_the_threshold(board, endpoint):
    board.merge_failure(endpoint.id)
    assert board.failed(endpoint, 99.0, 2)


def test_news_of_other_workers_are_not_announced_again(board, endpoint, heard):
    board.merge_failure(endpoint.id)
    board.merge_cooldown(endpoint.id, Cooldown(99.0, 160.0, Reason.FAILURE))
    board.merge_healed(endpoint.id, 99.5)
    assert heard.all == []
    assert state(board, endpoint) is Availability.AVAILABLE


def test_every_change_of_availability_changes_the_version(board, endpoint, clock):
    seen = [board.version]

    def changed() -> bool:
        seen.append(board.version)
        return seen[-1] != seen[-2]

    board.cool(endpoint, 10, Reason.FAILURE)
    assert changed()
    clock.now = 111.0
    board.grant_probe(endpoint.id, 3)
    assert changed()
    board.succeeded(endpoint, 110.5)
    assert changed()
    board.merge_cooldown(endpoint.id, Cooldown(111.0, 120.0, Reason.FAILURE))
    assert changed()
    board.reset(endpoint.id)
    assert changed()
    board.succeeded(endpoint, 111.0)
    assert not changed()


def test_a_probe_is_claimed_once_in_a_while(board, endpoint, heard, clock):
    for now in (100.0, 100.1, 100.2, 100.3):
        clock.now = now
        board.ask_for_probe(endpoint, now)
    assert heard.all == [("claim", endpoint.id)] * 2


def test_no_probe_is_claimed_while_one_is_under_way(board, endpoint, heard):
    with Lease(board.of(endpoint), 100.0, probe=True):
        board.ask_for_probe(endpoint, 100.0)
    assert heard.all == []


def test_a_lease_counts_to_the_last_byte(board, endpoint):
    health = board.of(endpoint)
    with Lease(health, 100.0, probe=True), Lease(health, 100.0, probe=False):
        assert (health.in_flight, health.probing, board.probing_ids()) == (2, 1, [endpoint.id])
    assert (health.in_flight, health.probing, board.probing_ids()) == (0, 0, [])


def test_endpoints_in_use_are_not_forgotten(board):
    used, gone, kept = group_of(model("a"), model("b"), model("c")).endpoints
    for endpoint in (used, gone, kept):
        board.of(endpoint).consecutive_failures = 5
    with Lease(board.of(used), 100.0, probe=False):
        board.keep_only(frozenset({kept.id}))
    assert [board.of(endpoint).consecutive_failures for endpoint in (used, gone, kept)] == [5, 0, 5]
