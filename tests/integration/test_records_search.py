"""Searching records finds what a look at every one of them would find, led by an index, in a bounded number of rows."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connections

from stats import record_search
from stats.models import RecordedRequest
from stats.pending import Pending
from stats.record import RequestRecord
from stats.record_search import Place, RecordSearch, Search
from stats.record_tables import RecordTables
from tests.fakes.postgres import Postgres, why_not
from tests.integration.records_database import ALIAS, NOW, database, mixed, record

COUNT = 400
SPECIAL = [
    record(request_id="slow", at=NOW + 1, duration_ms=12_000.0),
    record(request_id="slower", at=NOW + 1, duration_ms=70_000.0, cost_nano_usd=None),
    record(request_id="dear", at=NOW + 2, cost_nano_usd=20_000_000),
    record(request_id="dearer", at=NOW + 3, cost_nano_usd=3_000_000_000, stream=True),
    record(request_id="%_\\", at=NOW + 4, key="%"),
    record(request_id="teapot", at=NOW + 5, status=418, outcome="rejected"),
]
RECORDS = [*mixed(COUNT), *SPECIAL]
KINDS: dict[str, tuple[Search, Callable[[RequestRecord], bool]]] = {
    "all": (Search(), lambda one: True),
    "an id": (Search(request_id="%_\\"), lambda one: one.request_id == "%_\\"),
    "no such id": (Search(request_id="%"), lambda one: False),
    "a group": (Search(group="n"), lambda one: one.model_group == "n"),
    "an endpoint": (Search(endpoint="east"), lambda one: one.endpoint == "east"),
    "a key": (Search(key="anna"), lambda one: one.key == "anna"),
    "tried": (Search(tried="south"), lambda one: "south" in {attempt.endpoint for attempt in one.attempts}),
    "a status": (Search(status=404), lambda one: one.status == 404),
    "left": (Search(status=0), lambda one: one.status == 0),
    "a class": (Search(status_class=4), lambda one: 400 <= one.status < 500),
    "failure": (Search(outcome="failure"), lambda one: one.outcome == "failure"),
    "troubled": (Search(outcome="troubled"), lambda one: one.troubled),
    "rejected": (Search(outcome="rejected"), lambda one: one.outcome == "rejected"),
    "cancelled": (Search(outcome="cancelled"), lambda one: one.outcome == "cancelled"),
    "success": (Search(outcome="success"), lambda one: one.outcome == "success"),
    "cache": (Search(cache="hit"), lambda one: one.cache == "hit"),
    "streams": (Search(stream=True), lambda one: one.stream),
    "whole": (Search(stream=False), lambda one: not one.stream),
    "slow": (Search(slower_ms=10_000), lambda one: one.duration_ms >= 10_000),
    "a minute": (Search(slower_ms=60_000), lambda one: one.duration_ms >= 60_000),
    "a second": (Search(slower_ms=1000), lambda one: one.duration_ms >= 1000),
    "expensive": (Search(dearer_nano_usd=10_000_000), lambda one: (one.cost_nano_usd or 0) >= 10_000_000),
    "a dollar": (Search(dearer_nano_usd=1_000_000_000), lambda one: (one.cost_nano_usd or 0) >= 1_000_000_000),
    "a time": (
        Search(since_ms=int(NOW * 1000) + 1000, until_ms=int(NOW * 1000) + 2000),
        lambda one: 1000 <= int(one.at * 1000) - int(NOW * 1000) < 2000,
    ),
    "much": (
        Search(group="m", endpoint="west", key="bert", outcome="troubled", cache="miss", stream=True, slower_ms=50),
        lambda one: (
            (one.model_group, one.endpoint, one.key, one.cache) == ("m", "west", "bert", "miss")
            and one.troubled
            and one.stream
            and one.duration_ms >= 50
        ),
    ),
    "a class in a group": (
        Search(status_class=5, group="m"),
        lambda one: one.status >= 500 and one.model_group == "m",
    ),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def records(request: pytest.FixtureRequest, tmp_path_factory, django_db_blocker) -> Iterator[RecordSearch]:
    def fill() -> RecordSearch:
        pending = Pending()
        for number in range(0, len(RECORDS), 100):
            for one in RECORDS[number : number + 100]:
                pending.add(one)
            RecordTables(ALIAS).write("w", pending.take())
        return RecordSearch(ALIAS)

    with django_db_blocker.unblock():
        if request.param == "sqlite":
            with database({"NAME": str(tmp_path_factory.mktemp("search") / "numbers.sqlite3")}):
                yield fill()
        elif reason := why_not():
            pytest.skip(reason)
        else:
            with Postgres() as postgres, database(postgres.settings):
                yield fill()


def walked(records: RecordSearch, search: Search, most: int) -> list[str]:
    """The ids of all that is found, page after page."""
    ids: list[str] = []
    after: Place | None = None
    for _ in range(2 * len(RECORDS)):
        found = records.find(search, most, after)
        assert len(found.rows) <= most
        ids += [row.request_id for row in found.rows]
        if found.older is None:
            return ids
        after = Place.parse(str(found.older))
    raise AssertionError("the pages have no end")


def expected(fits: Callable[[RequestRecord], bool]) -> list[str]:
    """The newest first; of those of the same millisecond the one that was written later."""
    numbered = [(int(one.at * 1000), number, one) for number, one in enumerate(RECORDS)]
    numbered.sort(key=lambda one: one[:2], reverse=True)
    return [one.request_id for _, _, one in numbered if fits(one)]


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_fits_and_nothing_else(records, kind):
    search, fits = KINDS[kind]
    assert walked(records, search, 1000) == expected(fits)


@pytest.mark.parametrize("kind", ["all", "a group", "troubled", "a class", "streams"])
def test_pages_hold_each_record_once(records, kind):
    search, fits = KINDS[kind]
    assert walked(records, search, 7) == expected(fits)


@pytest.mark.parametrize("kind", ["cache", "much", "success", "a class in a group", "tried"])
def test_a_search_that_gives_up_is_gone_on_with(records, kind, monkeypatch):
    monkeypatch.setattr(record_search, "MOST_LOOKED_AT", 20)
    search, fits = KINDS[kind]
    assert walked(records, search, 7) == expected(fits)


def test_a_search_says_how_far_it_looked(records, monkeypatch):
    monkeypatch.setattr(record_search, "MOST_LOOKED_AT", 20)
    newest = sorted((int(one.at * 1000) for one in RECORDS), reverse=True)
    found = records.find(Search(cache="none such"), 7)

    assert (found.rows, found.looked_back_to) == ([], newest[20])
    assert found.older == Place(newest[20], 0)


def test_a_search_that_an_index_answers_alone_never_gives_up(records, monkeypatch):
    monkeypatch.setattr(record_search, "MOST_LOOKED_AT", 1)
    for kind in ("all", "a group", "a status", "troubled", "slow", "rejected", "a class"):
        search, fits = KINDS[kind]
        assert [row.request_id for row in records.find(search, 1000).rows] == expected(fits), kind


def test_the_index_that_reaches_furthest_back_leads(records, monkeypatch):
    """There are few records of `teapot`: they are all looked at, however many its group has."""
    monkeypatch.setattr(record_search, "MOST_LOOKED_AT", 20)
    found = records.find(Search(status=418, group="m", cache="bypass"), 7)
    assert ([row.request_id for row in found.rows], found.older) == (["teapot"], None)


def test_names_are_those_of_the_records(records):
    names = records.names()
    assert (names.groups, names.endpoints) == (["m", "n"], ["east", "north", "south", "west"])


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "x-1", "1-x", "-1-1", "1-1-1", "9" * 40 + "-1", "¹-²"])
def test_a_place_that_is_none_is_none(text):
    assert Place.parse(text) is None


# -- by which index; what SQLite says does not depend on how many rows there are


INDEXES = {
    "all": {"stats_request_time"},
    "an id": {"stats_request_id"},
    "a group": {"stats_request_group"},
    "an endpoint": {"stats_request_endpoint"},
    "a key": {"stats_request_key"},
    "a status": {"stats_request_status"},
    "a class": {"stats_request_status"},
    "failure": {"stats_request_troubled"},
    "troubled": {"stats_request_troubled"},
    "rejected": {"stats_request_outcome"},
    "cancelled": {"stats_request_outcome"},
    "slow": {"stats_request_slow"},
    "a minute": {"stats_request_slow"},
    "expensive": {"stats_request_expensive"},
    "a dollar": {"stats_request_expensive"},
    "success": {"stats_request_time"},
    "streams": {"stats_request_time"},
    "a time": {"stats_request_time"},
    "tried": {"stats_request_time"},
    "much": {"stats_request_troubled"},
}


@pytest.mark.parametrize("after", [None, Place(int(NOW * 1000) + 1500, 77)])
@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_leads_and_nothing_is_sorted(records, kind, after):
    if connections[ALIAS].vendor != "sqlite":
        pytest.skip("PostgreSQL reads a small table whole, and rightly so")
    plans: list[str] = []

    def explained(execute, sql, parameters, many, context):
        plain = "EXPLAIN QUERY PLAN " + sql.replace("%s", "?").replace("%%", "%")
        plans.extend(row[3] for row in connections[ALIAS].connection.execute(plain, parameters))
        return execute(sql, parameters, many, context)

    with connections[ALIAS].execute_wrapper(explained):
        records.find(KINDS[kind][0], 50, after)
    used = {word for plan in plans for word in plan.split() if word.startswith("stats_request_")}

    assert used == INDEXES[kind], plans
    assert not [plan for plan in plans if "B-TREE" in plan or "INDEX" not in plan], plans


def test_names_are_read_from_the_sums(records, django_assert_num_queries):
    with django_assert_num_queries(2, connection=connections[ALIAS]) as captured:
        records.names()
    assert not [query for query in captured.captured_queries if RecordedRequest._meta.db_table in query["sql"]]
