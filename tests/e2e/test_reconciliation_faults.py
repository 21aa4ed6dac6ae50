"""Numbers stay exact when the store, the database or a worker fails under load."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.reconciled import Site, eventually, of_records, of_sums, requests, site
from tests.e2e.upstreams import LoopThread
from tests.fakes.lasting_valkey import LastingValkey
from tests.fakes.mixed_load import steady_load
from tests.fakes.mute_store import MuteStore
from tests.fakes.valkey import Valkey

FLUSHED_EVERY_S = 0.2
WRITTEN_EVERY_S = 1.0
# Two busy cores: a worker's timers are late, and a flush or a batch takes its time.
LATE_S = 1.0


@dataclass
class Scene:
    site: Site
    valkey: LastingValkey
    front: MuteStore


@pytest.fixture(scope="module")
def scene(upstream_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with LastingValkey() as valkey:
        front = MuteStore(Path(valkey.address.url.removeprefix("unix://")))
        upstream_thread.run(front.start)
        directory = tmp_path_factory.mktemp("faults") / "site"
        with site(upstream_thread, directory, LLMPROXY_REDIS_URL=front.address.url) as running:
            yield Scene(running, valkey, front)
        upstream_thread.run(front.stop)


@asynccontextmanager
async def loaded(running: Site) -> AsyncIterator[None]:
    """Requests all the while, and for a moment before and after."""
    begun = running.clients.total
    over = asyncio.Event()
    load = steady_load(running.server.url, running.clients, lambda: not over.is_set(), every_s=0.02)
    loading = asyncio.ensure_future(load)
    await asyncio.sleep(0.3)
    yield
    await asyncio.sleep(0.3)
    over.set()
    assert await loading == 0, "nobody was left without an answer"
    assert running.clients.total > begun + 50


# -- the store


async def frozen(scene: Scene) -> None:
    scene.valkey.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.7)
    scene.valkey.process.send_signal(signal.SIGCONT)


async def killed(scene: Scene) -> None:
    await asyncio.to_thread(scene.valkey.kill)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(scene.valkey.restart)


async def cut_off(scene: Scene) -> None:
    """All connections, again and again: with some a batch is under way."""
    path = scene.valkey.address.url.removeprefix("unix://")
    reader, writer = await asyncio.open_unix_connection(path)
    for _ in range(30):
        writer.write(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
        await reader.readline()
        await asyncio.sleep(0.025)
    writer.close()
    await writer.wait_closed()


async def mute(scene: Scene) -> None:
    """It does what it is asked, and nobody hears of it."""
    scene.front.mute = True
    await asyncio.sleep(0.6)
    scene.front.mute = False


@pytest.mark.parametrize("trouble", [frozen, killed, cut_off, mute])
async def test_trouble_with_the_store_neither_loses_nor_doubles_a_count(
    scene: Scene, trouble: Callable[[Scene], Awaitable[None]]
) -> None:
    async with loaded(scene.site):
        await trouble(scene)
    await scene.site.reconcile_counters()


# -- the database


async def test_nothing_is_lost_while_the_database_is_locked(scene: Scene) -> None:
    """Records are dropped when there are too many, and the sums say how many: `reconcile` adds them up."""
    running = scene.site
    url, dropped = running.server.url, _dropped(running)
    with closing(sqlite3.connect(running.database, isolation_level=None)) as locking:
        locking.execute("BEGIN IMMEDIATE")
        begun, sums = running.clients.total, requests(of_sums(running.database, 60))
        enough = begun + 2300  # of each worker 500 may wait to be written, and 500 more behind them
        await steady_load(url, running.clients, lambda: running.clients.total < enough, clients=40, every_s=0)
        assert requests(of_sums(running.database, 60)) == sums
        locking.execute("ROLLBACK")
    await running.reconcile()
    assert _dropped(running) > dropped


def _dropped(running: Site) -> int:
    with closing(sqlite3.connect(running.database)) as connection:
        (value,) = connection.execute("SELECT SUM(unrecorded) FROM stats_rollup WHERE step = 60").fetchone()
        return int(value or 0)


# -- a worker


async def test_a_killed_worker_takes_only_its_last_moments_with_it(upstream_thread: LoopThread, tmp_path: Path) -> None:
    """What it had told is never lost, and the other worker misses nothing."""
    with (
        Valkey() as valkey,
        site(upstream_thread, tmp_path / "site", LLMPROXY_REDIS_URL=valkey.address.url) as running,
    ):
        clients, loop = running.clients, asyncio.get_running_loop()
        over = asyncio.Event()
        load = steady_load(running.server.url, clients, lambda: not over.is_set(), clients=20, every_s=0.1)
        loading = asyncio.ensure_future(load)
        await asyncio.sleep(WRITTEN_EVERY_S + 1.5 * LATE_S)
        killed_at = loop.time()
        os.kill(running.workers()[0], signal.SIGKILL)
        await asyncio.sleep(0.5)
        over.set()
        ended = await loading
        assert 0 < ended < 20, "each worker had some of the connections"

        living = {number for at, number in clients.ended if at > killed_at + 0.2}
        doomed = [at for at, number in clients.ended if number not in living]
        assert len(doomed) > 30
        await _all_but_the_last(running, ended, [killed_at - at for at in doomed])


async def _all_but_the_last(running: Site, in_flight: int, doomed: list[float]) -> None:
    """doomed: how long before its end each request of the dead worker had been answered. in_flight: at most so many had
    got no answer, and may have been counted."""
    total = running.clients.total

    def counted() -> tuple[int, int]:
        return running.stats()["requests"]["total"], requests(of_sums(running.database, 60))

    lost = [sum(one < told_every_s + LATE_S for one in doomed) for told_every_s in (FLUSHED_EVERY_S, WRITTEN_EVERY_S)]
    assert max(lost) < len(doomed), "some must be old enough to be there for certain"
    await eventually(lambda: all(there >= total - most for there, most in zip(counted(), lost, strict=True)))
    await asyncio.sleep(1)
    for there, most in zip(counted(), lost, strict=True):
        assert total - most <= there <= total + in_flight, running.server.output()
    # A batch of records comes with its sums or not at all.
    assert requests(of_records(running.database)) + _dropped(running) == requests(of_sums(running.database, 60))


async def test_a_killed_worker_that_has_told_everything_takes_nothing_with_it(scene: Scene) -> None:
    running = scene.site
    async with loaded(running):
        pass
    await running.reconcile()
    before = running.workers()
    os.kill(before[0], signal.SIGKILL)
    await eventually(lambda: len(set(running.workers()) - set(before)) == 1)
    await running.reconcile()
