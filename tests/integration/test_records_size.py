"""Pages are as fast with ten million records as with a hundred thousand."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from django.db import connections, transaction

from stats.history import History, Span
from stats.models import RecordedRequest
from stats.pending import MOST_RECORDS, Pending
from stats.record_search import RecordSearch, Search
from stats.record_tables import RecordTables
from stats.retention import KEEP_HOURS_S, KEEP_MINUTES_S, KEEP_RECORDS_S
from stats.rollups import DAY, HOUR, MINUTE, SUMS
from tests.integration.records_database import ALIAS, database, mixed

NOW = time.time() // DAY * DAY - DAY / 2  # noon: just after midnight a sparse set has no sum of the day before
FEW = 100_000
LONGEST_S = 0.5  # of any page, on a busy machine; see docs/numbers.md for what was measured

# Spread over the 30 days that records are kept; one in 10,000 is special in some way.
ROWS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO stats_recordedrequest (request_id, at_ms, duration_ms, operation, outcome, status, error, stream, key,
    model_group, revision, cache, cache_detail, endpoint, endpoint_id, attempts, ttft_ms, overhead_ms, input_tokens,
    output_tokens, cached_tokens, reasoning_tokens, partial, cost_nano_usd, saved_nano_usd, slow, expensive, troubled)
SELECT printf('%08x-%08x', i * 2654435761 % 4294967296, i), {start} + i * {apart}, i * 7919 % 9000 + 1,
    'chat/completions', CASE WHEN i % 10000 = 0 THEN 'failure' ELSE 'success' END,
    CASE WHEN i % 10000 = 0 THEN 502 ELSE 200 END, '', i % 2, CASE WHEN i % 10000 = 1 THEN 'rare' ELSE 'key-' || (i % 20) END,
    CASE WHEN i % 10000 = 2 THEN 'rare' ELSE 'group-' || (i % 3) END, 1, 'miss', '',
    CASE WHEN i % 10000 = 3 THEN 'rare' ELSE 'endpoint-' || (i % 9) END, 'id',
    '[["endpoint","0123456789abcdef","success","",200,0.5,' || (i * 7919 % 9000) || ']]', NULL, 0.5, 300, 400, 0, 0, 0, 1000,
    NULL, i % 10000 = 4, i % 10000 = 5, i % 10000 = 0
FROM n"""


@pytest.fixture(scope="module", params=[FEW, pytest.param(10_000_000, marks=pytest.mark.full)])
def history(request: pytest.FixtureRequest, tmp_path_factory, django_db_blocker) -> Iterator[History]:
    """That many records, and the sums of three groups with three endpoints each over as long as they are kept."""
    file = tmp_path_factory.mktemp("size") / "numbers.sqlite3"
    with django_db_blocker.unblock(), database({"NAME": str(file)}):
        _fill(request.param)
        yield History(ALIAS)
    file.unlink()  # pytest would keep 5 GB


def _fill(count: int) -> None:
    start_ms = int((NOW - KEEP_RECORDS_S + DAY) * 1000)
    apart_ms = (KEEP_RECORDS_S - DAY) * 1000 // count
    with transaction.atomic(ALIAS), connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name LIKE 'stats_request_%%'", [])
        indexes = cursor.fetchall()
        for name, _ in indexes:  # made afterwards it takes a quarter of the time
            cursor.execute(f"DROP INDEX {name}")
        cursor.execute(ROWS.format(count=count, start=start_ms, apart=apart_ms))
        for _, sql in indexes:
            cursor.execute(sql)
        columns = ["step", "start", "model_group", "endpoint", *SUMS, "latency", "ttft"]
        cursor.executemany(
            f"INSERT INTO stats_rollup ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})",
            list(_cells(1 if count > FEW else 10)),
        )


def _cells(every: int) -> Iterator[list[Any]]:
    rng = random.Random(1)
    for step, kept_s in ((MINUTE, KEEP_MINUTES_S), (HOUR, KEEP_HOURS_S), (DAY, 365 * DAY)):
        for start in range(int(NOW - kept_s) // step * step, int(NOW), step * every):
            for group in range(3):
                for endpoint in ("", *(f"endpoint-{group}-{number}" for number in range(3))):
                    latency = msgspec.json.encode({bucket: rng.randint(1, 50) for bucket in range(25, 45)}).decode()
                    sums = [rng.randint(0, 1000) for _ in SUMS]
                    yield [step, start, f"group-{group}", endpoint, *sums, latency, latency]


def timed(what: str, read: Callable[[], Any]) -> Any:
    """What it reads, and that it does so quickly: the best of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        found = read()
        times.append(time.perf_counter() - began)
    print(f"{what}: {min(times) * 1000:.1f} ms")
    assert min(times) < LONGEST_S
    return found


FILTERS = {
    "newest": {},
    "a rare key": {"key": "rare"},
    "a common key": {"key": "key-7"},
    "a rare group": {"model_group": "rare"},
    "a common group": {"model_group": "group-1"},
    "a rare endpoint": {"endpoint": "rare"},
    "a rare status": {"status": 502},
    "slow": {"slow": True},
    "expensive": {"expensive": True},
    "no such key": {"key": "nobody"},
}

SPECIAL = {"a rare key", "a rare group", "a rare endpoint", "a rare status", "slow", "expensive"}


@pytest.mark.parametrize("name", FILTERS)
def test_a_page_of_records_is_found_at_once(history, name):
    rows = RecordedRequest.objects.using(ALIAS).filter(**FILTERS[name]).order_by("-at_ms")[:100]
    found = timed(name, lambda: list(rows.all()))
    few = RecordedRequest.objects.using(ALIAS).count() // 10_000 if name in SPECIAL else 100
    assert len(found) == (0 if name == "no such key" else min(few, 100))


SEARCHES = {
    "no filter": Search(),
    "two common names": Search(group="group-1", endpoint="endpoint-4"),
    "two names that never go together": Search(group="group-1", endpoint="endpoint-2"),
    "a rare key and more": Search(key="rare", stream=True, cache="miss"),
    "a class of status": Search(status_class=5),
    "failures in a group": Search(outcome="failure", group="group-0"),
    "nothing that an index knows": Search(cache="hit"),
    "an attempt nowhere": Search(tried="nowhere"),
    "all at once": Search(group="group-1", key="key-7", status=200, cache="hit", slower_ms=1, stream=True),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_ends_at_once(history, name):
    search, records = SEARCHES[name], RecordSearch(ALIAS)
    found = timed(name, lambda: records.find(search, 50))
    further = timed(f"{name}, further", lambda: records.find(search, 50, found.older))
    assert found.rows or found.looked_back_to is not None or found.older is None
    assert not {row.pk for row in found.rows} & {row.pk for row in further.rows} or found.older is None


def test_names_are_found_at_once(history):
    names = timed("names", RecordSearch(ALIAS).names)
    assert (len(names.groups), len(names.endpoints)) == (3, 9)


def test_a_record_is_found_by_its_id(history):
    wanted = RecordedRequest.objects.using(ALIAS).order_by("id")[777]
    found = timed("by id", lambda: RecordedRequest.objects.using(ALIAS).get(request_id=wanted.request_id))
    assert found == wanted


def test_a_page_far_back_in_time_is_found_at_once(history):
    rows = RecordedRequest.objects.using(ALIAS).filter(model_group="group-1", at_ms__lt=int((NOW - 20 * DAY) * 1000))
    assert len(timed("20 days ago", lambda: list(rows.order_by("-at_ms")[:100]))) == 100


def test_the_last_failures_are_found_at_once(history):
    assert len(timed("failures", lambda: history.recent_failures(10))) == 10


@pytest.mark.parametrize("by", ["", "model_group", "endpoint"])
@pytest.mark.parametrize(
    ("seconds", "step"), [(900, MINUTE), (DAY, HOUR), (DAY, 900), (30 * DAY, DAY), (30 * DAY, 6 * HOUR)]
)
def test_a_chart_is_drawn_at_once(history, seconds, step, by):
    span = Span.last(seconds, NOW, step)
    series = timed(f"series {seconds} s / {step} s {by}", lambda: history.series(span, step, by))
    totals = timed(f"totals {seconds} s {by}", lambda: history.totals(span, by))
    assert len(series) == len(totals) == {"": 1, "model_group": 3, "endpoint": 9}[by]


@pytest.fixture
def undone(history) -> Iterator[RecordTables]:
    """Tables whose changes are taken back after the test."""
    with transaction.atomic(ALIAS):
        yield RecordTables(ALIAS)
        transaction.set_rollback(True, ALIAS)


def test_a_batch_is_written_within_a_fraction_of_its_second(undone):
    pending = Pending()
    records = list(mixed(MOST_RECORDS, at=NOW))

    def write() -> None:
        for one in records:
            pending.add(one)
        undone.write("w", pending.take())

    before = RecordedRequest.objects.using(ALIAS).count()
    timed("a batch", write)
    assert RecordedRequest.objects.using(ALIAS).count() == before + 3 * MOST_RECORDS


def test_a_slice_is_deleted_within_a_fraction_of_a_second(undone):
    assert timed("a slice", lambda: undone.prune(NOW + 10 * DAY))
