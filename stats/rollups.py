"""Sums over requests by minute, group and endpoint: added to on the hot path, taken out once a second, never lost.

Pure. Each request counts once in its group's cell, where endpoint is "", and each attempt once in its endpoint's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from stats.counters import bucket_of
from stats.record import AttemptRecord, RequestRecord

MINUTE, HOUR, DAY = 60, 3600, 86_400
STEPS = (MINUTE, HOUR, DAY)  # seconds; each sum is kept for all of them
_MOST_CELLS = 20_000  # waiting for the database; 100 endpoints fill them in 3 hours


class CellKey(NamedTuple):
    """start: Unix time of the minute, hour or day. endpoint: "" for requests, a name for attempts."""

    start: int
    group: str
    endpoint: str


@dataclass(slots=True)
class Cell:
    """Requests, or attempts at one endpoint. All numbers add up; histograms are bucket -> count, of successes."""

    success: int = 0
    failure: int = 0
    rejected: int = 0
    cancelled: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    saved_tokens: int = 0  # of hits
    cost_nano_usd: int = 0
    saved_nano_usd: int = 0
    unpriced: int = 0  # requests whose cost is not known: the true cost is higher
    unrecorded: int = 0  # requests of which no record was kept
    latency: dict[int, int] = field(default_factory=dict)
    ttft: dict[int, int] = field(default_factory=dict)

    def count(self, outcome: str, duration_ms: float, ttft_ms: float | None) -> None:
        """outcome: one of counters.OUTCOMES."""
        if outcome != "success":
            setattr(self, outcome, getattr(self, outcome) + 1)
            return
        self.success += 1
        bucket = bucket_of(duration_ms / 1000)
        self.latency[bucket] = self.latency.get(bucket, 0) + 1
        if ttft_ms is not None:
            bucket = bucket_of(ttft_ms / 1000)
            self.ttft[bucket] = self.ttft.get(bucket, 0) + 1

    def use(self, record: RequestRecord) -> None:
        """Tokens and money of a request that an upstream has worked for."""
        if record.input_tokens:
            self.input_tokens += record.input_tokens
            if record.cached_tokens:
                self.cached_tokens += record.cached_tokens
        if record.output_tokens:
            self.output_tokens += record.output_tokens
            if record.reasoning_tokens:
                self.reasoning_tokens += record.reasoning_tokens
        if record.cost_nano_usd is None:
            self.unpriced += 1
        else:
            self.cost_nano_usd += record.cost_nano_usd

    def save(self, record: RequestRecord) -> None:
        """What a hit was spared."""
        self.saved_tokens += (record.input_tokens or 0) + (record.output_tokens or 0)
        if record.saved_nano_usd:
            self.saved_nano_usd += record.saved_nano_usd

    def add(self, other: "Cell") -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        add_buckets(self.latency, other.latency)
        add_buckets(self.ttft, other.ttft)


HISTOGRAMS = ("latency", "ttft")
SUMS = tuple(column.name for column in fields(Cell) if column.name not in HISTOGRAMS)
Cells = dict[CellKey, Cell]


def cell_of(sums: Iterable[int], latency: dict[int, int], ttft: dict[int, int]) -> Cell:
    """sums: the values of `SUMS`."""
    cell = Cell(latency=latency, ttft=ttft)
    for name, value in zip(SUMS, sums, strict=True):
        setattr(cell, name, value)
    return cell


def add_buckets(to: dict[int, int], other: dict[int, int]) -> None:
    for bucket, count in other.items():
        to[bucket] = to.get(bucket, 0) + count


def count_in(cells: Cells, record: RequestRecord, recorded: bool) -> None:
    """Adds one request that has ended. recorded: whether a record of it is kept besides."""
    minute = minute_of(record)
    group = record.model_group
    cell = _cell(cells, minute, group, "")
    cell.count(record.outcome, record.duration_ms, record.ttft_ms)
    if not recorded:
        cell.unrecorded += 1
    if record.cache == "hit":
        cell.cache_hits += 1
        if not record.attempts:
            cell.save(record)
    elif record.cache == "miss":
        cell.cache_misses += 1
    if record.attempts:  # a hit has some where it was the last to wait for what others had asked for
        cell.use(record)
        _count_attempts(cells, minute, record, record.attempts)


def _count_attempts(cells: Cells, minute: int, record: RequestRecord, attempts: list[AttemptRecord]) -> None:
    group, last = record.model_group, attempts[-1]
    ttft_ms = None if record.cache == "hit" else record.ttft_ms  # a hit was not there when the endpoint was asked
    for attempt in attempts:
        cell = _cell(cells, minute, group, attempt.endpoint)
        # The time to the first event began for this endpoint when it was asked, not when the request came.
        waited_ms = ttft_ms - attempt.began_ms if ttft_ms is not None and attempt is last else None
        cell.count(attempt.outcome, attempt.duration_ms, waited_ms)
    cell.use(record)


def uncount(cells: Cells, record: RequestRecord) -> None:
    """Of a request that was counted in: its record is not kept after all."""
    _cell(cells, minute_of(record), record.model_group, "").unrecorded += 1


def minute_of(record: RequestRecord) -> int:
    """In which it ended."""
    return int(record.at + record.duration_ms / 1000) // MINUTE * MINUTE


def _cell(cells: Cells, minute: int, group: str, endpoint: str) -> Cell:
    cell = cells.get((minute, group, endpoint))  # type: ignore[call-overload]  # equal to a CellKey, and 0.2 us cheaper
    return cell if cell is not None else _new_cell(cells, CellKey(minute, group, endpoint))


def _new_cell(cells: Cells, key: CellKey) -> Cell:
    if len(cells) >= _MOST_CELLS:  # the database has been away for hours: the sums stay right, the split is lost
        key = CellKey(key.start - key.start % HOUR, "", "…" if key.endpoint else "")
    return cells.setdefault(key, Cell())


def by_step(cells: Cells, step: int) -> Cells:
    """The same sums by hour or by day."""
    summed: Cells = {}
    for key, cell in cells.items():
        wider = key._replace(start=key.start - key.start % step)
        summed.setdefault(wider, Cell()).add(cell)
    return summed


def total(cells: Iterable[Cell]) -> Cell:
    """All in one."""
    summed = Cell()
    for cell in cells:
        summed.add(cell)
    return summed
