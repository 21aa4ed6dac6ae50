"""What a worker has yet to tell the database: all requests as sums, and as records as many as are affordable.

Pure; for one thread. The sums miss nothing. Records are dropped when there are too many, successes first, and the sums
say how many were.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stats.record import RequestRecord
from stats.rollups import Cells, count_in

# Of one batch. Batches are a second apart, so these bound the records per second (measured: 16 to 25 us of CPU each),
# and what waits while the database is away.
MOST_RECORDS = 500
MOST_TROUBLED = 1000  # with those that tell of a failure
_TOGETHER = 128  # requests that are counted at a time: in a row each takes less


@dataclass(slots=True)
class Batch:
    """Written whole or not at all. number: one more than the batch before."""

    number: int
    records: Sequence[RequestRecord]
    cells: Cells


@dataclass(slots=True)
class Pending:
    """Filled on the hot path (measured: 2 us a request), emptied by `take`."""

    _dropped: int = 0
    _noted: list[RequestRecord] = field(default_factory=list)  # not counted yet
    _records: list[RequestRecord] = field(default_factory=list)
    _cells: Cells = field(default_factory=dict)
    _number: int = 0

    def add(self, record: RequestRecord) -> None:
        """A request has ended."""
        self._noted.append(record)
        if len(self._noted) >= _TOGETHER:
            self._count()

    @property
    def dropped(self) -> int:
        """Records, ever."""
        self._count()
        return self._dropped

    def drop(self, records: int) -> None:
        """So many that had been taken."""
        self._dropped += records

    @property
    def waits(self) -> bool:
        """There is something to take."""
        return bool(self._cells or self._noted)

    def take(self) -> Batch | None:
        """Everything so far; None: there is nothing."""
        self._count()
        if not self._cells:
            return None
        self._number += 1
        batch = Batch(self._number, self._records, self._cells)
        self._records, self._cells = [], {}
        return batch

    def _count(self) -> None:
        noted, self._noted = self._noted, []
        for record in noted:
            waiting = len(self._records)
            kept = waiting < MOST_RECORDS or (waiting < MOST_TROUBLED and record.troubled)
            if kept:
                self._records.append(record)
            else:
                self._dropped += 1
            count_in(self._cells, record, kept)
