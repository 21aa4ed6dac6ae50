"""Counts of requests and attempts as plain integers: added to on the hot path, taken out as increments, summed up.

Pure. Latencies are counted in buckets that grow by a fifth, so a quantile is exact to 10 % and adds up over workers.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from stats.metrics_series import LONGEST_NUMBER, Series
from stats.record import AttemptRecord

OUTCOMES = ("success", "failure", "rejected", "cancelled")
_GROWTH = math.log(1.2)
_FIRST_BUCKET_S = 0.000_5
_BOUNDS_S = [_FIRST_BUCKET_S * 1.2**bucket for bucket in range(90)]  # up to about 6,000 s
_LATEST = 253_402_300_799  # Unix time; datetime knows no later one


def bucket_of(seconds: float) -> int:
    """The number of the latency bucket."""
    return bisect_left(_BOUNDS_S, seconds)


def bucket_middle_s(bucket: int) -> float:
    return _FIRST_BUCKET_S * math.exp(_GROWTH * (bucket - 0.5)) if bucket else _FIRST_BUCKET_S


def quantile_ms(buckets: Mapping[int, int], share: float) -> float | None:
    """share: 0.5 for the median; None where nothing was counted."""
    total = sum(buckets.values())
    wanted, seen = share * total, 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted and buckets[bucket]:
            return round(bucket_middle_s(bucket) * 1000, 2)
    return None


def _whole(text: str, most: int = 10**LONGEST_NUMBER) -> int:
    """Raises ValueError for what no counter of ours can be."""
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError
    return number


def _time(text: str) -> float:
    """Unix time. Raises ValueError."""
    time = float(text)
    if not 0 <= time <= _LATEST:  # nan neither
        raise ValueError
    return time


@dataclass(slots=True)
class EndpointCounts:
    """Attempts at one endpoint."""

    success: int = 0
    failure: int = 0
    rejected: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    last_error: str = ""
    last_error_at: float = 0.0  # Unix time
    last_success_at: float = 0.0

    def count(self, attempt: AttemptRecord, input_tokens: int, output_tokens: int, at: float) -> None:
        """at: Unix time of its end."""
        outcome = attempt.outcome
        if outcome == "success":
            self.success += 1
            self.last_success_at = at
            bucket = bucket_of(attempt.duration_ms / 1000)
            self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        else:
            setattr(self, outcome, getattr(self, outcome) + 1)
            if outcome == "failure":
                self.last_error, self.last_error_at = attempt.cause, at
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def increments(self) -> dict[str, int]:
        """Field name -> how much to add."""
        fields = {name: getattr(self, name) for name in (*OUTCOMES, "input_tokens", "output_tokens")}
        fields |= {f"latency:{bucket}": count for bucket, count in self.buckets.items()}
        return {name: value for name, value in fields.items() if value}

    def latest(self) -> dict[str, str]:
        """Field name -> value that replaces an older one."""
        fields: dict[str, str] = {}
        if self.last_error:
            fields |= {"last_error": self.last_error, "last_error_at": repr(self.last_error_at)}
        if self.last_success_at:
            fields["last_success_at"] = repr(self.last_success_at)
        return fields

    def add(self, other: "EndpointCounts") -> None:
        for name in (*OUTCOMES, "input_tokens", "output_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        if other.last_error_at > self.last_error_at:
            self.last_error, self.last_error_at = other.last_error, other.last_error_at
        self.last_success_at = max(self.last_success_at, other.last_success_at)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> "EndpointCounts":
        """The inverse of `increments` and `latest`; fields of another version are passed over."""
        counts = cls()
        for name, value in fields.items():
            with suppress(ValueError):
                counts._read(name, value)
        return counts

    def _read(self, name: str, value: str) -> None:
        if name.startswith("latency:"):
            self.buckets[_whole(name[8:], len(_BOUNDS_S))] = _whole(value)
        elif name in ("last_error_at", "last_success_at"):
            setattr(self, name, _time(value))
        elif name == "last_error":
            self.last_error = value
        elif name in (*OUTCOMES, "input_tokens", "output_tokens"):
            setattr(self, name, _whole(value))


@dataclass(slots=True)
class RequestCounts:
    """Requests of clients; a cache hit is among the successes."""

    success: int = 0
    failure: int = 0
    rejected: int = 0
    cancelled: int = 0
    cache_hits: int = 0

    def increments(self) -> dict[str, int]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}

    def add(self, other: "RequestCounts") -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> "RequestCounts":
        counts = cls()
        for name in cls.__slots__:
            with suppress(ValueError):
                setattr(counts, name, _whole(fields.get(name, "0")))
        return counts


@dataclass(slots=True)
class Counts:
    """Everything that is counted. cache: by what happened, such as `hit:process` or `bypassed:no_cache`.

    series: what only `/metrics` tells.
    """

    requests: RequestCounts = field(default_factory=RequestCounts)
    cache: Counter[str] = field(default_factory=Counter)
    endpoints: dict[str, EndpointCounts] = field(default_factory=dict)
    series: Series = field(default_factory=Series)

    def endpoint(self, endpoint_id: str) -> EndpointCounts:
        counts = self.endpoints.get(endpoint_id)
        if counts is None:
            counts = self.endpoints[endpoint_id] = EndpointCounts()
        return counts

    def add(self, other: "Counts") -> None:
        self.requests.add(other.requests)
        self.cache.update(other.cache)
        self.series.add(other.series)
        for endpoint_id, counts in other.endpoints.items():
            self.endpoint(endpoint_id).add(counts)

    def empty(self) -> bool:
        return not self.endpoints and not self.cache and self.series.empty() and not self.requests.increments()
