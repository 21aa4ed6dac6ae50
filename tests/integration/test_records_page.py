"""docs/numbers.md says what is kept, and for how long."""

import re

from routing.admin.record_csv import MOST_ROWS as MOST_CSV_ROWS
from stats.pending import MOST_RECORDS, MOST_TROUBLED
from stats.record import RequestRecord
from stats.record_search import MOST_LOOKED_AT
from stats.record_tables import EXPENSIVE_NANO_USD, SLOW_MS
from stats.record_writer import STOP_WITHIN_S
from stats.retention import KEEP_HOURS_S, KEEP_MINUTES_S, KEEP_RECORDS_S
from stats.retention import MOST_RECORDS as MOST_ROWS
from stats.rollups import DAY
from tests.docs_pages import named, section, table


def test_every_field_of_a_record_is_documented():
    assert sorted(named("numbers.md", "Records")) == sorted(RequestRecord.__struct_fields__)


def test_the_documented_bounds_are_the_bounds():
    text = re.sub(r"\s+", " ", section("numbers.md", "Records"))
    assert f"at most {MOST_RECORDS} records a second, and {MOST_TROUBLED - MOST_RECORDS} more" in text
    assert f"for at most {STOP_WITHIN_S:.0f} s" in text
    assert f"slow ({SLOW_MS // 1000} s or more)" in text
    assert (EXPENSIVE_NANO_USD, "expensive (a cent or more)" in text) == (10_000_000, True)


def test_the_documented_bounds_of_the_pages_are_the_bounds():
    text = re.sub(r"\s+", " ", section("numbers.md", "Requests"))
    assert f"at most {MOST_LOOKED_AT:,} records at a time" in text
    assert f"at most {MOST_CSV_ROWS:,} rows" in text


def test_the_documented_ages_are_the_ages():
    kept = dict(table("numbers.md", "How long they are kept"))
    assert kept["records"].startswith(f"{KEEP_RECORDS_S // DAY} days, and never more than ten million")
    assert MOST_ROWS == 10_000_000
    assert kept["sums by minute"] == f"{KEEP_MINUTES_S // DAY} days"
    assert kept["sums by hour"] == f"{KEEP_HOURS_S // DAY} days"
