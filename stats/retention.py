"""How long numbers are kept, and the deleting of the rest: in slices, so that no writer waits long for its turn."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db.models import Max, QuerySet

from stats.models import RecordedRequest, Rollup, WrittenBatch
from stats.rollups import DAY, HOUR, MINUTE

KEEP_RECORDS_S = 30 * DAY
MOST_RECORDS = 10_000_000  # the newest; about 5 GB
KEEP_MINUTES_S = 2 * DAY
KEEP_HOURS_S = 60 * DAY  # sums of days are kept for ever
_KEEP_MARKS_S = DAY
_SLICE = 2000  # rows

_AGE = re.compile(r"(\d{1,6})([mhd])", re.ASCII)
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}


def parse_age(text: str) -> int:
    """Seconds of "30d", "12h" or "90m". Raises ValueError."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no age: write a number and d, h or m, like 30d")
    return int(match[1]) * _UNITS[match[2]]


class Expired(NamedTuple):
    """Rows of one kind that may go."""

    kind: str  # records | minutes | hours | marks
    rows: QuerySet[Any]  # in the order of an index, so that the first ones are found at once


def expired(now: float, keep_records_s: float = KEEP_RECORDS_S, using: str = "default") -> list[Expired]:
    """now: Unix time. Two kinds of records: too old, and too many."""
    records = RecordedRequest.objects.using(using)
    newest = records.aggregate(newest=Max("id"))["newest"] or 0
    oldest_ms = int((now - keep_records_s) * 1000)
    sums = Rollup.objects.using(using).order_by("step", "start")
    marks = WrittenBatch.objects.using(using)
    return [
        Expired("records", records.filter(at_ms__lt=oldest_ms).order_by("at_ms")),
        Expired("records", records.filter(id__lte=newest - MOST_RECORDS, at_ms__gte=oldest_ms).order_by("id")),
        Expired("minutes", sums.filter(step=MINUTE, start__lt=int(now - KEEP_MINUTES_S))),
        Expired("hours", sums.filter(step=HOUR, start__lt=int(now - KEEP_HOURS_S))),
        Expired("marks", marks.filter(at__lt=int(now - _KEEP_MARKS_S)).order_by("pk")),
    ]


def delete_slices(all_expired: list[Expired]) -> Iterator[tuple[str, int]]:
    """Deletes as it is iterated over: kind and number of each slice."""
    for kind, rows in all_expired:
        deleted = _SLICE
        while deleted == _SLICE:
            # Straight to SQL: nothing refers to these rows, and nobody listens to their going.
            deleted = (
                rows.model._base_manager.using(rows.db).filter(pk__in=rows.values("pk")[:_SLICE])._raw_delete(rows.db)
            )
            if deleted:
                yield kind, deleted
