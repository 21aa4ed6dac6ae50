"""What a record says of a request's time."""

import time

import pytest

from routing.trail import Trail, record_of


def test_a_request_has_ended_now_and_begun_as_long_ago_as_it_took():
    """Its trail may be no older than the last byte of its body."""
    record = record_of(Trail(), "r", 500.0, "chat/completions", ("rejected", 400, "bad"), False)
    assert record.ended_at == pytest.approx(time.time(), abs=100)
