"""One endpoint's state machine: cooldowns merge to the later deadline, only newer successes end them."""

from hypothesis import given
from hypothesis import strategies as st

from routing.balancing.health import Availability, Cooldown, Health, Reason

TIMES = st.integers(0, 50).map(float)
COOLDOWNS = st.builds(
    lambda began, lasts, reason: Cooldown(began, began + lasts, reason), TIMES, TIMES, st.sampled_from(Reason)
)
NEWS = st.lists(st.one_of(COOLDOWNS, TIMES), max_size=8)


def told(news: list[Cooldown | float]) -> Health:
    health = Health()
    for one in news:
        if isinstance(one, Cooldown):
            health.merge_cooldown(one)
        else:
            health.heal(one)
    return health


def seen(health: Health) -> list[object]:
    """What routing can see of it, at every moment."""
    return [health.cooled(), *(health.availability(float(now)) for now in range(102))]


@given(NEWS, st.randoms())
def test_the_order_of_news_does_not_matter(news, rng):
    shuffled = news.copy()
    rng.shuffle(shuffled)
    assert seen(told(shuffled)) == seen(told(news))


@given(NEWS)
def test_news_told_twice_change_nothing(news):
    assert seen(told(news + news)) == seen(told(news))


@given(st.lists(COOLDOWNS, min_size=1, max_size=8))
def test_the_later_deadline_wins(cooldowns):
    health = told(list(cooldowns))
    assert health.until == max(cooldown.until for cooldown in cooldowns)
    assert health.cooled()


@given(NEWS)
def test_exactly_the_cooldowns_that_began_before_the_last_success_are_over(news):
    healed = max((one for one in news if isinstance(one, float)), default=float("-inf"))
    running = [one.until for one in news if isinstance(one, Cooldown) and one.began >= healed]
    health = told(news)
    assert health.cooled() is bool(running)
    for now in range(102):
        cooling = health.availability(float(now)) is Availability.COOLING
        assert cooling is (now < max(running, default=0.0))


def test_a_shorter_cooldown_does_not_shorten_a_longer_one():
    health = Health()
    health.cool(0.0, 60, Reason.FAILURE)
    health.cool(10.0, 5, Reason.FAILURE)
    assert health.availability(59.9) is Availability.COOLING


def test_a_shorter_cooldown_is_announced_with_the_deadline_that_holds():
    health = Health()
    health.cool(0.0, 300, Reason.RATE_LIMIT)
    announced = health.cool(1.0, 60, Reason.FAILURE)
    assert (announced.until, announced.reason) == (300.0, Reason.RATE_LIMIT)


def test_a_cooldown_that_was_ended_does_not_lengthen_the_next_one():
    health = Health()
    health.cool(0.0, 300, Reason.RATE_LIMIT)
    health.reset(5.0)
    health.cool(10.0, 20, Reason.FAILURE)
    assert health.availability(29.9) is Availability.COOLING
    assert health.availability(30.0) is Availability.AWAITING_PROBE
    assert health.reason is Reason.FAILURE


def test_a_success_that_began_before_the_cooldown_does_not_end_it():
    health = Health()
    health.cool(10.0, 60, Reason.FAILURE)
    assert not health.succeeded(9.9)
    assert health.availability(20.0) is Availability.COOLING


def test_a_success_that_began_after_the_cooldown_ends_it():
    health = Health()
    health.cool(10.0, 60, Reason.FAILURE)
    assert health.succeeded(10.1)
    assert health.availability(20.0) is Availability.AVAILABLE


def test_a_success_ends_a_row_of_failures():
    health = Health()
    health.failed(1.0, 0.0)
    assert health.succeeded(2.0)
    assert health.consecutive_failures == 0
    assert not health.succeeded(3.0)


def test_a_head_ends_a_cooldown_but_not_a_row_of_failures():
    """An endpoint whose answers all break after their head must still reach its threshold."""
    health = Health()
    health.failed(1.0, 0.0)
    health.cool(1.0, 60, Reason.FAILURE)
    assert health.answered(2.0)
    assert health.availability(3.0) is Availability.AVAILABLE
    assert health.consecutive_failures == 1
    assert not health.answered(4.0)


def test_after_the_deadline_only_a_granted_probe_goes_through():
    health = Health()
    health.cool(0.0, 10, Reason.FAILURE)
    assert health.availability(10.0) is Availability.AWAITING_PROBE
    health.grant(10.0, 3)
    assert health.availability(11.0) is Availability.PROBE
    health.probing = 1
    assert health.availability(11.0) is Availability.AWAITING_PROBE
    health.probing = 0
    assert health.availability(13.0) is Availability.AWAITING_PROBE


def test_a_new_cooldown_takes_a_grant_back():
    health = Health()
    health.cool(0.0, 1, Reason.FAILURE)
    health.grant(1.0, 100)
    health.cool(2.0, 1, Reason.FAILURE)
    assert health.availability(3.0) is Availability.AWAITING_PROBE


def test_an_operator_ends_a_cooldown_that_began_in_the_future_of_this_clock():
    health = Health()
    health.merge_cooldown(Cooldown(100.0, 160.0, Reason.FAILURE))
    health.reset(50.0)
    assert health.availability(51.0) is Availability.AVAILABLE


def test_latency_follows_by_a_fifth():
    health = Health()
    health.observe_latency(1.0, 0.0)
    health.observe_latency(2.0, 1.0)
    assert health.latency_s == 1.2
