"""Writes batches of records and sums into the database: each once, whole or not at all. Blocks; for a thread.

Plain SQL, the same for SQLite and PostgreSQL but for the names of JSON functions (the ORM's bulk_create takes three
times the CPU, and has no upsert that adds).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from django.db import connections, transaction
from django.db.models import Model

from stats.models import NAME_LENGTH, RecordedRequest, Rollup, WrittenBatch
from stats.pending import Batch
from stats.record import RequestRecord, attempts_as_json
from stats.retention import delete_slices, expired
from stats.rollups import HISTOGRAMS, STEPS, SUMS, Cells, by_step

SLOW_MS = 10_000
EXPENSIVE_NANO_USD = 10_000_000  # a cent

_SAME = tuple(name for name in RequestRecord.__struct_fields__ if name not in ("at", "attempts"))
_COLUMNS = (*_SAME, "at_ms", "attempts", "slow", "expensive", "troubled")
_LENGTHS = {
    field.name: field.max_length for field in RecordedRequest._meta.concrete_fields if field.max_length is not None
}
_TEXTS = [(index, _LENGTHS[name]) for index, name in enumerate(_SAME) if name in _LENGTHS]
_encoder = msgspec.json.Encoder()
_KEY = ("step", "start", "model_group", "endpoint")
# How the values of two JSON objects are added key by key; `json_each` and its kin are what differs.
_ADDED = """(SELECT {build}(key, total) FROM (SELECT key, SUM(CAST(value AS bigint)) AS total FROM (
SELECT key, value FROM {own} UNION ALL SELECT key, value FROM {new}) AS pairs GROUP BY key) AS totals)"""
_BUILD = {"sqlite": "json_group_object", "postgresql": "jsonb_object_agg"}


def each(vendor: str, column: str) -> str:
    """The FROM clause that makes rows (key, value) of a column that holds a JSON object."""
    return f"json_each({column})" if vendor == "sqlite" else f"jsonb_each_text(CAST({column} AS jsonb))"


def table(model: type[Model]) -> str:
    return model._meta.db_table


class RecordTables:
    """The tables of one database, as Django names it."""

    def __init__(self, using: str = "default") -> None:
        self._using = using

    def write(self, writer: str, batch: Batch) -> None:
        """Nothing happens where this batch, or a later one of this writer, is there already. Raises django.db.Error."""
        with transaction.atomic(self._using), connections[self._using].cursor() as cursor:
            cursor.execute(_MARK, [writer, batch.number, int(time.time())])
            if cursor.rowcount == 0:
                return
            if batch.records:
                self._insert(cursor, [_row(record) for record in batch.records])
            # In one order: two writers that wait for each other's rows would wait for ever.
            cursor.executemany(self._upsert(), sorted(_cell_rows(batch.cells)))

    def prune(self, now: float) -> bool:
        """Deletes some of what is too old; whether there may be more. Raises django.db.Error."""
        return next(delete_slices(expired(now, using=self._using)), None) is not None

    def close(self) -> None:
        """Ends this thread's connection; the next use opens another one."""
        connections[self._using].close()

    def _insert(self, cursor: Any, rows: list[list[Any]]) -> None:
        if self._vendor == "postgresql":  # one value to send instead of 30 for each row: a quarter of the CPU
            named = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
            cursor.execute(_INSERT_JSON, [_encoder.encode(named).decode()])
        else:
            cursor.executemany(_INSERT, rows)

    @property
    def _vendor(self) -> str:
        return connections[self._using].vendor

    def _upsert(self) -> str:
        vendor, own, new = self._vendor, table(Rollup), "excluded"
        changes = [f"{name} = {own}.{name} + {new}.{name}" for name in SUMS]
        for name in HISTOGRAMS:
            both = {"own": each(vendor, f"{own}.{name}"), "new": each(vendor, f"{new}.{name}")}
            added = _ADDED.format(build=_BUILD[vendor], **both)
            changes.append(f"{name} = CASE WHEN {new}.{name} = '{{}}' THEN {own}.{name} ELSE CAST({added} AS text) END")
        insert = _insert(Rollup, (*_KEY, *SUMS, *HISTOGRAMS))
        return f"{insert} ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {', '.join(changes)}"


def _insert(model: type[Model], columns: Sequence[str]) -> str:
    return f"INSERT INTO {table(model)} ({_quoted(columns)}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608 - names of our own


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _row(record: RequestRecord) -> list[Any]:
    """The values of `_COLUMNS`."""
    row = [getattr(record, name) for name in _SAME]
    for index, length in _TEXTS:
        text = row[index]
        if len(text) > length or not text.isascii() or "\0" in text:
            row[index] = _storable(text)[:length]
    row += [
        int(record.at * 1000),
        _storable(attempts_as_json(record.attempts)),
        record.duration_ms >= SLOW_MS,
        (record.cost_nano_usd or 0) >= EXPENSIVE_NANO_USD,
        record.troubled,
    ]
    return row


def _storable(text: str) -> str:
    """Without what a database refuses: one such text would keep a whole batch out."""
    return text.encode(errors="replace").decode().replace("\0", "")


def _cell_rows(cells: Cells) -> Iterator[list[Any]]:
    for step in STEPS:
        for key, cell in by_step(cells, step).items():
            names = (_storable(name)[:NAME_LENGTH] for name in key[1:])
            sums = (getattr(cell, name) for name in SUMS)
            yield [step, key.start, *names, *sums, *(_encoder.encode(h).decode() for h in (cell.latency, cell.ttft))]


_INSERT = _insert(RecordedRequest, _COLUMNS)
_INSERT_JSON = (
    f"INSERT INTO {table(RecordedRequest)} ({_quoted(_COLUMNS)}) SELECT {_quoted(_COLUMNS)} "  # noqa: S608
    f"FROM json_populate_recordset(NULL::{table(RecordedRequest)}, %s::json)"
)
_MARK = (
    f"{_insert(WrittenBatch, ('writer', 'number', 'at'))} ON CONFLICT (writer) DO UPDATE "
    f"SET number = excluded.number, at = excluded.at WHERE {table(WrittenBatch)}.number < excluded.number"
)
