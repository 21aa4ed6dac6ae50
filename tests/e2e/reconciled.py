"""A gateway of two workers whose numbers are held against the books of its clients and upstreams."""

import asyncio
import json
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.processes import Process, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes.mixed_load import SHAKY, STEADY
from tests.fakes.scripted import ScriptedUpstream
from tests.fakes.two_books import OUTCOMES, Clients, Upstreams, of_metrics, of_stats

STEPS = (60, 3600, 86_400)
_ENDPOINTS = {STEADY: ("a", "b"), SHAKY: ("c", "d")}
_SETTLED_S = 10.0
_NOTHING_MORE_S = 0.5  # two flushes: what would be counted twice would be by now


@dataclass
class Site:
    """The numbers of all that was ever asked of it."""

    server: Process
    upstreams: Upstreams
    clients: Clients = field(default_factory=Clients)

    @property
    def database(self) -> Path:
        return self.server.directory / "data" / "llmproxy.sqlite3"

    def expected(self) -> Counter[str]:
        return self.clients.book + self.upstreams.book

    def stats(self) -> dict[str, Any]:
        status, told = self.server.get("/stats")
        assert status == 200, told
        return dict(told)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.server.root}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    def workers(self) -> list[int]:
        """Their process ids, in the order in which they were started."""
        found: list[int] = []
        for listing in Path(f"/proc/{self.server.pid}/task").glob("*/children"):
            found += [pid for pid in map(int, listing.read_text().split()) if b"worker" in _command(pid)]
        return sorted(found)

    async def reconcile(self) -> None:
        """All numbers are the same, once everything is told."""
        total = self.clients.total
        await eventually(lambda: requests(of_sums(self.database, 60)) >= total)
        told = await self.reconcile_counters()
        self.reconcile_database()
        assert told["cache"]["misses"] == _sum(self.database, "cache_misses")

    async def reconcile_counters(self) -> dict[str, Any]:
        """Those of `/stats`, which are returned, and `/metrics`; and they stay the same."""
        total = self.clients.total
        await eventually(lambda: self.stats()["requests"]["total"] >= total)
        await asyncio.sleep(_NOTHING_MORE_S)
        told = self.stats()
        require_same(of_stats(told), self.expected(), "/stats")
        by_outcome = self.expected() + Counter(requests=total)
        expected = Counter({name: value for name, value in by_outcome.items() if name not in OUTCOMES})
        require_same(of_metrics(self.metrics()), expected, "/metrics")
        assert told["cache"]["hits"] == self.clients.book["hits"]
        return told

    def reconcile_database(self) -> None:
        for step in STEPS:
            require_same(of_sums(self.database, step), self.expected(), f"sums of {step} s")
        recorded, dropped = of_records(self.database), _sum(self.database, "unrecorded")
        assert requests(recorded) + dropped == self.clients.total
        if not dropped:
            require_same(recorded, self.expected(), "records")


@contextmanager
def site(thread: LoopThread, directory: Path, **variables: str) -> Iterator[Site]:
    """With four endpoints in two groups. Started, and ended."""
    book = Upstreams()
    upstreams: list[ScriptedUpstream] = []

    async def start_upstream(name: str) -> str:
        upstream = ScriptedUpstream(partial(book.answering, name), requests=Shortened())
        upstreams.append(upstream)
        await upstream.start()
        return upstream.url

    with ExitStack() as stack:
        groups = []
        for group, names in _ENDPOINTS.items():
            models = []
            for name in names:
                url = thread.run(start_upstream, name)
                stack.callback(thread.run, upstreams[-1].stop)
                models.append({"name": name, "model": "upstream-model", "params": {"api_key": "k", "base_url": url}})
            groups.append({"model_group": group, "models": models})
        general = {"num_retries": 3, "cooldown_time": 0, "allowed_fails": 1_000_000, "connect_timeout": 5}
        text = json.dumps({"model_groups": groups, "general_settings": general})
        server = stack.enter_context(serve(directory, text, workers=2, **variables))
        server.wait_ready()
        yield Site(server, book)
        assert "Traceback" not in server.output(), server.output()


class Shortened(list[Any]):
    """Forgets what a hundred thousand requests would fill the memory with."""

    def append(self, one: Any) -> None:
        if len(self) >= 100:
            self.clear()
        super().append(one)


async def eventually(true: Callable[[], bool], seconds: float = _SETTLED_S) -> None:
    """Or as it is after so many seconds: what follows says what is wrong."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until and not await asyncio.to_thread(true):  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(0.05)


def require_same(told: Counter[str], expected: Counter[str], what: str) -> None:
    wrong = {name: (told[name], expected[name]) for name in {*told, *expected} if told[name] != expected[name]}
    assert not wrong, f"{what}: told, expected: {wrong}"


def requests(book: Counter[str]) -> int:
    return sum(book[outcome] for outcome in OUTCOMES)


# -- the database


def of_sums(database: Path, step: int) -> Counter[str]:
    """The sums of all minutes, hours or days."""
    book: Counter[str] = Counter()
    columns = "success, failure, rejected, cancelled, cache_hits, input_tokens, output_tokens"
    for endpoint, *values, hits, put_in, put_out in _rows(
        database, f"SELECT endpoint, {columns} FROM stats_rollup WHERE step = {step}"
    ):
        told = dict(zip(OUTCOMES, values, strict=True))
        if endpoint:
            told = {f"{endpoint} {name}": value for name, value in told.items()}
            told |= {f"{endpoint} input": put_in, f"{endpoint} output": put_out}
        else:
            told["hits"] = hits
        book.update(told)
    return +book


def of_records(database: Path) -> Counter[str]:
    book: Counter[str] = Counter()
    for outcome, cache, attempts, endpoint, put_in, put_out in _rows(
        database, "SELECT outcome, cache, attempts, endpoint, input_tokens, output_tokens FROM stats_recordedrequest"
    ):
        book[outcome] += 1
        for name, _, of_attempt, *_ in json.loads(attempts):
            book[f"{name} {of_attempt}"] += 1
        if cache == "hit":
            book["hits"] += 1
        else:
            book.update({f"{endpoint} input": put_in or 0, f"{endpoint} output": put_out or 0})
    return +book


def _sum(database: Path, column: str) -> int:
    ((value,),) = _rows(database, f"SELECT SUM({column}) FROM stats_rollup WHERE step = 60")
    return int(value or 0)


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has just ended
