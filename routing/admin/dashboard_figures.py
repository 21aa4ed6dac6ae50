"""What the dashboard is told, as JSON: the pace of requests, and what happened in a span of time. Pure."""

from collections import deque
from typing import Any, NamedTuple

from stats.history import Totals
from stats.record import AttemptRecord, RequestRecord
from stats.rollups import DAY, HOUR, MINUTE

_PACE_OVER_S = 10.0


class ShownSpan(NamedTuple):
    """Seconds that end now, in steps of so many seconds; read again after `every_s`."""

    seconds: int
    step: int
    every_s: float


SPANS = {
    "15m": ShownSpan(15 * MINUTE, MINUTE, 5.0),
    "24h": ShownSpan(DAY, HOUR, 10.0),
    "30d": ShownSpan(30 * DAY, DAY, 10.0),
}


class Pace:
    """Requests a second over the last ten, from a counter that is read now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._shared = True

    def at(self, now: float, total: int, shared: bool) -> float | None:
        """None at first. shared: total counts all workers; not comparable with what only this one has counted."""
        if shared is not self._shared or (self._seen and total < self._seen[-1][1]):
            self._seen.clear()
            self._shared = shared
        self._seen.append((now, total))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _PACE_OVER_S:
            self._seen.popleft()
        began, before = self._seen[0]
        return (total - before) / (now - began) if now > began else None


def series_columns(steps: list[Totals], start: int, step: int) -> dict[str, list[Any]]:
    """A chart's numbers: for each name one list. at: Unix time of the step's beginning."""
    columns: dict[str, list[Any]] = {"at": [start + number * step for number in range(len(steps))]}
    for totals in steps:
        told = totals.as_json()
        row = {
            **told["outcomes"],
            **{f"latency_{name}": value for name, value in told["latency_ms"].items()},
            **{f"ttft_{name}": value for name, value in told["ttft_ms"].items()},
            "input": told["tokens"]["input"],
            "output": told["tokens"]["output"],
            "hits": told["cache"]["hits"],
            "misses": told["cache"]["misses"],
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def failure_view(record: RequestRecord, now: float) -> dict[str, Any]:
    """A request that failed, or was rescued, with all attempts. Ages instead of times: browsers' clocks differ."""
    return {
        "request_id": record.request_id,
        "ago_s": round(max(0.0, now - record.at), 1),
        "group": record.model_group,
        "operation": record.operation,
        "stream": record.stream,
        "outcome": record.outcome,
        "status": record.status,
        "error": record.error,
        "duration_ms": record.duration_ms,
        "attempts": [_attempt_view(attempt) for attempt in record.attempts],
    }


def _attempt_view(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "endpoint": attempt.endpoint,
        "outcome": attempt.outcome,
        "cause": attempt.cause,
        "status": attempt.status,
        "began_ms": attempt.began_ms,
        "duration_ms": attempt.duration_ms,
    }
