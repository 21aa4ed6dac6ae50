"""What a database that takes nothing for a while is told afterwards."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from structlog.testing import capture_logs

from stats.pending import MOST_TROUBLED
from stats.record_tables import RecordTables
from stats.record_writer import RecordWriter
from stats.rollups import STEPS, total
from tests.integration.records_database import ALIAS, database, mixed, recorded, summed, sums


@pytest.fixture
def file(tmp_path, django_db_blocker) -> Iterator[None]:
    with django_db_blocker.unblock(), database({"NAME": str(tmp_path / "numbers.sqlite3")}):
        yield


class ReadOnly(RecordTables):
    """Until it is told otherwise."""

    read_only = True

    def write(self, writer: str, batch: Any) -> None:
        with connections[self._using].cursor() as cursor:
            cursor.execute(f"PRAGMA query_only = {self.read_only:d}")
        super().write(writer, batch)


def test_what_a_read_only_database_missed_is_in_the_sums_and_said(file):
    records, tables = list(mixed(2 * MOST_TROUBLED)), ReadOnly(ALIAS)

    async def written() -> RecordWriter:
        writer = RecordWriter(tables, 0.01)
        running = asyncio.ensure_future(writer.run())
        for number, one in enumerate(records):
            writer.add(one)
            if number % 100 == 0:
                await asyncio.sleep(0.02)
        tables.read_only = False
        await asyncio.sleep(0.2)
        running.cancel()
        assert await writer.stop()
        return writer

    with capture_logs() as logs:
        writer = asyncio.run(written())
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert 0 < writer.dropped == len(records) - len(recorded())
    expected = total(summed(records).values())
    expected.unrecorded = writer.dropped
    assert [total(sums(step).values()) for step in STEPS] == [expected] * len(STEPS)
