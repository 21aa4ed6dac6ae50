"""The health of one endpoint as a state machine. Pure: `now` is passed in, on this process's monotonic clock.

What workers tell each other is a set of cooldowns that only ever grows, and a time before which they are over
(`healed`) that only ever grows: the order in which messages arrive does not matter, and the later deadline always wins.
"""

from dataclasses import dataclass, field
from enum import StrEnum

NEVER = float("-inf")


class Reason(StrEnum):
    """Why an endpoint cools."""

    FAILURE = "failure"
    RATE_LIMIT = "rate_limit"


class Availability(StrEnum):
    """What a request may do with an endpoint."""

    AVAILABLE = "available"
    PROBE = "probe"  # its cooldown is over and this worker was granted the one probe
    AWAITING_PROBE = "awaiting_probe"  # its cooldown is over, the probe is not granted here or is under way
    COOLING = "cooling"
    DISABLED = "disabled"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class Cooldown:
    """One cooldown, as it is published."""

    began: float
    until: float
    reason: Reason


@dataclass(slots=True)
class Health:
    """One endpoint as this worker knows it."""

    consecutive_failures: int = 0
    began: float = NEVER  # of the latest cooldown that no success has ended
    until: float = NEVER  # the latest deadline of those
    reason: Reason = Reason.FAILURE  # of the cooldown with that deadline
    healed: float = NEVER  # cooldowns that began before it are over
    granted_until: float = NEVER  # this worker may send the probe until then
    probing: int = 0  # probes under way from this worker
    in_flight: int = 0
    latency_s: float | None = field(default=None)  # moving average of the time to the first event or the head
    latency_at: float = NEVER
    _standing: tuple[Cooldown, ...] = ()  # not over, and none of them outlasted by one that began later

    def cooled(self) -> bool:
        """A cooldown has begun that no success has ended; its deadline may have passed."""
        return self.until > NEVER

    def availability(self, now: float) -> Availability:
        """Of an endpoint that is enabled and well configured."""
        if not self.cooled():
            return Availability.AVAILABLE
        if now < self.until:
            return Availability.COOLING
        if now < self.granted_until and not self.probing:
            return Availability.PROBE
        return Availability.AWAITING_PROBE

    # -- what attempts report

    def succeeded(self, attempt_began: float) -> bool:
        """Returns whether others must be told: failures were counted, or a cooldown ended.

        A slow success that began before the cooldown did says nothing about the endpoint as it is now.
        """
        if not self.consecutive_failures and self.until == NEVER:
            return False
        if self.cooled() and attempt_began <= self.began:
            return False
        self.heal(attempt_began if self.cooled() else NEVER)
        return True

    def answered(self, attempt_began: float) -> bool:
        """The head has come: ends a cooldown, but a row of failures only by the whole answer."""
        if self.until == NEVER or attempt_began <= self.began:
            return False
        failures = self.consecutive_failures
        self.heal(attempt_began)
        self.consecutive_failures = failures
        return True

    def failed(self, now: float, attempt_began: float) -> None:
        """Counts one failure; whether it starts a cooldown is the caller's to decide."""
        if not (self.cooled() and attempt_began <= self.began and now < self.until):
            self.consecutive_failures += 1

    def late(self, now: float, attempt_began: float) -> bool:
        """The attempt began before a cooldown that still runs: its failure is no news."""
        return self.cooled() and now < self.until and attempt_began <= self.began

    def cool(self, now: float, seconds: float, reason: Reason) -> Cooldown:
        """Starts a cooldown, or lengthens the one that runs; returns what holds now."""
        self.merge_cooldown(Cooldown(began=now, until=now + seconds, reason=reason))
        return Cooldown(self.began, self.until, self.reason)

    # -- what other workers report

    def merge_cooldown(self, cooldown: Cooldown) -> None:
        self._stand((*self._standing, cooldown))
        self.granted_until = NEVER

    def heal(self, healed: float) -> None:
        """A success that began at `healed`; NEVER: it only ends a row of failures."""
        self.healed = max(self.healed, healed)
        self._stand(self._standing)
        if not self.cooled():
            self.consecutive_failures = 0
            self.granted_until = NEVER

    def _stand(self, cooldowns: tuple[Cooldown, ...]) -> None:
        """Keeps what matters of them: the longest, then those that began later and could outlive it."""
        standing: list[Cooldown] = []
        for cooldown in sorted(cooldowns, key=lambda c: (c.until, c.reason, c.began), reverse=True):
            if cooldown.began >= self.healed and (not standing or cooldown.began > standing[-1].began):
                standing.append(cooldown)
        self._standing = tuple(standing)
        self.began = standing[-1].began if standing else NEVER
        self.until = standing[0].until if standing else NEVER
        self.reason = standing[0].reason if standing else Reason.FAILURE

    def reset(self, now: float) -> None:
        """An operator ends every cooldown."""
        self.heal(max(now, self.began) + 1e-6)

    # -- probes and latency

    def grant(self, now: float, seconds: float) -> None:
        """This worker may send the probe for the next `seconds`."""
        self.granted_until = now + seconds

    def observe_latency(self, seconds: float, now: float) -> None:
        """Exponentially weighted moving average, a new value counting a fifth."""
        self.latency_s = seconds if self.latency_s is None else self.latency_s + 0.2 * (seconds - self.latency_s)
        self.latency_at = now
