"""What a run says: tables, what to know of them, and the bars. Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from tests.bench import figures
from tests.bench.figures import CPU, RATE, Bar, Cell, Figure, Results
from tests.bench.table import Table, number, with_ratio
from tests.bench.workload import (
    COUNTED,
    EMPTY,
    EVENTS,
    GATEWAY,
    INTERVAL_MS,
    KEPT_BODIES,
    MOCK,
    NGINX,
    PROXY,
    UNCACHED,
    UNCOUNTED,
    UNITS,
    Kind,
)

_MB = 1e6
_QUIET_CORES = 0.2
_KINDS: tuple[Kind, ...] = ("json", "books", "paced", "burst", "hit", "stored", "replay", "miss")
_TITLES: dict[Kind, str] = {
    "json": "JSON: about 300 bytes asked, 700 answered",
    "books": "JSON, one gateway: with its book-keeping, and with that switched off",
    "paced": f"SSE, paced: {EVENTS} events, {INTERVAL_MS} ms apart (p50, p99: to the first event)",
    "burst": f"SSE, in one burst: {EVENTS} events at once (p50, p99: to the end)",
    "hit": "JSON from the cache, from the worker's own memory: the same request again and again",
    "stored": f"JSON from the cache, from the store: {KEPT_BODIES:,} requests in turn, more than a worker has memory for",
    "replay": f"SSE from the cache: {EVENTS} events at once (p50, p99: to the end)",
    "miss": "JSON, every request another one: with the cache, which looks and keeps, and without",
}

# What the gateway must reach, at 32 connections where nothing else is said.
CPU_RATIO, NGINX_RATIO, EVENT_US, ADDED_MS, WORKER_MB, START_S = 4.0, 3.0, 30.0, 0.3, 120.0, 3.0
HIT_RATIO, STORED_RATIO, REPLAYS_S, MISS_RATIO = 2.2, 3.5, 4000, 1.4
BOOKS_US = 15.0


def tables(results: Results) -> Iterator[Table]:
    """One for each kind of load, one for memory."""
    for kind in _KINDS:
        if cells := [cell for cell in results.cells if cell.kind == kind]:
            yield _load_table(results, kind, cells)
    if results.cells:
        yield _memory_table(results)


def _memory_table(results: Results) -> Table:
    moments = {"at the start": "before", "after the load": "after", "with a full cache": "cached"}
    if not any(one.cached for one in results.memory):
        del moments["with a full cache"]
    empty = next(one for one in results.memory if one.server == EMPTY)

    def shown(one: figures.Memory, moment: str) -> str:
        now, then = getattr(one, moment), getattr(empty, moment)
        return with_ratio(now / _MB, now / then)

    rows = [(one.server, *(shown(one, moment) for moment in moments.values())) for one in results.memory]
    return Table("Resident memory of the worker, MB", ("server", *moments), rows)


def _load_table(results: Results, kind: Kind, cells: list[Cell]) -> Table:
    unit = UNITS[kind]
    columns = (
        "connections, server",
        f"{unit}s/s",
        "p50 ms",
        "p99 ms",
        f"CPU us/{unit}",
        "server core %",
        "load cores %",
    )
    rows = []
    for cell in cells:
        base = results.cell(EMPTY, kind, cell.connections) if cell.server not in (EMPTY, MOCK) else None

        def shown(figure: Figure, digits: int, cell: Cell = cell, base: Cell | None = base) -> str:
            return with_ratio(cell.of(figure), None if base is None else cell.ratio(figure, base), digits)

        mark = " *" if figures.load_is_bottleneck(cell) else ""
        busy = (number(cell.of(figure) * 100) for figure in (figures.server_busy, figures.load_busy))
        row = (shown(RATE, 0), shown(figures.p50, 2), shown(figures.p99, 2), shown(CPU, 1), *busy)
        rows.append((f"{cell.connections:>3} {cell.server}{mark}", *row))
    return Table(_TITLES[kind], columns, rows)


def notes(results: Results) -> Iterator[str]:
    """What a reader must know before believing a figure."""
    if results.cells:
        yield (
            "In brackets: times the empty app's figure in the same round. Medians of rounds in which the servers took"
            " turns. CPU: user and system time of the server's processes, the gateway's store included; a write to a"
            " loopback socket also delivers the data to the peer and wakes it, so that is in the figures of all."
        )
        yield from _noise(results)
    if any(map(figures.load_is_bottleneck, results.cells)):
        yield "* The load generator or the mock was the bottleneck: the server could do more; its CPU figure holds."
    for cell in results.cells:
        if cell.kind == "paced" and cell.of(figures.bunched) > 1.1:
            yield (
                f"{cell.connections} paced streams, {cell.server}: {cell.of(figures.bunched):.1f} events came at once, so"
                " the pace was not kept, and the cost of an event is too low."
            )
    yield from _differences(results)
    if results.start_s is not None:
        first, again = results.starts[0], min(results.starts[1:], key=lambda start: start.cpu_s)
        yield (
            f"From start to first answer: {results.start_s:.1f} s ({again.cpu_s:.1f} s of CPU), the very first time with"
            f" an empty data directory {first.seconds:.1f} s ({first.cpu_s:.1f} s of CPU, {first.rss_bytes / _MB:.0f} MB)."
        )
    yield _verdict(results)


def _noise(results: Results) -> Iterator[str]:
    empty = [cell for cell in results.cells if cell.server == EMPTY and len(cell.rounds) > 1]
    if empty:
        spreads = [figures.spread([cell.cpu_us(one) for one in cell.rounds]) * 100 for cell in empty]
        yield (
            f"Noise: from round to round the empty app's CPU figure differed by {median(spreads):.0f} % in the median,"
            f" {max(spreads):.0f} % at most."
        )
    others = _others(results)
    yield f"Other processes kept {others:.2f} cores busy meanwhile."
    if others > _QUIET_CORES:
        yield "That is much: rates and latencies say little, and CPU figures are too high. Run it on a quiet machine."


def _others(results: Results) -> float:
    return sum(cell.of(figures.others_busy) for cell in results.cells) / len(results.cells)


def _differences(results: Results) -> Iterator[str]:
    added = added_latency_ms(results)
    if added is not None:
        yield f"Added latency, one connection, JSON: {added:.2f} ms (p50 through the gateway less p50 without it)."
    for kind in _KINDS:
        ours, bare = (results.cell(name, kind, 32) for name in (GATEWAY, PROXY))
        if ours and bare:
            more = median(ours.cpu_us(a) - bare.cpu_us(b) for a, b in zip(ours.rounds, bare.rounds, strict=True))
            yield (
                f"Beyond the bare proxy's {number(bare.of(CPU), 1)} us, the gateway's own work is {more:.1f} us"
                f" per {UNITS[kind]} ({kind}, 32 connections)."
            )


def _verdict(results: Results) -> str:
    asked = sum(one.requests for cell in results.cells for one in cell.rounds)
    wrong = results.failures()
    if not wrong:
        return f"All {asked:,} answers were right."
    listed = "; ".join(
        f"{cell.kind} {cell.connections} {cell.server}: "
        + ", ".join(f"{count} {reason}" for reason, count in found.items())
        for cell, found in wrong
    )
    return f"WRONG ANSWERS, so these figures mean little: {listed}"


def added_latency_ms(results: Results) -> float | None:
    """p50 through the gateway less p50 to the mock, at one connection."""
    ours, direct = (results.cell(name, "json", 1) for name in (GATEWAY, MOCK))
    if ours is None or direct is None:
        return None
    return median(a.p50_ms - b.p50_ms for a, b in zip(ours.rounds, direct.rounds, strict=True))


def bars(results: Results) -> list[Bar]:
    """What the gateway must reach. Not measured: value None."""
    cell, empty = (results.cell(name, "json", 32) for name in (GATEWAY, EMPTY))
    ratio = cell.ratio(CPU, empty) if cell and empty else None
    memory = next((one.after / _MB for one in results.memory if one.server == GATEWAY), None)
    return [
        Bar("CPU of a JSON request, 32 connections, times the empty app's", CPU_RATIO, ratio),
        _event_bar(results),
        Bar("added latency, one connection, p50", ADDED_MS, added_latency_ms(results), "ms"),
        Bar("memory of one worker after the load", WORKER_MB, memory, "MB"),
        Bar("start to first answer", START_S, results.start_s, "s"),
        Bar("CPU of all book-keeping of a JSON request", BOOKS_US, _books_us(results), "us"),
        *_cache_bars(results),
    ]


def _books_us(results: Results) -> float | None:
    counted, uncounted = (results.cell(name, "books", 32) for name in (COUNTED, UNCOUNTED))
    if counted is None or uncounted is None:
        return None
    return median(
        counted.cpu_us(a) - uncounted.cpu_us(b) for a, b in zip(counted.rounds, uncounted.rounds, strict=True)
    )


def _cache_bars(results: Results) -> Iterator[Bar]:
    def cost(kind: Kind, base: str) -> float | None:
        cell, other = (results.cell(name, kind, 32) for name in (GATEWAY, base))
        return cell.ratio(CPU, other) if cell and other else None

    yield Bar("CPU of a JSON answer from the worker's memory, times the empty app's", HIT_RATIO, cost("hit", EMPTY))
    yield Bar("CPU of a JSON answer from the store, times the empty app's", STORED_RATIO, cost("stored", EMPTY))
    replay = results.cell(GATEWAY, "replay", 32)
    name = f"CPU of a stream from the cache, so that a core does {REPLAYS_S:,} a second"
    yield Bar(name, 1e6 / REPLAYS_S, replay.of(CPU) if replay else None, "us")
    yield Bar("CPU of a miss, times the same request's with the cache off", MISS_RATIO, cost("miss", UNCACHED))


def _event_bar(results: Results) -> Bar:
    cell, nginx = (results.cell(name, "paced", 32) for name in (GATEWAY, NGINX))
    if cell and nginx:
        return Bar("CPU of a paced SSE event, 32 connections, times nginx's", NGINX_RATIO, cell.ratio(CPU, nginx))
    return Bar("CPU of a paced SSE event, 32 connections", EVENT_US, cell.of(CPU) if cell else None, "us")


def bar_line(bar: Bar) -> str:
    if bar.value is None:
        return f"not run  {bar.name} (at most {bar.limit:g} {bar.unit}".rstrip() + ")"
    sign = "MISSED  " if bar.missed else "reached "
    return f"{sign} {bar.name}: {bar.value:.2f} {bar.unit}".rstrip() + f" (at most {bar.limit:g})"


def markdown(results: Results, about: dict[str, str]) -> str:
    """For a README."""
    lines = [f"{', '.join(f'{name} {value}' if name != 'machine' else value for name, value in about.items())}."]
    for table in tables(results):
        lines += ["", table.markdown()]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(results))]) + "\n"


def as_json(results: Results, about: dict[str, str]) -> dict[str, Any]:
    """Everything, with each round as it was measured."""
    return {
        "about": about,
        "cells": [asdict(cell) | _summary(results, cell) for cell in results.cells],
        "memory": [asdict(one) for one in results.memory],
        "starts": [asdict(start) for start in results.starts],
        "bars": [asdict(bar) | {"missed": bar.missed} for bar in bars(results)],
        "notes": list(notes(results)),
    }


def _summary(results: Results, cell: Cell) -> dict[str, Any]:
    base = results.cell(EMPTY, cell.kind, cell.connections)
    named = {"rate": RATE, "p50_ms": figures.p50, "p99_ms": figures.p99, "cpu_us": CPU}
    ratios = {name: cell.ratio(figure, base) for name, figure in named.items()} if base else {}
    return {"median": {name: cell.of(figure) for name, figure in named.items()}, "times_empty_app": ratios}
