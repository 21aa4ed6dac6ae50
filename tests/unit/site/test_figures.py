import pytest

from llmproxy_site.management.figures import cost, count, milliseconds, percent, seconds, size, usd


@pytest.mark.parametrize(("number", "shown"), [(None, "-"), (0, "0"), (1_234_567, "1,234,567")])
def test_counts(number, shown):
    assert count(number) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(None, "-"), (100.0, "100 %"), (0.0, "0 %"), (99.9999, "99.99 %"), (99.95, "99.95 %"), (50.04, "50.0 %"),
     (0.0001, "0.1 %")],
)  # fmt: skip
def test_a_rate_is_rounded_but_never_to_all_or_nothing(share, shown):
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("time", "shown"),
    [(None, "-"), (0.04, "0.0 ms"), (99.94, "99.9 ms"), (99.96, "100 ms"), (9999.4, "9,999 ms"), (9999.6, "10.0 s")],
)
def test_times(time, shown):
    assert milliseconds(time) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "$0"), (1234.5, "$1,234.50"), (0.0456, "$0.0456"), (0.00123, "$0.001230"), (1e-9, "<$0.000001")],
)
def test_money_is_never_rounded_to_nothing(amount, shown):
    assert usd(amount) == shown


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"requests": 0, "cost_usd": 0.0, "unpriced": 0}, "-"),
        ({"requests": 3, "cost_usd": None, "unpriced": 3}, "unknown"),
        ({"requests": 3, "cost_usd": 1.5, "unpriced": 0}, "$1.50"),
        ({"requests": 3, "cost_usd": 1.5, "unpriced": 2}, "$1.50 + 2 unknown"),
        ({"requests": 3, "cost_usd": 0.0, "unpriced": 0}, "$0"),
    ],
)
def test_an_unknown_cost_is_not_shown_as_nothing(told, shown):
    assert cost(told) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e12, "3,000.0 GB")]
)
def test_sizes(amount, shown):
    assert size(amount) == shown


@pytest.mark.parametrize(("time", "shown"), [(0.2, "1 s"), (42.4, "42 s"), (200, "3 min 20 s"), (7300, "2 h 1 min")])
def test_a_time_that_is_left_is_never_nothing(time, shown):
    assert seconds(time) == shown
