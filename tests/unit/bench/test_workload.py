"""Numbered requests, and parts of a plan."""

import pytest

from tests.bench.workload import CACHED, FULL, MODEL, SHAPES, UNITS, Plan, body, identity, numbered, request


@pytest.mark.parametrize("number", [1, 42, 999_999_999])
def test_numbered_requests_differ_and_are_of_one_size(number):
    asked = request("host", "/", body(MODEL, stream=False))
    other = numbered(asked, number)
    assert other != asked
    assert len(other) == len(asked)
    assert identity(other) != identity(asked)


def test_number_0_is_the_request_itself():
    asked = body(MODEL, stream=True)
    assert numbered(asked, 0) == asked


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("json", {"json", "books"}),
        ("sse", {"paced", "burst"}),
        ("cache", set(CACHED)),
        ("start", set()),
        (None, set(SHAPES)),
    ],
)
def test_a_part_of_the_plan_has_its_kinds_of_load(part, kinds):
    assert {step.kind for step in FULL.only(part).steps} == kinds


def test_starts_are_measured_only_where_asked_for():
    assert [FULL.only(part).starts for part in (None, "start", "cache")] == [FULL.starts, FULL.starts, 1]


def test_a_part_reads_as_many_answers_from_the_store():
    assert Plan((), 0, bodies=7).only("cache").bodies == 7


def test_every_kind_of_load_has_a_unit():
    assert UNITS["hit"] == UNITS["stored"] == UNITS["miss"] == "request"
    assert UNITS["replay"] == "stream"
