"""A database of its own for records: a real file or server, with threads and locks, which Django's test database hides."""

import json
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.db import connections

from stats.models import RecordedRequest, Rollup, WrittenBatch
from stats.record import AttemptRecord, RequestRecord
from stats.rollups import SUMS, Cell, CellKey, cell_of, count_in

ALIAS = "numbers"
# Two seconds before a full hour, and too young to be deleted.
NOW = time.time() // 3600 * 3600 - 3602
MODELS = (RecordedRequest, Rollup, WrittenBatch)


@contextmanager
def database(settings: dict[str, Any]) -> Iterator[str]:
    """The alias of a database with our tables, for as long as this is open."""
    connections.settings[ALIAS] = {**connections.settings["default"], **settings}
    try:
        call_command("migrate", "stats", database=ALIAS, verbosity=0)
        yield ALIAS
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]


def empty() -> None:
    for model in MODELS:
        model.objects.using(ALIAS).all().delete()


def record(**changes: Any) -> RequestRecord:
    """A request that went well."""
    attempt = AttemptRecord("east", "id-east", "success", "", 200, 0.5, 120.0)
    usual: dict[str, Any] = {
        "request_id": "r-1", "at": NOW, "duration_ms": 121.0, "operation": "chat/completions", "outcome": "success",
        "status": 200, "model_group": "m", "revision": 3, "endpoint": "east", "endpoint_id": "id-east",
        "attempts": [attempt], "overhead_ms": 0.7, "input_tokens": 10, "output_tokens": 20, "cost_nano_usd": 1500,
    }  # fmt: skip
    return RequestRecord(**usual | changes)


def mixed(count: int, seed: int = 1, at: float = NOW, apart_s: float = 0.01) -> Iterator[RequestRecord]:
    """All kinds of requests, in the order in which they began."""
    rng = random.Random(seed)
    for number in range(count):
        endpoint = rng.choice(("east", "west", "north"))
        duration = rng.lognormvariate(6, 1)
        ttft = duration / 3 if rng.random() < 0.5 else None
        kind = rng.random()
        changes: dict[str, Any] = {}
        if kind < 0.05:
            changes = {"outcome": "failure", "status": 502, "error": "upstream_error", "input_tokens": None,
                       "output_tokens": None, "cost_nano_usd": 0}  # fmt: skip
        elif kind < 0.08:
            changes = {"outcome": "cancelled", "status": 0, "partial": True, "cost_nano_usd": None}
        elif kind < 0.1:
            changes = {"outcome": "rejected", "status": 404, "attempts": [], "endpoint": "", "endpoint_id": "",
                       "model_group": "", "input_tokens": None, "output_tokens": None, "cost_nano_usd": 0}  # fmt: skip
        elif kind < 0.25:
            changes = {"cache": "hit", "cache_detail": "process", "attempts": [], "cost_nano_usd": 0,
                       "saved_nano_usd": 900}  # fmt: skip
        elif kind < 0.5:
            changes = {"cache": "miss"}
        last = changes.get("outcome", "success")
        attempts = [AttemptRecord(endpoint, f"id-{endpoint}", last, "" if last == "success" else "status 500", 200,
                                  5.0, duration - 5)]  # fmt: skip
        if rng.random() < 0.1:
            attempts.insert(0, AttemptRecord("south", "id-south", "failure", "status 503", 503, 0.5, 4.0))
        yield record(
            **{"request_id": f"r-{seed}-{number}", "at": at + number * apart_s, "duration_ms": duration, "endpoint": endpoint,
               "endpoint_id": f"id-{endpoint}", "model_group": rng.choice(("m", "n")), "stream": ttft is not None,
               "ttft_ms": ttft, "attempts": attempts, "key": rng.choice(("", "anna", "bert"))} | changes
        )  # fmt: skip


def summed(records: Iterable[RequestRecord]) -> dict[CellKey, Cell]:
    """By minute, as they should be in the database when every one of them is recorded."""
    cells: dict[CellKey, Cell] = {}
    for one in records:
        count_in(cells, one, True)
    return cells


def sums(step: int) -> dict[CellKey, Cell]:
    """As they are in the database."""
    rows = Rollup.objects.using(ALIAS).filter(step=step)
    return {
        CellKey(row.start, row.model_group, row.endpoint): cell_of(
            [getattr(row, name) for name in SUMS], buckets(row.latency), buckets(row.ttft)
        )
        for row in rows
    }


def buckets(text: str) -> dict[int, int]:
    return {int(bucket): count for bucket, count in json.loads(text).items()}


def recorded() -> list[RequestRecord]:
    """As they are in the database, in the order in which they began."""
    return [row.as_record() for row in RecordedRequest.objects.using(ALIAS).order_by("at_ms", "id")]
