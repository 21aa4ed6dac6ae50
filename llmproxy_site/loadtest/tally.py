"""What came of a load test, added up while it runs, in bounded memory. Pure."""

import math
from collections import Counter
from dataclasses import dataclass, field

_GROWTH = math.log(1.01)
_SMALLEST_S = 1e-6


@dataclass(slots=True)
class Spread:
    """Times in seconds, in buckets that grow by a hundredth: quantiles are exact to 1 %, the largest is exact."""

    count: int = 0
    total: float = 0.0
    largest: float = 0.0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)
        self._buckets[math.ceil(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / _GROWTH)] += 1

    def quantile(self, share: float) -> float | None:
        """share: 0.5 for the median; None where nothing was added."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(_SMALLEST_S * math.exp(_GROWTH * bucket), self.largest)
        return None

    def as_json(self) -> dict[str, float | None] | None:
        """Milliseconds; None where nothing was added."""
        if not self.count:
            return None
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        told = {name: _ms(self.quantile(share)) for name, share in shares.items()}
        return told | {"max": _ms(self.largest), "mean": _ms(self.total / self.count)}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


@dataclass(slots=True)
class Answer:
    """One request that is over. status 0: no answer came. trouble is empty where it was answered as it should be."""

    status: int = 0
    trouble: str = ""
    body_bytes: int = 0
    events: int = 0  # with data, [DONE] apart
    first_event_s: float | None = None  # since the request was sent


@dataclass(slots=True)
class Tally:
    """Latencies are those of good answers: a refusal is quick."""

    good: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    latency: Spread = field(default_factory=Spread)
    first_event: Spread = field(default_factory=Spread)
    events: int = 0
    body_bytes: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0  # of this process
    stopped: bool = False  # by Ctrl-C

    def add(self, answer: Answer, took_s: float) -> None:
        if answer.status:
            self.statuses[answer.status] += 1
        self.events += answer.events
        self.body_bytes += answer.body_bytes
        if answer.trouble:
            self.troubles[answer.trouble] += 1
            return
        self.good += 1
        self.latency.add(took_s)
        if answer.first_event_s is not None:
            self.first_event.add(answer.first_event_s)

    @property
    def failed(self) -> int:
        return self.troubles.total()

    @property
    def requests(self) -> int:
        return self.good + self.failed

    def a_second(self, amount: float) -> float:
        return amount / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def cpu_share(self) -> float:
        """1: a whole core."""
        return self.a_second(self.cpu_s)
