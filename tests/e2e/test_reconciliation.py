"""Numbers are exact: what the gateway says of its requests is what its clients saw and what its upstreams did."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmproxy_site.embedded_store import EmbeddedStore
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink
from stats.counters import RequestCounts
from stats.recorder import PREFIX
from tests.e2e.processes import manage
from tests.e2e.reconciled import STEPS, Site, of_records, of_sums, site
from tests.e2e.upstreams import LoopThread
from tests.fakes.mixed_load import mixed_load, steady_load
from tests.fakes.two_books import OUTCOMES


@pytest.fixture
def running(upstream_thread: LoopThread, tmp_path: Path) -> Iterator[Site]:
    """With the embedded store."""
    with site(upstream_thread, tmp_path / "site") as one:
        yield one


@pytest.mark.parametrize("requests", [1000, pytest.param(100_000, marks=[pytest.mark.full, pytest.mark.timeout(1200)])])
async def test_every_request_is_in_every_book_from_start_to_stop(running: Site, requests: int) -> None:
    await mixed_load(running.server.url, running.upstreams, running.clients, requests)
    assert all(running.clients.book[name] > requests / 50 for name in (*OUTCOMES, "hits")), running.clients.book
    assert abs(running.clients.total - requests) < requests / 10
    await running.reconcile()

    # A stop loses nothing of what is under way, nor of what was not told yet.
    before = running.clients.total
    loading = asyncio.ensure_future(steady_load(running.server.url, running.clients, lambda: True, every_s=0.01))
    await asyncio.sleep(0.7)
    assert await asyncio.to_thread(running.server.terminate) == 0
    await loading
    assert running.clients.total > before
    running.reconcile_database()
    counts = await _kept_by_the_store(running)
    assert {name: getattr(counts, name) for name in OUTCOMES} == {n: running.clients.book[n] for n in OUTCOMES}

    # Sums do not need the records that they were made with.
    sums = [of_sums(running.database, step) for step in STEPS]
    done = await asyncio.to_thread(manage, running.server.directory, "prune_records", "--older-than", "0m")
    assert done.returncode == 0, done.stderr
    assert (of_records(running.database), [of_sums(running.database, step) for step in STEPS]) == ({}, sums)


async def _kept_by_the_store(running: Site) -> RequestCounts:
    """What the embedded store has saved when it ended with its server."""

    async def read(store: EmbeddedStore) -> RequestCounts:
        link = StoreLink(StoreAddress("embedded", f"unix://{store.socket_path}"), reply_timeout_s=5)
        (words,) = await link.run(("HGETALL", f"{PREFIX}requests"))
        await link.aclose()
        told = [word.decode() for word in words]
        return RequestCounts.from_fields(dict(zip(told[::2], told[1::2], strict=True)))

    store = EmbeddedStore(running.server.directory / "data")
    assert await asyncio.to_thread(store.start)
    try:
        return await read(store)
    finally:
        await asyncio.to_thread(store.stop)
