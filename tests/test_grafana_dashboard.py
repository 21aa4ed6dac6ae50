"""The dashboard asks for what /metrics tells, and shows all of it."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.docs_pages import DOCS
from tests.told_metrics import by_metric, told

# What Prometheus itself adds to what it has scraped.
TARGET = {"job"}
_METRIC = re.compile(r"\b(llmproxy_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_BY = re.compile(r"\bby \(([^)]*)\)")


@cache
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query_names_metrics_and_labels_that_are_told(query: str) -> None:
    asked = _METRIC.findall(query)
    assert asked
    for name, matchers in asked:
        assert name in told()
        assert set(_MATCHER.findall(matchers)) <= told()[name] | TARGET
    labels = set().union(*(told()[name] for name, _ in asked))
    for group in _BY.findall(query):
        assert {label.strip() for label in group.split(",")} <= labels


def test_every_rate_keeps_all_labels_until_instances_are_one() -> None:
    """All instances tell the same: a sum over them would be a multiple of the truth."""
    for query in queries():
        for labels, name in re.findall(r"max(?: by \(([^)]*)\))? ?\((?:rate|increase)\((\w+)", query):
            assert {label.strip() for label in labels.split(",") if label} == told()[name]
        assert query.count("rate(") + query.count("increase(") == len(
            re.findall(r"max[^{]*\((?:rate|increase)\(", query)
        )


def test_all_metrics_are_shown() -> None:
    shown = {name.removesuffix("_bucket") for query in queries() for name, _ in _METRIC.findall(query)}
    assert shown == set(by_metric())


def test_no_data_source_is_written_down() -> None:
    """It is chosen when the dashboard is looked at."""
    sources = [one.get("datasource") for panel in panels() for one in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert dashboard()["templating"]["list"][0]["type"] == "datasource"


def test_legends_name_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in _BY.search(target["expr"])[1], panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
