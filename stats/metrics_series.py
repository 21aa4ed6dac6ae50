"""What `/metrics` counts of requests, as plain integers: filled on the hot path, sent to the store as named sums.

Pure. Names of groups and endpoints come from the configuration, so there are as many sums as it has had names.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from stats.record import RequestRecord

# What is counted, then the values of its labels; of a histogram: what, group, and upper bound or SUM.
Field = tuple[str, ...]

SUM = "sum"  # of a histogram, in microseconds
MOST_STALE = 2_000  # fields of names that are configured no more
LONGEST_NUMBER = 18  # digits: what is longer would not fit into the store's integers, and is not ours
_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0, 600.0)
_SHORT_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
HISTOGRAMS = {"duration": _BOUNDS_S, "ttft": _BOUNDS_S, "overhead": _SHORT_BOUNDS_S}
_BOUNDS_MS = tuple(bound * 1000 for bound in _BOUNDS_S)
_SHORT_BOUNDS_MS = tuple(bound * 1000 for bound in _SHORT_BOUNDS_S)
_BOUND_NAMES = {what: {SUM, "+Inf", *map(str, bounds)} for what, bounds in HISTOGRAMS.items()}
_CLASSES = ("cancelled", "1xx", "2xx", "3xx", "4xx", "5xx")
# How many names of groups and endpoints follow, and how many other words.
_SHAPES = {
    "requests": (2, 3),
    "duration": (1, 1),
    "ttft": (1, 1),
    "overhead": (1, 1),
    "tokens": (2, 1),
    "cost": (2, 0),
    "unpriced": (2, 0),
    "attempts": (1, 1),
    "store_errors": (0, 1),
    "records_dropped": (0, 0),
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Field).decode


class _Cell:
    """Requests that differ in nothing that is told apart. Counts of the bounds' buckets, the last one beyond them."""

    __slots__ = ("cached", "cost", "duration_ms", "durations", "input", "output", "overhead_ms", "overheads",
                 "reasoning", "requests", "ttft_ms", "ttfts", "unpriced")  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.input = self.output = self.cached = self.reasoning = self.cost = self.unpriced = 0
        self.duration_ms = self.ttft_ms = self.overhead_ms = 0.0
        self.durations = [0] * (len(_BOUNDS_MS) + 1)
        self.ttfts = [0] * (len(_BOUNDS_MS) + 1)
        self.overheads = [0] * (len(_SHORT_BOUNDS_MS) + 1)

    def use(self, record: RequestRecord) -> None:
        """Tokens and money; of a cache hit they were not spent again."""
        if record.input_tokens:
            self.input += record.input_tokens
            if record.cached_tokens:
                self.cached += record.cached_tokens
        if record.output_tokens:
            self.output += record.output_tokens
            if record.reasoning_tokens:
                self.reasoning += record.reasoning_tokens
        if record.cost_nano_usd is None:
            self.unpriced += 1
        else:
            self.cost += record.cost_nano_usd

    def fields(self, group: str, endpoint: str) -> Iterable[tuple[Field, int]]:
        yield from _histogram("duration", group, self.durations, self.duration_ms)
        yield from _histogram("ttft", group, self.ttfts, self.ttft_ms)
        yield from _histogram("overhead", group, self.overheads, self.overhead_ms)
        for direction in ("input", "output", "cached", "reasoning"):
            yield ("tokens", group, endpoint, direction), getattr(self, direction)
        yield ("cost", group, endpoint), self.cost
        yield ("unpriced", group, endpoint), self.unpriced


def _histogram(what: str, group: str, counts: list[int], total_ms: float) -> Iterable[tuple[Field, int]]:
    for bound, count in zip((*HISTOGRAMS[what], "+Inf"), counts, strict=True):
        yield (what, group, str(bound)), count
    yield (what, group, SUM), round(total_ms * 1000)


class Series:
    """Sums that grow: `take` and `attempt` on the hot path (measured: 1.0 and 0.2 us), `fields` for the store."""

    __slots__ = ("_attempts", "_cells", "_summed")

    def __init__(self, summed: Mapping[Field, int] | None = None) -> None:
        self._cells: dict[tuple[str, str, int, bool, str], _Cell] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._summed: Counter[Field] = Counter(summed or {})

    def take(self, record: RequestRecord) -> None:
        """A request has ended."""
        group, cache = record.model_group, record.cache
        status_class = 0 if record.outcome == "cancelled" else record.status // 100
        key = (group, record.endpoint, status_class, record.stream, cache)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell()
        cell.requests += 1
        took = record.duration_ms
        cell.duration_ms += took
        cell.durations[bisect_left(_BOUNDS_MS, took)] += 1
        if (ttft := record.ttft_ms) is not None:
            cell.ttft_ms += ttft
            cell.ttfts[bisect_left(_BOUNDS_MS, ttft)] += 1
        if (overhead := record.overhead_ms) is not None:
            cell.overhead_ms += overhead
            cell.overheads[bisect_left(_SHORT_BOUNDS_MS, overhead)] += 1
        if cache != "hit" or record.attempts:  # a hit may have been the last to wait for what others had asked for
            cell.use(record)

    def attempt(self, endpoint: str, outcome: str) -> None:
        """An attempt has ended."""
        key = (endpoint, outcome)
        self._attempts[key] = self._attempts.get(key, 0) + 1

    def more(self, count: int, *field: str) -> None:
        """Something else has happened; seldom."""
        self._summed[field] += count

    def add(self, other: "Series") -> None:
        self._summed.update(other.fields())

    def drop(self, fields: Iterable[Field]) -> None:
        """Of sums that came from elsewhere."""
        for field in fields:
            self._summed.pop(field, None)

    def fields(self) -> Counter[Field]:
        """Everything, as sums that are not 0."""
        fields = Counter(self._summed)
        for (endpoint, outcome), count in self._attempts.items():
            fields["attempts", endpoint, outcome] += count
        for (group, endpoint, status_class, stream, cache), cell in self._cells.items():
            told = (_CLASSES[min(status_class, 5)], "true" if stream else "false", cache)
            fields["requests", group, endpoint, *told] += cell.requests
            for field, count in cell.fields(group, endpoint):
                if count:
                    fields[field] += count
        return fields

    def empty(self) -> bool:
        return not self._cells and not self._attempts and not self._summed


def written(fields: Mapping[Field, int]) -> dict[str, int]:
    """As the store has them."""
    return {_encode(field).decode(): count for field, count in fields.items() if count}


def read(fields: Mapping[str, str]) -> dict[Field, int]:
    """The inverse. What another version or somebody else wrote is passed over."""
    found: dict[Field, int] = {}
    for name, value in fields.items():
        if not (value.isascii() and value.isdecimal() and len(value) <= LONGEST_NUMBER):
            continue
        try:
            field = _decode(name)
        except (msgspec.DecodeError, UnicodeEncodeError):
            continue
        if _known(field):
            found[field] = int(value)
    return found


def _known(field: Field) -> bool:
    shape = _SHAPES.get(field[0]) if field else None
    if shape is None or len(field) != 1 + sum(shape) or not "".join(field).isprintable():
        return False
    bounds = _BOUND_NAMES.get(field[0])
    return bounds is None or field[-1] in bounds


def stale(fields: Iterable[Field], groups: Mapping[str, object], endpoints: Iterable[str]) -> list[Field]:
    """Those that name a group or an endpoint that is configured no more, if there are too many of them; else none."""
    names = {"", *endpoints}
    old = [field for field in fields if not _current(field, groups, names)]
    return old if len(old) > MOST_STALE else []


def _current(field: Field, groups: Mapping[str, object], endpoints: set[str]) -> bool:
    if field[0] == "attempts":
        return field[1] in endpoints
    names = field[1 : 1 + _SHAPES[field[0]][0]]
    return all(name == "" or name in groups for name in names[:1]) and all(name in endpoints for name in names[1:])
