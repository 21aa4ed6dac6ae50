"""What show_stats shows of what was read."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmproxy_site.management.stats_reading import Past, Reading, known
from llmproxy_site.management.stats_tables import endpoint_rows, group_rows, page, state_cell, summary
from llmproxy_site.management.terminal import console_on
from routing.config.table import RoutingTable
from stats.history import Span, Totals
from stats.rollups import Cell
from tests.unit.tables import model, table_of

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
TABLE = table_of({"model_group": "m", "models": [model("east"), model("west", enabled=False)]}, cache=False)
NOTHING = Cell()


def told(cell: Cell) -> dict[str, Any]:
    return known(Totals(900, cell))


def reading(
    cell: Cell = NOTHING,
    endpoints: dict[str, Cell] | None = None,
    live: dict[str, Any] | None = None,
    table: RoutingTable = TABLE,
) -> Reading:
    past = Past("15m", Span(0, 900), told(cell), {"m": told(cell)}, {n: told(c) for n, c in (endpoints or {}).items()})
    return Reading(NOW, table, live, "" if live else "the store is away", past)


def state(status: str = "healthy", **more: Any) -> dict[str, Any]:
    return {"status": status, "cooldown_until": None, "in_flight": 2, "last_error": None} | more


def live(**states: dict[str, Any]) -> dict[str, Any]:
    ids = {endpoint.name: endpoint.id for endpoint in TABLE.endpoints.values()}
    group = [{"id": ids[name], "name": name, "state": one} for name, one in states.items()]
    requests = dict.fromkeys(("total", "succeeded", "failed", "rejected", "cancelled"), 5)
    return {"model_groups": {"m": group}, "requests": requests, "cache": {"hits": 3}}


def text(of: Reading) -> str:
    console = console_on(io.StringIO())
    console.print(page(of, console))
    return console.file.getvalue()


def words(cells) -> list[str]:
    return [cell if isinstance(cell, str) else cell[0] for cell in cells]


def test_a_groups_row_has_outcomes_latency_tokens_and_cost():
    cell = Cell(success=9, failure=1, rejected=2, cancelled=3, cache_hits=1, cache_misses=3, input_tokens=1200,
                output_tokens=30, cost_nano_usd=2_000_000_000, unpriced=1, latency={0: 9})  # fmt: skip
    first, together = map(words, group_rows(reading(cell)))
    assert first == [
        "m",
        "15",
        "1",
        "2",
        "3",
        "90.0 %",
        "0.5 ms",
        "0.5 ms",
        "1,200",
        "30",
        "$2.00 + 1 unknown",
        "25.0 %",
    ]
    assert together[0] == "all" and together[1:] == first[1:]


def test_a_cost_that_nobody_knows_is_unknown():
    cell = Cell(success=1, unpriced=1)
    assert told(cell)["cost_usd"] is None
    assert "unknown" in words(next(iter(group_rows(reading(cell)))))


def test_groups_that_are_gone_are_shown_as_long_as_they_count():
    old = reading()
    old.past.groups.update({"gone": told(Cell(success=1)), "": told(Cell(rejected=1))})
    assert [words(row)[0] for row in group_rows(old)] == ["m", "gone", "(no group)", "all"]


def test_an_endpoint_has_its_state_and_what_is_in_flight():
    east, west = map(words, endpoint_rows(reading(live=live(east=state(), west=state("disabled", in_flight=0)))))
    assert (east[0], *east[2:5]) == ("east", "healthy", "2", "0")
    assert (west[0], *west[2:5]) == ("west", "disabled", "0", "0")


def test_without_the_store_states_are_unknown_not_healthy():
    east, west = map(words, endpoint_rows(reading(endpoints={"east": Cell(success=7)})))
    assert east[2:5] == ["unknown", "unknown", "7"]
    assert (west[2], east[-1]) == ("disabled", "unknown")


def test_an_endpoint_that_is_not_configured_any_more_is_marked():
    rows = list(map(words, endpoint_rows(reading(endpoints={"old": Cell(failure=2)}))))
    assert rows[-1][:5] == ["old", "-", "removed", "-", "2"]


def test_a_cooldown_counts_down():
    until = (NOW + timedelta(seconds=42)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    endpoint = next(iter(TABLE.endpoints.values()))
    assert state_cell(endpoint, state("cooling_down", cooldown_until=until), NOW) == ("cooling down, 42 s", "red")


def test_a_misconfigured_endpoint_is_known_without_the_store():
    missing = table_of({"model_group": "m", "models": [model("east", params={"api_key": "os.environ/NOT_THERE"})]})
    (row,) = endpoint_rows(reading(table=missing))
    assert words(row)[2] == "misconfigured"


def test_below_stands_what_the_cache_saved_and_what_the_counters_say():
    cell = Cell(success=4, cache_hits=1, cache_misses=3, saved_tokens=50, saved_nano_usd=3_000_000_000)
    cache, counters = summary(reading(cell, live=live(east=state())))
    assert (
        cache == "Cache, last 15m: answered 1 of 4 cacheable requests (25.0 %); saved tokens: 50; saved money: $3.00."
    )
    assert counters.startswith("Since the counters began: 5 requests (5 succeeded, ") and "3 cache hits" in counters


def test_money_that_was_saved_but_is_not_known_is_unknown():
    (cache,) = summary(reading(Cell(success=1, cache_hits=1, saved_tokens=50)))
    assert cache.endswith("saved money: unknown.")


def test_a_store_that_is_away_is_told_above_all():
    assert text(reading()).splitlines()[1] == "the store is away"


def test_nothing_configured_names_the_remedy():
    assert "manage.py import_config" in text(reading(table=table_of()))
    assert "manage.py import_config" not in text(reading())


@pytest.mark.parametrize("heading", ["Requests, last 15m", "Endpoints, last 15m"])
def test_every_table_says_of_which_time_it_is(heading):
    assert heading in text(reading())
