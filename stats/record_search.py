"""Finds records by what they say, the newest first, in bounded time whatever is asked of however many. Blocks.

One index leads; what it cannot answer is looked up in at most `MOST_LOOKED_AT` rows at a time, and said so.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from django.db.models import F, QuerySet, Value
from django.db.models.functions import Coalesce

from stats.models import RecordedRequest, Rollup
from stats.record_tables import EXPENSIVE_NANO_USD, SLOW_MS
from stats.retention import KEEP_RECORDS_S
from stats.rollups import DAY

MOST_LOOKED_AT = 50_000  # rows of one search; 0.3 s where none of them fits
TROUBLED = "troubled"
_MOST_NAMES = 1000
_OWN_INDEX = ("rejected", "cancelled")  # outcomes: successes are everywhere, and failures are troubled
_LATEST = 1 << 62


class Place(NamedTuple):
    """Between two records, in their order: what comes after it is older."""

    at_ms: int
    id: int

    def __str__(self) -> str:
        return f"{self.at_ms}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        at_ms, _, number = text.partition("-")
        if len(text) > 36 or not (at_ms + number).isascii() or not (at_ms.isdigit() and number.isdigit()):
            return None
        return cls(min(int(at_ms), _LATEST), min(int(number), _LATEST))


@dataclass(frozen=True, slots=True)
class Search:
    """What records must be like. Empty and None: whatever."""

    request_id: str = ""
    group: str = ""
    endpoint: str = ""  # whose answer it is
    tried: str = ""  # among the attempts
    key: str = ""
    outcome: str = ""  # one of counters.OUTCOMES, or "troubled": it, or one of its attempts, failed
    status: int | None = None  # 0: the client left before there was one
    status_class: int | None = None  # 2 for 200 to 299
    cache: str = ""
    stream: bool | None = None
    slower_ms: float | None = None
    dearer_nano_usd: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Found(NamedTuple):
    """older: where to go on; None: there is no more. looked_back_to: the search ended there, not at what it found."""

    rows: list[RecordedRequest]
    older: Place | None
    looked_back_to: int | None  # Unix time in ms


class Names(NamedTuple):
    """What there are records of."""

    groups: list[str]
    endpoints: list[str]


class RecordSearch:
    """Reads one database, as Django names it."""

    def __init__(self, using: str = "default") -> None:
        self._using = using

    def find(self, search: Search, most: int, after: Place | None = None) -> Found:
        """At most so many, and only older ones than `after`."""
        lanes = [self._lane(one, most, after) for one in self._by_status(search)]
        horizon = max((lane.horizon for lane in lanes if lane.horizon is not None), default=None)
        rows = [row for lane in lanes for row in lane.rows if horizon is None or row.at_ms >= horizon]
        rows.sort(key=lambda row: (row.at_ms, row.pk), reverse=True)
        if len(rows) > most:
            last = rows[most - 1]
            return Found(rows[:most], Place(last.at_ms, last.pk), None)
        return Found(rows, None if horizon is None else Place(horizon, 0), horizon)

    def failures_before(self, at_ms: int, seconds: float, most: int = 200) -> list[RecordedRequest]:
        """Requests that failed, or of which an attempt did, in so many seconds before; the newest first."""
        rows = RecordedRequest.objects.using(self._using).filter(troubled=True, at_ms__lt=at_ms)
        return list(rows.filter(at_ms__gte=at_ms - int(seconds * 1000)).order_by("-at_ms")[:most])

    def names(self) -> Names:
        """From the sums by day, which are few."""
        sums = Rollup.objects.using(self._using).filter(step=DAY, start__gte=int(time.time() - KEEP_RECORDS_S - DAY))
        groups = sums.filter(endpoint="").values_list("model_group", flat=True).distinct()[:_MOST_NAMES]
        endpoints = sums.exclude(endpoint="").values_list("endpoint", flat=True).distinct()[:_MOST_NAMES]
        return Names(sorted(filter(None, groups)), sorted(endpoints))

    def _lane(self, search: Search, most: int, after: Place | None) -> "_Lane":
        """All rows of a search that one index leads through in their order."""
        within = self._within(search, after)
        conditions = list(_conditions(search))
        leading = [one for one in conditions if one.leads]
        if len(conditions) == len(leading) <= 1:  # the index says all
            lead, horizon = next(iter(leading), None), None
        else:
            lead, horizon = _furthest(within, leading)
        rows = lead.by_index(within) if lead else within
        for condition in conditions:
            if condition is not lead:
                rows = condition.by_row(rows)
        if horizon is not None:
            rows = rows.filter(at_ms__gte=horizon)
        return _Lane(list(rows[: most + 1]), horizon)

    def _within(self, search: Search, after: Place | None) -> QuerySet[RecordedRequest]:
        rows = RecordedRequest.objects.using(self._using).order_by("-at_ms", "-id")
        if search.since_ms is not None:
            rows = rows.filter(at_ms__gte=search.since_ms)
        if search.until_ms is not None:
            rows = rows.filter(at_ms__lt=search.until_ms)
        if after is not None:
            rows = rows.filter(at_ms__lte=after.at_ms).exclude(at_ms=after.at_ms, id__gte=after.id)
        return rows

    def _by_status(self, search: Search) -> Iterator[Search]:
        """A class as each status in it that there is: an index is in the order of time for one value only."""
        if search.status_class is None:
            yield search
            return
        end, status = search.status_class * 100 + 99, search.status_class * 100 - 1
        known = RecordedRequest.objects.using(self._using).order_by("status").values_list("status", flat=True)
        while (found := known.filter(status__gt=status, status__lte=end).first()) is not None:
            status = found
            yield replace(search, status=status)


class _Lane(NamedTuple):
    rows: list[RecordedRequest]  # one more than asked for, where there is one
    horizon: int | None  # in ms: older rows were not looked at


class _Condition(NamedTuple):
    """leads: an index finds these rows in the order of time."""

    field: str
    value: Any
    leads: bool = True
    lookup: str = "exact"

    def by_index(self, rows: QuerySet[RecordedRequest]) -> QuerySet[RecordedRequest]:
        return rows.filter(**{f"{self.field}__{self.lookup}": self.value})

    def by_row(self, rows: QuerySet[RecordedRequest]) -> QuerySet[RecordedRequest]:
        """An expression keeps the database from following this one's index instead of the one that leads."""
        if not self.leads:
            return self.by_index(rows)
        read = Coalesce(F(self.field), Value(type(self.value)()))
        return rows.alias(**{f"read_{self.field}": read}).filter(**{f"read_{self.field}": self.value})


def _conditions(search: Search) -> Iterator[_Condition]:
    """Those whose index tends to lead through the fewest rows first."""
    yield from _leading(search)
    if search.outcome in ("success", "failure"):
        yield _Condition("outcome", search.outcome, leads=False)
    if search.tried:
        yield _Condition("attempts", f"[{json.dumps(search.tried, ensure_ascii=False)},", False, "contains")
    if search.cache:
        yield _Condition("cache", search.cache, leads=False)
    if search.stream is not None:
        yield _Condition("stream", search.stream, leads=False)
    if search.slower_ms is not None and search.slower_ms != SLOW_MS:
        yield _Condition("duration_ms", search.slower_ms, False, "gte")
    if search.dearer_nano_usd is not None and search.dearer_nano_usd != EXPENSIVE_NANO_USD:
        yield _Condition("cost_nano_usd", search.dearer_nano_usd, False, "gte")


def _leading(search: Search) -> Iterator[_Condition]:
    if search.request_id:
        yield _Condition("request_id", search.request_id)
    if search.outcome in _OWN_INDEX:
        yield _Condition("outcome", search.outcome)
    flags = {
        "troubled": search.outcome in ("failure", TROUBLED),
        "expensive": (search.dearer_nano_usd or 0) >= EXPENSIVE_NANO_USD,
        "slow": (search.slower_ms or 0) >= SLOW_MS,
    }
    for flag, wanted in flags.items():
        if wanted:
            yield _Condition(flag, True)
    if search.status is not None:
        yield _Condition("status", search.status)
    for field, value in (("key", search.key), ("endpoint", search.endpoint), ("model_group", search.group)):
        if value:
            yield _Condition(field, value)


def _furthest(within: QuerySet[RecordedRequest], leading: list[_Condition]) -> tuple[_Condition | None, int | None]:
    """Whose index reaches furthest back in so many rows, and how far, in ms; None: to the end."""
    reached: list[tuple[int, _Condition | None]] = []
    leads: list[_Condition | None] = [*leading] or [None]
    for lead in leads:
        rows = lead.by_index(within) if lead else within
        horizon = rows.order_by("-at_ms").values_list("at_ms", flat=True)[MOST_LOOKED_AT : MOST_LOOKED_AT + 1].first()
        if horizon is None:
            return lead, None
        reached.append((horizon, lead))
    furthest, best = min(reached, key=lambda one: one[0])
    return best, furthest
