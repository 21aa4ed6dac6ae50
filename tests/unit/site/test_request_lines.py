"""How the line of a request looks, for machines and for people."""

import json
import re
from datetime import datetime

import pytest

from llmproxy_site.request_lines import RequestLine, as_json, as_text, left_out_as_json, left_out_as_text
from stats.record import AttemptRecord, RequestRecord
from tests.docs_pages import named


def record(**changes) -> RequestRecord:
    usual = {
        "request_id": "r-1", "at": 1_780_000_000.0, "duration_ms": 1234.56, "operation": "chat/completions",
        "outcome": "success", "status": 200, "model_group": "gpt", "endpoint": "east", "endpoint_id": "id-east",
        "attempts": [AttemptRecord("east", "id-east", "success", "", 200, 0.5, 1200.0)], "revision": 7,
        "input_tokens": 12, "output_tokens": 340, "cost_nano_usd": 2_100_000, "key": "anna", "cache": "miss",
    }  # fmt: skip
    return RequestRecord(**usual | changes)


FAILED = record(
    outcome="failure", status=502, error="upstream_error", endpoint="", cost_nano_usd=None, input_tokens=None,
    attempts=[AttemptRecord("east", "e", "failure", "status 503", 503, 0, 1),
              AttemptRecord("west", "w", "failure", "connect timeout", 0, 1, 1)],
)  # fmt: skip


def read(one: RequestRecord) -> dict:
    line = as_json(one, one.request_id)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    return json.loads(line)


def plain(one: RequestRecord) -> str:
    return re.sub(r"\x1b\[\d+m", "", as_text(one, one.request_id).decode())


def test_a_machine_reads_everything_the_contract_names():
    told = read(record(stream=True, ttft_ms=120.04))
    assert {name: told[name] for name in told if name != "timestamp"} == {
        "level": "info", "logger": "llmproxy.requests", "event": "request", "request_id": "r-1", "key": "anna",
        "operation": "chat/completions", "model_group": "gpt", "endpoint": "east", "status": 200,
        "outcome": "success", "error": "", "stream": True, "cache": "miss", "attempts": 1, "causes": [],
        "duration_ms": 1234.6, "ttft_ms": 120.0, "input_tokens": 12, "output_tokens": 340, "cost_usd": 0.0021,
        "revision": 7,
    }  # fmt: skip
    assert datetime.fromisoformat(told["timestamp"]).timestamp() == pytest.approx(1_780_000_001.23456, abs=1e-3)


def test_what_is_unknown_is_null_and_not_zero():
    told = read(FAILED)
    assert (told["cost_usd"], told["input_tokens"], told["ttft_ms"]) == (None, None, None)


def test_why_attempts_failed():
    assert read(FAILED)["causes"] == ["east: status 503", "west: connect timeout"]
    assert "east: status 503; west: connect timeout" in plain(FAILED)


def test_people_read_equal_causes_once():
    same = AttemptRecord("east", "e", "failure", "status 503", 503, 0, 1)
    line = plain(record(attempts=[same, same, same]))
    assert line.count("status 503") == 1
    assert "east: status 503 ×3" in line  # noqa: RUF001


@pytest.mark.parametrize(
    ("outcome", "level"), [("success", "info"), ("rejected", "info"), ("cancelled", "info"), ("failure", "warning")]
)
def test_only_a_failure_is_a_warning(outcome, level):
    assert read(record(outcome=outcome))["level"] == level


def test_people_read_one_line():
    line = plain(record(stream=True, ttft_ms=120.0, cache="hit"))
    assert line.count("\n") == 1
    for part in (" 200 ", "chat/completions", "gpt → east", "1.23 s", "first 120 ms", "12+340 tokens", "$0.002100",
                 "hit", "anna", "r-1"):  # fmt: skip
        assert part in line


def test_columns_stand_below_each_other():
    lines = [plain(record()), plain(record(operation="responses", duration_ms=3.0, status=0, outcome="cancelled"))]
    assert len({line.index("→") for line in lines}) == 1
    assert len({re.search(r"\d m?s\b", line).end() for line in lines}) == 1


@pytest.mark.parametrize(("outcome", "colour"), [("success", 32), ("rejected", 33), ("cancelled", 33), ("failure", 31)])
def test_the_colour_says_how_it_went(outcome, colour):
    assert f"\x1b[{colour}m200".encode() in as_text(record(outcome=outcome), "r")


def test_the_line_about_lines_left_out():
    assert json.loads(left_out_as_json(5))["left_out"] == 5
    assert "5 lines" in left_out_as_text(5).decode()


def test_every_field_is_documented():
    assert named("numbers.md", "Logs") == list(RequestLine.__struct_fields__)
