"""One word for how an endpoint is, as `/stats` and the admin say it. Pure."""

from routing.balancing.health import Availability, Health
from routing.balancing.selection import availability
from routing.config.table import Endpoint

DRAINING = "draining"
_WORDS = {
    Availability.AVAILABLE: "healthy",
    Availability.COOLING: "cooling_down",
    Availability.PROBE: "probing",
    Availability.AWAITING_PROBE: "probing",
    Availability.DISABLED: "disabled",
    Availability.MISCONFIGURED: "misconfigured",
}


def status_of(endpoint: Endpoint, health: Health, in_flight: int, now: float) -> str:
    """in_flight: of all workers; a disabled endpoint drains until the last of its requests has ended."""
    state = availability(endpoint, health, now)
    if state is Availability.DISABLED and in_flight:
        return DRAINING
    return _WORDS[state]
