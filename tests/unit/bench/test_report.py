"""The tables, the notes and the bars of a run that was not run."""

import json

import pytest

from tests.bench import report
from tests.bench.figures import Cell, Memory, Results, Round, Start
from tests.bench.table import Table, number, with_ratio
from tests.bench.workload import COUNTED, EMPTY, GATEWAY, MOCK, NGINX, PROXY, UNCACHED, UNCOUNTED


def a_round(cpu_us: float, p50_ms: float = 1.0, **more) -> Round:
    figures = {"requests": 1000, "events": 1000, "pieces": 1000, "seconds": 1.0, "p99_ms": 2.0, "load_cpu_s": 0.1}
    return Round(**figures | {"p50_ms": p50_ms, "cpu_s": cpu_us / 1000, "machine_cpu_s": cpu_us / 1000 + 0.1} | more)


@pytest.fixture
def results() -> Results:
    """Twice the same round everywhere; the gateway's JSON costs 3 times the empty app's, its event 2.5 times nginx's."""
    costs = {
        ("json", 1): {EMPTY: 30, GATEWAY: 90, MOCK: 20},
        ("json", 32): {EMPTY: 30, PROXY: 50, GATEWAY: 90},
        ("books", 32): {COUNTED: 95, UNCOUNTED: 85},
        ("paced", 32): {EMPTY: 10, PROXY: 12, GATEWAY: 15, NGINX: 6},
        ("hit", 32): {EMPTY: 30, GATEWAY: 60},
        ("stored", 32): {EMPTY: 30, GATEWAY: 99},
        ("replay", 32): {EMPTY: 40, GATEWAY: 200},
        ("miss", 32): {EMPTY: 30, UNCACHED: 90, GATEWAY: 117},
    }
    cells = [
        Cell(server, kind, connections, 1, [a_round(us, 0.1 if server == MOCK else 0.35)] * 2)
        for (kind, connections), servers in costs.items()
        for server, us in servers.items()
    ]
    memory = [Memory(EMPTY, 30_000_000, 30_000_000), Memory(GATEWAY, 90_000_000, 105_000_000)]
    return Results(cells, memory, [Start(4, 3, 130_000_000), Start(2, 1.5, 90_000_000)])


def bar(results: Results, words: str):
    return next(bar for bar in report.bars(results) if words in bar.name)


def test_plain_table_aligns_words_left_and_figures_right():
    table = Table("A title", ("who", "how much"), [("us", "1"), ("them", "1,000")])
    assert table.plain().splitlines() == [
        "A title",
        "who   how much",
        "----  --------",
        "us           1",
        "them     1,000",
    ]


def test_markdown_table_has_a_row_for_each_row():
    lines = Table("A title", ("who", "how much"), [("us", "1"), ("them", "2")]).markdown().splitlines()
    assert lines[2:] == ["| who | how much |", "| --- | ---: |", "| us | 1 |", "| them | 2 |"]


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (float("nan"), "-"), (12345.678, "12,345.7")])
def test_figures_have_thousands_separated_and_a_dash_for_none(value, text):
    assert number(value, 1) == text


def test_ratio_stands_in_brackets_and_is_left_out_where_there_is_none():
    assert with_ratio(90, 3.0) == "90 (3.00)"
    assert with_ratio(90, None) == "90"


def test_each_kind_of_load_that_was_run_has_a_table_and_memory_has_one(results):
    titles = [table.title.partition(":")[0] for table in report.tables(results)]
    assert titles == [
        "JSON",
        "JSON, one gateway",
        "SSE, paced",
        "JSON from the cache, from the worker's own memory",
        "JSON from the cache, from the store",
        "SSE from the cache",
        "JSON, every request another one",
        "Resident memory of the worker, MB",
    ]


def test_rows_show_the_ratio_to_the_empty_app_with_the_same_connections(results):
    paced = list(report.tables(results))[2]
    cost = paced.columns.index("CPU us/event")
    assert [row[cost] for row in paced.rows] == ["10.0", "12.0 (1.20)", "15.0 (1.50)", "6.0 (0.60)"]


def test_all_bars_are_reached_by_these_figures(results):
    assert [bar.missed for bar in report.bars(results)] == [False] * 10
    assert bar(results, "JSON request").value == pytest.approx(3)
    assert bar(results, "nginx").value == pytest.approx(2.5)
    assert bar(results, "latency").value == pytest.approx(0.25)
    assert bar(results, "memory").value == pytest.approx(105)
    assert bar(results, "start").value == pytest.approx(2)
    assert bar(results, "worker's memory").value == pytest.approx(2)
    assert bar(results, "from the store").value == pytest.approx(3.3)
    assert bar(results, "stream from the cache").value == pytest.approx(200)
    assert bar(results, "of a miss").value == pytest.approx(1.3)


def test_a_miss_is_compared_with_the_gateway_itself(results):
    cells = {cell.server: cell for cell in results.cells if cell.kind == "miss"}
    cells[GATEWAY].rounds = [a_round(130)] * 2
    assert bar(results, "of a miss").missed


def test_a_stream_from_the_cache_may_cost_as_much_as_4000_a_second_leave(results):
    assert bar(results, "stream from the cache").limit == 250


def test_memory_with_a_full_cache_is_told_where_it_was_measured(results):
    def columns():
        return list(report.tables(results))[-1].columns

    assert columns() == ("server", "at the start", "after the load")
    for one in results.memory:
        one.cached = 2 * one.after
    assert columns() == ("server", "at the start", "after the load", "with a full cache")


def test_without_nginx_an_event_has_an_absolute_limit(results):
    results.cells = [cell for cell in results.cells if cell.server != NGINX]
    assert bar(results, "SSE").value == pytest.approx(15)
    assert bar(results, "SSE").limit == 30


def test_what_was_not_run_is_neither_reached_nor_missed():
    lines = [report.bar_line(bar) for bar in report.bars(Results())]
    assert all(line.startswith("not run") for line in lines)


def test_right_answers_are_counted(results):
    assert "All 42,000 answers were right." in list(report.notes(results))


def test_wrong_answers_are_told_with_their_place_and_reason(results):
    results.cells[1].rounds = [a_round(90, failures={"status 503": 3})] * 2
    assert list(report.notes(results))[-1].endswith("json 1 LLMProxy: 6 status 503")


def test_a_pace_that_was_not_kept_is_told(results):
    results.cell(GATEWAY, "paced", 32).rounds = [a_round(15, pieces=400)] * 2
    assert any("2.5 events came at once" in note for note in report.notes(results))


def test_a_load_generator_that_is_the_bottleneck_is_marked(results):
    results.cells[0].rounds = [a_round(30, load_cpu_s=0.99)] * 2
    assert next(iter(report.tables(results))).rows[0][0] == "  1 empty app *"
    assert any(note.startswith("* ") for note in report.notes(results))


def test_a_busy_machine_is_told(results):
    assert not any("quiet machine" in note for note in report.notes(results))
    for cell in results.cells:
        cell.rounds = [a_round(30, machine_cpu_s=1.5)] * 2
    assert any("quiet machine" in note for note in report.notes(results))


def test_what_the_gateway_adds_to_a_bare_proxy_is_told(results):
    assert any("gateway's own work is 40.0 us per request" in note for note in report.notes(results))


def test_json_holds_every_round_and_the_bars(results):
    kept = json.loads(json.dumps(report.as_json(results, {"machine": "a machine"})))
    assert [len(cell["rounds"]) for cell in kept["cells"]] == [2] * 21
    assert len(kept["bars"]) == 10


def test_markdown_names_the_machine_and_the_versions(results):
    text = report.markdown(results, {"machine": "a machine", "python": "CPython 3.11"})
    assert text.startswith("a machine, python CPython 3.11.\n")
