"""Records and sums reach the database, each exactly once, whatever the database does; and nothing waits for it."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError, OperationalError, connections
from structlog.testing import capture_logs

from stats import pending
from stats.models import RecordedRequest, Rollup, WrittenBatch
from stats.pending import Pending
from stats.record import AttemptRecord
from stats.record_tables import RecordTables
from stats.record_writer import RecordWriter
from stats.rollups import DAY, HOUR, MINUTE, STEPS, by_step, total
from tests.fakes.postgres import Postgres, why_not
from tests.integration.records_database import ALIAS, NOW, database, empty, mixed, record, recorded, summed, sums


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory, django_db_blocker) -> Iterator[Path | None]:
    """The path of the SQLite file; None: PostgreSQL."""
    with django_db_blocker.unblock():
        if request.param == "sqlite":
            file = tmp_path_factory.mktemp("numbers") / "numbers.sqlite3"
            with database({"NAME": str(file)}):
                yield file
        elif reason := why_not():
            pytest.skip(reason)
        else:
            with Postgres() as postgres, database(postgres.settings):
                yield None


@pytest.fixture
def numbers(server: Path | None) -> Path | None:
    empty()
    return server


@pytest.fixture
def sqlite(numbers: Path | None) -> Path:
    if numbers is None:
        pytest.skip("about SQLite's locks")
    return numbers


class Troubled(RecordTables):
    """Tables whose next writes go as they are told to: "lost", "reply lost", "refused", "slow"."""

    def __init__(self, *how: str) -> None:
        super().__init__(ALIAS)
        self.how = list(how)
        self.numbers: list[int] = []

    def write(self, writer: str, batch: Any) -> None:
        self.numbers.append(batch.number)
        how = self.how.pop(0) if self.how else ""
        if how == "lost":
            raise OperationalError("the server closed the connection")
        if how == "refused" and batch.records:
            raise DataError("a value that nobody can store")
        if how == "slow":
            time.sleep(0.3)  # noqa: TID251 - on the writer's thread
        super().write(writer, batch)
        if how == "reply lost":
            raise OperationalError("the server closed the connection")


@asynccontextmanager
async def writing(tables: RecordTables, every_s: float = 0.02) -> AsyncIterator[RecordWriter]:
    """A writer that runs, and is not stopped yet afterwards."""
    writer = RecordWriter(tables, every_s)
    running = asyncio.ensure_future(writer.run())
    try:
        yield writer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def written(records: Any, tables: RecordTables | None = None) -> RecordWriter:
    """A writer that has got these records in a few batches, and was stopped."""
    async with writing(tables or RecordTables(ALIAS)) as writer:
        for number, one in enumerate(records):
            writer.add(one)
            if number % 50 == 0:
                await asyncio.sleep(0.03)
    assert await writer.stop()
    return writer


def test_what_goes_in_comes_out(numbers):
    records = [record(request_id="all", error="x", stream=True, key="anna", cache="miss", cache_detail="no-store",
                      ttft_ms=12.5, cached_tokens=3, reasoning_tokens=4, partial=True, saved_nano_usd=5),
               record(request_id="little", status=0, attempts=[], overhead_ms=None, input_tokens=None,
                      output_tokens=None, cost_nano_usd=None)]  # fmt: skip
    asyncio.run(written(records))
    assert recorded() == records


def test_sums_are_those_of_the_requests_at_every_step(numbers):
    records = list(mixed(500))
    asyncio.run(written(records))
    for step in STEPS:
        assert sums(step) == by_step(summed(records), step)
    assert {one.request_id for one in recorded()} == {one.request_id for one in records}


def test_writers_add_up(numbers):
    groups = [list(mixed(300, seed)) for seed in (1, 2, 3)]

    async def at_once() -> None:
        await asyncio.gather(*(written(records) for records in groups))

    asyncio.run(at_once())
    everything = [one for records in groups for one in records]
    assert sums(DAY) == by_step(summed(everything), DAY)
    assert len(recorded()) == 900


@pytest.mark.parametrize(
    "how", [["lost"], ["reply lost"], ["lost", "lost", "reply lost", "lost"], ["slow", "reply lost"]]
)
def test_trouble_neither_loses_nor_doubles_anything(numbers, how):
    records = list(mixed(300))
    tables = Troubled(*how)
    writer = asyncio.run(written(records, tables))
    assert tables.how == []
    assert writer.dropped == 0
    assert sums(HOUR) == by_step(summed(records), HOUR)
    assert len(recorded()) == 300


def test_a_batch_that_fails_half_way_leaves_nothing(numbers):
    class Torn(RecordTables):
        def _insert(self, cursor: Any, rows: Any) -> None:
            super()._insert(cursor, rows)
            raise OperationalError("torn off")

    pending = Pending()
    pending.add(record())
    batch = pending.take()
    with pytest.raises(OperationalError):
        Torn(ALIAS).write("w", batch)
    assert (recorded(), sums(MINUTE), WrittenBatch.objects.using(ALIAS).count()) == ([], {}, 0)
    RecordTables(ALIAS).write("w", batch)
    assert len(recorded()) == 1


def test_a_stop_while_a_batch_is_on_its_way_does_not_write_it_twice(numbers):
    tables = Troubled("slow")

    async def stopped_early() -> bool:
        async with writing(tables, 0.01) as writer:
            writer.add(record())
            await asyncio.sleep(0.1)
        return await writer.stop()

    assert asyncio.run(stopped_early())
    assert tables.numbers == [1, 1]
    assert (len(recorded()), total(sums(DAY).values()).success) == (1, 2)  # the request and its attempt


def test_what_the_database_refuses_does_not_hold_up_the_rest(numbers):
    tables = Troubled("refused")
    with capture_logs() as logs:
        writer = asyncio.run(written([record(), *mixed(200)], tables))
    kept = len(recorded())
    assert (writer.dropped, kept) == (201 - kept, kept)
    assert 0 < writer.dropped < 201
    assert total(cell for key, cell in sums(DAY).items() if not key.endpoint).success > 100
    assert [line["log_level"] for line in logs] == ["error"]
    assert sum(row.unrecorded for row in Rollup.objects.using(ALIAS).filter(step=DAY)) == writer.dropped


@pytest.mark.parametrize("text", ["a\0b", "x" * 500, "ü" * 300, "\ud800"])
def test_odd_names_do_not_keep_a_batch_out(numbers, text):
    asyncio.run(
        written([record(request_id=text, key=text, error=text, model_group=text, endpoint=text, attempts=[]), record()])
    )
    assert len(recorded()) == 2
    assert len(sums(DAY)) == 3


def test_a_log_line_when_the_database_goes_and_one_when_it_comes_back(numbers):
    with capture_logs() as logs:
        asyncio.run(written(mixed(300), Troubled("lost", "lost", "lost")))
    assert [line["event"] for line in logs] == [
        "the database takes no records; they are kept, and dropped when there are too many",
        "the database takes records again",
    ]


def test_records_are_dropped_while_the_database_is_away_and_sums_are_not(numbers, monkeypatch):
    monkeypatch.setattr(pending, "MOST_RECORDS", 100)
    monkeypatch.setattr(pending, "MOST_TROUBLED", 120)
    records = list(mixed(1000))
    writer = asyncio.run(written(records, Troubled(*["lost"] * 30)))
    assert len(recorded()) == 1000 - writer.dropped
    assert 0 < writer.dropped < 1000
    assert total(cell for key, cell in sums(DAY).items() if not key.endpoint).unrecorded == writer.dropped
    requests = total(cell for key, cell in sums(DAY).items() if not key.endpoint)
    assert requests.success + requests.failure + requests.rejected + requests.cancelled == 1000


def test_tables_that_are_not_there_yet_are_waited_for(numbers):
    def change(name: str) -> None:
        with connections[ALIAS].schema_editor() as editor:
            getattr(editor, name)(RecordedRequest)
        connections[ALIAS].close()

    async def early() -> bool:
        async with writing(RecordTables(ALIAS)) as writer:
            writer.add(record())
            await asyncio.sleep(0.2)
            await asyncio.to_thread(change, "create_model")
        return await writer.stop()

    change("delete_model")
    assert asyncio.run(early())
    assert len(recorded()) == 1


def seen(read: Callable[[], Any]) -> Any:
    """What another thread reads."""
    try:
        return read()
    finally:
        connections[ALIAS].close()


def until(condition: Callable[[], bool]) -> None:
    last = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < last
        threading.Event().wait(0.02)


class Lock:
    """Another process's write transaction on a SQLite file, on a thread."""

    def __init__(self, file: Path) -> None:
        self._held = threading.Event()
        self._free = threading.Event()
        self._thread = threading.Thread(target=self._hold, args=[file])

    def _hold(self, file: Path) -> None:
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        self._held.set()
        self._free.wait()
        connection.execute("ROLLBACK")
        connection.close()

    def __enter__(self) -> "Lock":
        self._thread.start()
        self._held.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._free.set()
        self._thread.join()


def test_a_locked_database_does_not_hold_up_the_event_loop(sqlite):
    async def longest_pause() -> float:
        longest = 0.0
        async with writing(RecordTables(ALIAS)) as writer:
            with Lock(sqlite):
                for one in mixed(100):
                    began = time.perf_counter()
                    writer.add(one)
                    await asyncio.sleep(0.005)
                    longest = max(longest, time.perf_counter() - began)
                assert await asyncio.to_thread(seen, recorded) == []
        assert await writer.stop()
        return longest

    assert asyncio.run(longest_pause()) < 0.3
    assert len(recorded()) == 100


def test_stopping_does_not_wait_for_ever(sqlite):
    async def stopped() -> bool:
        writer = RecordWriter(RecordTables(ALIAS))
        writer.add(record())
        return await writer.stop(within_s=0.3)

    with Lock(sqlite), capture_logs() as logs:
        began = time.perf_counter()
        assert not asyncio.run(stopped())
        assert time.perf_counter() - began < 2
    assert [line["log_level"] for line in logs] == ["warning"]
    for thread in threading.enumerate():
        if thread.name == "records":
            thread.join(10)


def test_stopping_without_anything_to_write_asks_the_database_nothing(numbers):
    tables = Troubled()
    assert asyncio.run(RecordWriter(tables).stop())
    assert tables.numbers == []


def test_what_is_too_old_goes_by_itself(numbers):
    now = time.time()
    pending = Pending()
    for name, days in (("month", 31), ("days", 3), ("today", 0)):
        pending.add(record(request_id=name, at=now - days * DAY))
    RecordTables(ALIAS).write("w", pending.take())

    async def run() -> None:
        async with writing(RecordTables(ALIAS)) as writer:
            await asyncio.to_thread(seen, lambda: until(lambda: min(key.start for key in sums(MINUTE)) > now - 2 * DAY))
        assert await writer.stop()

    asyncio.run(run())
    assert [one.request_id for one in recorded()] == ["days", "today"]
    assert min(key.start for key in sums(HOUR)) < now - 30 * DAY
    assert min(key.start for key in sums(DAY)) < now - 30 * DAY


def test_marks_of_writers_that_are_gone_are_forgotten(numbers):
    WrittenBatch.objects.using(ALIAS).create(writer="gone", number=1, at=int(NOW) - DAY)
    WrittenBatch.objects.using(ALIAS).create(writer="here", number=1, at=int(time.time()))
    assert RecordTables(ALIAS).prune(time.time())
    assert not RecordTables(ALIAS).prune(time.time())
    assert [mark.writer for mark in WrittenBatch.objects.using(ALIAS).all()] == ["here"]


def test_slow_expensive_and_troubled_requests_are_marked(numbers):
    failed = AttemptRecord("west", "id-west", "failure", "status 500", 500, 0, 1)
    pending = Pending()
    for one in (record(request_id="slow", duration_ms=10_000.0), record(request_id="dear", cost_nano_usd=10_000_000),
                record(request_id="rescued", attempts=[failed, *record().attempts]), record()):  # fmt: skip
        pending.add(one)
    RecordTables(ALIAS).write("w", pending.take())
    marked = (
        RecordedRequest.objects.using(ALIAS).order_by("id").values_list("request_id", "slow", "expensive", "troubled")
    )
    assert list(marked) == [("slow", True, False, False), ("dear", False, True, False), ("rescued", False, False, True),
                            ("r-1", False, False, False)]  # fmt: skip


def test_an_older_batch_that_comes_late_is_not_written(numbers):
    pending = Pending()
    batches = []
    for number in range(2):
        pending.add(record(request_id=str(number)))
        batches.append(pending.take())
    for batch in (batches[0], batches[1], batches[0]):
        RecordTables(ALIAS).write("w", batch)
    assert [one.request_id for one in recorded()] == ["0", "1"]
    assert Rollup.objects.using(ALIAS).filter(step=DAY, endpoint="").values_list("success", flat=True)[0] == 2
