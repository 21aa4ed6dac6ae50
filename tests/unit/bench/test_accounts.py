"""The times of `ps`."""

import pytest

from tests.bench.accounts import seconds_of_ps


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("0:01.25", 1.25), ("12:34.50", 754.5), ("01:00:01", 3601), ("2-01:00:00", 176400)],
)
def test_clock_of_ps_in_seconds(text, seconds):
    assert seconds_of_ps(text) == seconds
