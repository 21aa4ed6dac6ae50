"""The one word for how an endpoint is."""

from dataclasses import replace

import pytest

from routing.balancing.health import Cooldown, Health, Reason
from routing.balancing.status import status_of
from tests.unit.tables import endpoints_of


@pytest.mark.parametrize(("in_flight", "word"), [(0, "disabled"), (1, "draining")])
def test_a_disabled_endpoint_drains_while_requests_run(in_flight, word):
    endpoint = replace(endpoints_of(1)[0], enabled=False)

    assert status_of(endpoint, Health(), in_flight, 0.0) == word


def test_requests_in_flight_change_no_other_status():
    assert status_of(endpoints_of(1)[0], Health(), 5, 0.0) == "healthy"


@pytest.mark.parametrize(("now", "word"), [(5.0, "cooling_down"), (11.0, "probing")])
def test_a_cooldown_ends_in_a_probe(now, word):
    health = Health()
    health.merge_cooldown(Cooldown(0.0, 10.0, Reason.FAILURE))

    assert status_of(endpoints_of(1)[0], health, 0, now) == word


def test_an_endpoint_without_its_key_is_misconfigured():
    endpoint = replace(endpoints_of(1)[0], missing=("os.environ/KEY",))

    assert status_of(endpoint, Health(), 3, 0.0) == "misconfigured"
