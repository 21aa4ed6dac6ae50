"""The tier in memory: what it holds, for how long, and what goes first."""

import pytest

from cache_app.process_tier import KEPT_S, LARGEST_ENTRY, ProcessTier
from tests.unit.cache_app.entries import entry

UNIX_NOW = 1_000_000.0
ROOM_FOR_TWO = 2 * (100 + 1024)


class Clock:
    def __init__(self, later: float = 0.0) -> None:
        self.now = 50.0 + later

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def full_of_two(clock: Clock) -> ProcessTier:
    tier = ProcessTier(ROOM_FOR_TWO, clock)
    tier.put(b"a", entry(bytes(100)))
    tier.put(b"b", entry(bytes(100)))
    return tier


def test_what_was_put_is_found(clock):
    tier, kept = ProcessTier(clock=clock), entry(b"body")
    tier.put(b"a", kept)
    assert tier.get(b"a", UNIX_NOW) is kept
    assert tier.get(b"b", UNIX_NOW) is None


def test_it_is_forgotten_soon(clock):
    tier = ProcessTier(clock=clock)
    tier.put(b"a", entry())
    clock.now += KEPT_S - 0.001
    assert tier.get(b"a", UNIX_NOW)
    clock.now += 0.001
    assert tier.get(b"a", UNIX_NOW) is None


def test_being_used_does_not_keep_it_for_longer(clock):
    tier = ProcessTier(clock=clock)
    tier.put(b"a", entry())
    for _ in range(3):
        clock.now += KEPT_S / 3
        found = tier.get(b"a", UNIX_NOW)
    assert found is None


def test_an_entry_that_has_expired_is_not_found(clock):
    tier = ProcessTier(clock=clock)
    tier.put(b"a", entry(expires_at=UNIX_NOW))
    assert tier.get(b"a", UNIX_NOW - 0.001)
    assert tier.get(b"a", UNIX_NOW) is None
    assert tier.held_bytes == 0


def test_the_least_used_goes_first(clock):
    tier = full_of_two(clock)
    tier.get(b"a", UNIX_NOW)
    tier.put(b"c", entry(bytes(100)))
    assert tier.get(b"b", UNIX_NOW) is None
    assert tier.get(b"a", UNIX_NOW)
    assert tier.get(b"c", UNIX_NOW)


def test_one_large_entry_takes_the_place_of_several(clock):
    tier = full_of_two(clock)
    tier.put(b"c", entry(bytes(1200)))
    assert len(tier) == 1
    assert tier.held_bytes <= ROOM_FOR_TWO


def test_what_is_put_again_takes_the_place_of_the_old(clock):
    tier, newer = full_of_two(clock), entry(bytes(100))
    tier.put(b"a", newer)
    assert tier.get(b"a", UNIX_NOW) is newer
    assert len(tier) == 2
    assert tier.held_bytes == ROOM_FOR_TWO


def test_a_very_large_entry_does_not_push_out_all_others(clock):
    tier = ProcessTier(clock=clock)
    tier.put(b"a", entry(bytes(LARGEST_ENTRY + 1)))
    assert tier.get(b"a", UNIX_NOW) is None
    tier.put(b"b", entry(bytes(LARGEST_ENTRY)))
    assert tier.get(b"b", UNIX_NOW)


@pytest.mark.parametrize("forgets", [lambda tier, clock: tier.clear(), lambda tier, clock: clock.__init__(KEPT_S)])
def test_a_very_large_entry_is_found_while_somebody_sends_it(clock, forgets):
    tier, sent = ProcessTier(clock=clock), entry(bytes(LARGEST_ENTRY + 1), expires_at=UNIX_NOW)
    tier.put(b"a", sent)
    assert tier.get(b"a", UNIX_NOW - 1) is sent
    assert tier.get(b"a", UNIX_NOW) is None
    assert tier.held_bytes == 0
    forgets(tier, clock)
    assert tier.get(b"a", UNIX_NOW - 1) is None
    tier.put(b"a", sent)
    del sent
    assert tier.get(b"a", UNIX_NOW - 1) is None


def test_emptied_it_holds_nothing_and_its_epoch_is_another(clock):
    tier = full_of_two(clock)
    epoch = tier.epoch
    tier.clear()
    assert tier.get(b"a", UNIX_NOW) is None
    assert (len(tier), tier.held_bytes) == (0, 0)
    assert tier.epoch != epoch
