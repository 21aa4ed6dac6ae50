"""Costs are exact to a billionth of a dollar, and unknown is never 0."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.prices import Offer, Price, PriceList, Tier

TOKENS = st.integers(0, 2_000_000)
DOLLARS = st.decimals("0", "100", places=4)


@given(DOLLARS, DOLLARS, DOLLARS, TOKENS, TOKENS, st.floats(0, 1))
def test_cost_is_tokens_times_price(input_price, output_price, cached_price, input_tokens, output_tokens, share):
    cached_tokens = int(input_tokens * share)
    price = Price(float(input_price), float(output_price), float(cached_price))
    exact = (
        input_price * (input_tokens - cached_tokens) + cached_price * cached_tokens + output_price * output_tokens
    ) / Decimal(1_000_000)
    told = price.cost_nano_usd(input_tokens, output_tokens, cached_tokens)
    assert abs(told - exact * 1_000_000_000) <= 1


def test_a_small_request_costs_more_than_nothing():
    assert Price(0.02).cost_nano_usd(8, 0) == 160


def test_output_without_a_price_makes_the_cost_unknown():
    assert Price(0.02).cost_nano_usd(8, 1) is None


def test_cached_input_costs_as_other_input_where_nothing_else_is_said():
    assert Price(1.0, 2.0).cost_nano_usd(10, 0, 10) == Price(1.0, 2.0).cost_nano_usd(10, 0, 0)


def test_more_cached_tokens_than_input_are_not_believed():
    assert Price(1.0, 2.0, 0.5).cost_nano_usd(10, 0, 1000) == 5000


def test_a_price_of_zero_is_known():
    assert Price(0.0, 0.0).cost_nano_usd(10, 10) == 0


@pytest.mark.parametrize(("tokens", "per_token"), [(100, 1000), (101, 2000), (200, 2000), (201, 3000)])
def test_a_tier_holds_for_all_tokens_of_a_larger_input(tokens, per_token):
    price = Price(1.0, tiers=(Tier(100, 2.0), Tier(200, 3.0)))
    assert price.cost_nano_usd(tokens, 0) == tokens * per_token


def test_no_single_request_can_make_the_sums_overflow():
    assert Price(1e30, 1e30).cost_nano_usd(1 << 32, 1 << 32) < 2**63 / 1000


def test_what_nobody_asked_for_is_unknown():
    assert PriceList().of(Offer("gpt-4o-mini", "https://api.openai.com/v1")) is None
