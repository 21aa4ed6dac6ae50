"""What happened over a span of time, from the sums in the database; and the last failures. Blocks; for a thread.

The reading time depends on the length of the span and the number of groups and endpoints, not on that of requests.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import add
from typing import Any, Literal, NamedTuple

import msgspec
from django.db import connections

from stats.counters import quantile_ms
from stats.models import RecordedRequest, Rollup
from stats.record import RequestRecord
from stats.record_tables import table
from stats.rollups import MINUTE, STEPS, SUMS, Cell, add_buckets, cell_of

By = Literal["", "model_group", "endpoint"]
_buckets = msgspec.json.Decoder(dict[int, int]).decode
_NANO = 1_000_000_000


class Span(NamedTuple):
    """From `start` to before `end`: Unix times, whole minutes."""

    start: int
    end: int

    @classmethod
    def last(cls, seconds: int, now: float, step: int = MINUTE) -> "Span":
        """Up to now, the current step included; begins with a whole step, so that totals and series say the same.

        Beyond two days the step should be an hour or a day: older sums by minute are gone.
        """
        return cls(int(now - seconds) // step * step, (int(now) // step + 1) * step)


class Piece(NamedTuple):
    """A part of a span that is read from the sums of one step."""

    step: int
    start: int
    end: int


def pieces(span: Span, coarsest: int = STEPS[-1]) -> list[Piece]:
    """The span as few sums as possible: whole days, the hours around them, the minutes around those. Pure."""
    for step in (step for step in reversed(STEPS) if step <= coarsest):
        start, end = -(-span.start // step) * step, span.end // step * step
        if start < end:
            before, after = Span(span.start, start), Span(end, span.end)
            return [*pieces(before, step), Piece(step, start, end), *pieces(after, step)]
    return []


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests in a span of `seconds`; those by endpoint count attempts. None: there is nothing to tell it from."""

    seconds: int
    cell: Cell

    @property
    def count(self) -> int:
        cell = self.cell
        return cell.success + cell.failure + cell.rejected + cell.cancelled

    @property
    def success_rate(self) -> float | None:
        """Percent of what succeeded or failed."""
        return _percent(self.cell.success, self.cell.failure)

    @property
    def hit_rate(self) -> float | None:
        """Percent of what could be cached."""
        return _percent(self.cell.cache_hits, self.cell.cache_misses)

    def as_json(self) -> dict[str, Any]:
        """For pages and scripts. `cost_usd` misses the `unpriced` requests."""
        cell = self.cell
        return {
            "requests": self.count,
            "requests_per_s": self.count / self.seconds,
            "outcomes": {name: getattr(cell, name) for name in ("success", "failure", "rejected", "cancelled")},
            "success_rate": self.success_rate,
            "latency_ms": _quantiles(cell.latency),
            "ttft_ms": _quantiles(cell.ttft),
            "tokens": {
                "input": cell.input_tokens,
                "output": cell.output_tokens,
                "cached": cell.cached_tokens,
                "reasoning": cell.reasoning_tokens,
            },
            "cost_usd": cell.cost_nano_usd / _NANO,
            "unpriced": cell.unpriced,
            "cache": {
                "hits": cell.cache_hits,
                "misses": cell.cache_misses,
                "hit_rate": self.hit_rate,
                "saved_tokens": cell.saved_tokens,
                "saved_usd": cell.saved_nano_usd / _NANO,
            },
            "unrecorded": cell.unrecorded,
        }


def _percent(good: int, bad: int) -> float | None:
    return 100 * good / (good + bad) if good or bad else None


def _quantiles(buckets: Mapping[int, int]) -> dict[str, float | None]:
    return {"p50": quantile_ms(buckets, 0.5), "p95": quantile_ms(buckets, 0.95)}


class History:
    """Reads one database, as Django names it."""

    def __init__(self, using: str = "default") -> None:
        self._using = using

    def totals(self, span: Span, by: By = "") -> dict[str, Totals]:
        """Name -> its sums; without `by` the only name is ""."""
        cells = self._read(pieces(span), "0", by)
        seconds = span.end - span.start
        found = {name: Totals(seconds, cell) for (_, name), cell in cells.items()}
        return found if by else {"": found.get("", Totals(seconds, Cell()))}

    def series(self, span: Span, step: int, by: By = "") -> dict[str, list[Totals]]:
        """Name -> its sums in each step of the span, those without anything too.

        step: seconds, a multiple of a minute; multiples of an hour or a day are read much faster. The span has to be
        as `Span.last` makes it for this step.
        """
        coarsest = max(known for known in STEPS if step % known == 0)
        start = f"start / {int(step)} * {int(step)}"
        cells = self._read([Piece(coarsest, span.start, span.end)], start, by)
        names = {name for _, name in cells} if by else {""}
        empty = Cell()
        return {
            name: [Totals(step, cells.get((at, name), empty)) for at in range(span.start, span.end, step)]
            for name in sorted(names)
        }

    def recent_failures(self, limit: int, rescued: bool = False) -> list[RequestRecord]:
        """The newest first. rescued: also those that another attempt has made good."""
        rows = RecordedRequest.objects.using(self._using).filter(troubled=True).order_by("-at_ms")
        return [row.as_record() for row in (rows if rescued else rows.filter(outcome="failure"))[:limit]]

    def _read(self, of: list[Piece], start: str, by: By) -> dict[tuple[int, str], Cell]:
        """start: SQL for the beginning of the step that a row belongs to."""
        if not of:
            return {}
        name = by or "''"
        which = " OR ".join(["(step = %s AND start >= %s AND start < %s)"] * len(of))
        source = f"FROM {table(Rollup)} WHERE ({which}) AND endpoint {'<>' if by == 'endpoint' else '='} ''"
        bounds = [number for piece in of for number in piece]
        query = f"SELECT {start}, {name}, latency, ttft, {', '.join(SUMS)} {source}"
        sums: dict[tuple[int, str], list[int]] = {}
        histograms: dict[tuple[int, str], tuple[dict[int, int], dict[int, int]]] = {}
        # Added up here and not in SQL, where taking the JSON of 10,000 rows apart takes ten times as long.
        for at, who, latency, ttft, *values in self._rows(query, bounds):
            key = (at, who)
            if key in sums:
                sums[key] = list(map(add, sums[key], values))
                add_buckets(histograms[key][0], _buckets(latency))
                add_buckets(histograms[key][1], _buckets(ttft))
            else:
                sums[key], histograms[key] = values, (_buckets(latency), _buckets(ttft))
        return {key: cell_of(values, *histograms[key]) for key, values in sums.items()}

    def _rows(self, query: str, parameters: list[int]) -> Iterator[tuple[Any, ...]]:
        with connections[self._using].cursor() as cursor:
            cursor.execute(query, parameters)
            yield from cursor
