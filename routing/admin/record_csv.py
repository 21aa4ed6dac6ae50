"""Requests as CSV: as they are found, a page at a time in memory. A cell that a spreadsheet would run is text."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from typing import Any

from asgiref.sync import sync_to_async

from stats.models import RecordedRequest
from stats.record import RequestRecord
from stats.record_search import Found, Place, RecordSearch, Search

MOST_ROWS = 100_000
_MOST_LOOKS = 40  # in vain, each through record_search.MOST_LOOKED_AT rows
_AT_A_TIME = 500
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
_NANO = 1_000_000_000

_SAME = tuple(
    name
    for name in RequestRecord.__struct_fields__
    if name not in ("request_id", "at", "attempts", "cost_nano_usd", "saved_nano_usd")
)
COLUMNS = ("at", "request_id", *_SAME, "cost_usd", "saved_usd", "attempts", "trail")


async def csv_lines(found: RecordSearch, search: Search) -> AsyncIterator[bytes]:
    """The newest first. The last line says so where there are more than are written."""
    yield _written([COLUMNS])
    page = sync_to_async(found.find)
    after: Place | None = None
    rows = looks = 0
    while True:
        part: Found = await page(search, min(_AT_A_TIME, MOST_ROWS - rows), after)
        rows += len(part.rows)
        looks += part.looked_back_to is not None
        if part.rows:
            yield _written(map(_cells, part.rows))
        after = part.older
        if after is None:
            return
        if rows >= MOST_ROWS or looks >= _MOST_LOOKS:
            yield _written(
                [[f"cut after {rows} rows; for older ones set the end of the time to {_moment(after.at_ms)}"]]
            )
            return


def _cells(row: RecordedRequest) -> list[Any]:
    return [
        _moment(row.at_ms),
        safe(row.request_id),
        *(safe(getattr(row, name)) for name in _SAME),
        _usd(row.cost_nano_usd),
        _usd(row.saved_nano_usd),
        len(row.trail),
        row.attempts,
    ]


def safe(value: Any) -> Any:
    """CSV injection: https://owasp.org/www-community/attacks/CSV_Injection"""
    if isinstance(value, bool):
        return int(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_DANGEROUS) else value


def _moment(at_ms: int) -> str:
    """ISO 8601, UTC."""
    return RecordedRequest(at_ms=at_ms).at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _usd(nano_usd: int | None) -> str:
    """Empty: unknown."""
    return "" if nano_usd is None else f"{nano_usd / _NANO:.9f}"


def _written(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
