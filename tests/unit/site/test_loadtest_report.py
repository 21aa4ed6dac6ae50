import io
import json

import pytest

from llmproxy_site.loadtest.plan import Plan, target_of
from llmproxy_site.loadtest.report import as_json, notes, page
from llmproxy_site.loadtest.tally import Answer, Tally
from llmproxy_site.management.terminal import console_on


def plan(**changes) -> Plan:
    usual = {"model": "m", "stream": False, "connections": 8, "requests": 1000, "seconds": None, "rate": None}
    return Plan(target_of("http://127.0.0.1:4243/v1", "m", "sk-key"), **usual | changes)


def tally(*answers: Answer, **changes) -> Tally:
    counted = Tally(**{"elapsed_s": 1.0, "cpu_s": 0.1} | changes)
    for answer in answers or (Answer(200, body_bytes=2000),):
        counted.add(answer, 0.02)
    return counted


def text(plan: Plan, tally: Tally) -> str:
    console = console_on(io.StringIO())
    console.print(page(plan, tally, console))
    return console.file.getvalue()


def lines(plan: Plan, tally: Tally) -> list[list[str]]:
    return [line.split() for line in text(plan, tally).splitlines()]


def test_rates_and_times_are_shown():
    told = lines(plan(), tally())
    assert ["requests", "1", "1.0"] in told
    assert ["bytes", "of", "bodies", "2.0", "kB", "2.0", "kB"] in told
    assert ["whole", "answer", *["20.0", "ms"] * 5] in told


def test_errors_are_shown_by_kind_the_most_frequent_first():
    bad = [Answer(503, "status 503"), Answer(503, "status 503"), Answer(0, "connection refused"), Answer(200)]
    told = lines(plan(), tally(*bad))
    assert told.index(["status", "503", "2", "50.0", "%"]) < told.index(["connection", "refused", "1", "25.0", "%"])


def test_without_errors_there_is_no_table_of_them():
    assert "Errors" not in text(plan(), tally())


def test_streams_have_events_and_a_first_event():
    told = text(plan(stream=True), tally(Answer(200, events=9, first_event_s=0.005)))
    assert "first event" in told and "events" in told
    assert "first event" not in text(plan(), tally())


@pytest.mark.parametrize(
    ("plan_changes", "tally_changes", "note"),
    [
        ({}, {"cpu_s": 0.95}, "The load generator itself was the bottleneck (95.0 % of a core)"),
        ({}, {"stopped": True}, "Stopped by Ctrl-C"),
        ({"rate": 100.0}, {}, "The wanted 100 requests a second were not reached: all 8 connections were busy."),
    ],
)
def test_what_one_must_know_to_read_the_figures(plan_changes, tally_changes, note):
    (told,) = notes(plan(**plan_changes), tally(**tally_changes))
    assert told.startswith(note)


@pytest.mark.parametrize(("plan_changes", "tally_changes"), [({}, {}), ({"rate": 1.0}, {}), ({}, {"cpu_s": 0.85})])
def test_where_all_is_well_nothing_is_said(plan_changes, tally_changes):
    assert notes(plan(**plan_changes), tally(**tally_changes)) == []


def test_a_script_gets_the_same_figures():
    told = as_json(plan(), tally(Answer(200, body_bytes=10), Answer(503, "status 503")))
    json.dumps(told)
    assert told["url"] == "http://127.0.0.1:4243/v1/chat/completions"
    assert (told["requests"], told["succeeded"], told["failed"]) == (2, 1, 1)
    assert (told["statuses"], told["errors"]) == ({"200": 1, "503": 1}, {"status 503": 1})
    assert told["latency_ms"]["p50"] == 20.0
    assert told["first_event_ms"] is None


def test_the_key_is_shown_nowhere():
    assert "sk-key" not in text(plan(), tally()) + json.dumps(as_json(plan(), tally()))
