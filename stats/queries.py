"""Reads the counters of all workers in one round trip."""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stats.counters import Counts, EndpointCounts, RequestCounts
from stats.metrics_series import LONGEST_NUMBER, Field, Series, read, written
from stats.recorder import GAUGES, METRICS, PREFIX, Recorder, Store

_TIME = re.compile(r"\d+(\.\d+)?", re.ASCII)
_GONE_S = 3.0
_FORGOTTEN_S = 60.0


@dataclass(frozen=True, slots=True)
class Numbers:
    """shared: whether the store answered; otherwise the counts are this worker's own."""

    counts: Counts
    in_flight: Mapping[str, int]  # by endpoint id
    shared: bool


async def read_numbers(
    store: Store, recorder: Recorder, endpoint_ids: Iterable[str], in_flight: Mapping[str, int], *, series: bool = False
) -> Numbers:
    """in_flight: this worker's own, which the store may not have heard of yet. series: with what `/metrics` tells."""
    ids = list(endpoint_ids)
    gauges: dict[str, str] = {}

    async def read_all() -> Counts:
        told, counts = await _read(store, ids, series)
        gauges.update(told)
        return counts

    try:
        counts = await recorder.added_to(read_all)
        others = await _in_other_workers(store, gauges, recorder.worker)
    except ConnectionError:
        return Numbers(recorder.own(), in_flight, shared=False)
    together = {i: in_flight.get(i, 0) + others.get(i, 0) for i in {*in_flight, *others}}
    return Numbers(counts, together, shared=True)


async def forget(store: Store, fields: Iterable[Field]) -> None:
    """Takes sums out of what `/metrics` tells. Raises ConnectionError."""
    await store.run(("HDEL", METRICS, *written(dict.fromkeys(fields, 1))))


async def _read(store: Store, endpoint_ids: list[str], series: bool) -> tuple[dict[str, str], Counts]:
    """The gauges of all workers and the counters, in one round trip."""
    first = [GAUGES, f"{PREFIX}requests", f"{PREFIX}cache", *([METRICS] if series else [])]
    keys = [*first, *(f"{PREFIX}endpoint:{endpoint_id}" for endpoint_id in endpoint_ids)]
    replies = [_fields(reply) for reply in await store.run(*(("HGETALL", key) for key in keys))]
    gauges, requests, cache = replies[:3]
    counts = Counts(requests=RequestCounts.from_fields(requests))
    counts.cache.update({name: int(value) for name, value in cache.items() if _whole(value)})
    if series:
        counts.series = Series(read(replies[3]))
    for endpoint_id, of_endpoint in zip(endpoint_ids, replies[len(first) :], strict=True):
        counts.endpoints[endpoint_id] = EndpointCounts.from_fields(of_endpoint)
    return gauges, counts


def _whole(value: str) -> bool:
    return value.isdecimal() and len(value) <= LONGEST_NUMBER


async def _in_other_workers(store: Store, gauges: Mapping[str, str], own_worker: str) -> dict[str, int]:
    """Requests in flight; a worker that has not been heard of for 3 s is gone."""
    now = time.time()
    together: dict[str, int] = {}
    gone = []
    for worker, text in gauges.items():
        at, *counts = text.split() or [""]
        age = now - float(at) if _TIME.fullmatch(at) else _FORGOTTEN_S + 1  # nonsense is forgotten
        if age > _FORGOTTEN_S:
            gone.append(worker)
        if worker == own_worker or age > _GONE_S:
            continue
        for endpoint_id, _, count in (word.partition("=") for word in counts):
            together[endpoint_id] = together.get(endpoint_id, 0) + (int(count) if _whole(count) else 0)
    if gone:
        await store.run(("HDEL", GAUGES, *gone))
    return together


def _fields(reply: Any) -> dict[str, str]:
    """HGETALL's flat list of names and values. Raises ConnectionError where the store refuses or the key is foreign."""
    if not isinstance(reply, list):
        raise ConnectionError("the store did not tell the counters")
    words = [word.decode(errors="replace") if isinstance(word, bytes) else str(word) for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
