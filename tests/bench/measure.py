"""Runs a plan: servers take turns in short rounds, so that what drifts in the machine hits all of them."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from http.client import HTTPException

from tests.bench import workload, wrk
from tests.bench.accounts import rss_bytes
from tests.bench.figures import Cell, Memory, Results, Round
from tests.bench.load import Order
from tests.bench.machine import pinned
from tests.bench.servers import Server, ServerProblem, Site
from tests.bench.workload import (
    CACHED,
    EMPTY,
    GATEWAY,
    MOCK,
    NGINX,
    PROXY,
    SHAPES,
    UNCACHED,
    Kind,
    Plan,
    Step,
)
from tests.e2e.processes import PROJECT

_WARM_UP_S = {"json": 0.1, "burst": 0.1, "paced": 0.3}
_FILL_WITHIN_S = 120.0
_FROM: dict[Kind, str] = {"hit": "process", "stored": "store", "replay": "process", "miss": "miss"}
_ENOUGH = 0.99  # of the answers of a step come from where they should
_COUNTED_AFTER_S = 0.5  # what a worker does is in /stats by then

Tell = Callable[[str], None]


class Bench:
    """One run on a started site."""

    def __init__(self, site: Site, tell: Tell, *, use_wrk: bool) -> None:
        self._site, self._tell = site, tell
        self._wrk = wrk.installed() if use_wrk else None
        self._files = site.directory / "load"
        self._files.mkdir()
        self._next = 0  # the number of the next request that has one
        self._bodies = 0

    def run(self, plan: Plan) -> Results:
        servers = self._site.servers
        results = Results(
            starts=self._site.starts, memory=[Memory(one.name, rss_bytes(one.pid)) for one in servers.values()]
        )
        for step in plan.steps:
            if step.kind not in CACHED:
                results.cells += self._cells(step)
        for memory in results.memory:
            memory.after = rss_bytes(servers[memory.server].pid)
        if kept := [step for step in plan.steps if step.kind in CACHED]:
            self._fill(plan.bodies)
            for step in kept:
                results.cells += self._seen_from(step)
            for memory in results.memory:
                memory.cached = rss_bytes(servers[memory.server].pid)
        return results

    def _cells(self, step: Step) -> list[Cell]:
        self._tell(f"{step.kind}, {step.connections} connections")
        servers = self._servers(step)
        cells = [Cell(server.name, step.kind, step.connections, self._site.cores.load_side) for server in servers]
        for number in range(step.rounds):
            turn = number % len(servers)
            for place in (*range(turn, len(servers)), *range(turn)):
                cells[place].rounds.append(self._round(servers[place], step))
        return cells

    def _servers(self, step: Step) -> list[Server]:
        found = self._site.servers
        if step.kind == "miss":
            return [found[EMPTY], replace(found[GATEWAY], name=UNCACHED, caches=False), found[GATEWAY]]
        if step.kind == "books":
            return self._site.books
        if step.kind in CACHED:
            return [found[EMPTY], found[GATEWAY]]
        servers = [server for name in (EMPTY, PROXY, GATEWAY, NGINX) if (server := found.get(name))]
        if step.connections == 1:
            servers.append(self._site.paced if step.kind == "paced" else self._site.mock)
        return servers

    def _round(self, server: Server, step: Step) -> Round:
        if server.switch is not None:
            server.throw_switch()
            before = self._load(server, step)  # what was left over is done within a second
            found = self._load(server, step)
            return replace(found, failures=before.failures | found.failures)
        return self._load(server, step)

    def _load(self, server: Server, step: Step) -> Round:
        order = self._order(server, step)
        program = self._wrk if SHAPES[step.kind] == "json" else None
        found = self._own_load(order) if program is None else wrk.load(program, order, self._files)
        failures = found.failures if program is None else found.failures | self._seen_wrong(server, step.kind)
        if order.heard_file:
            self._next += found.asked
        return replace(found, failures=failures)

    def _order(self, server: Server, step: Step) -> Order:
        file = self._files / "request"
        file.write_bytes(server.request(step.kind))
        order = Order(
            port=server.port,
            request_file=str(file),
            expected_file=str(self._site.expected(step.kind)),
            connections=step.connections,
            seconds=step.seconds,
            warm_up=_WARM_UP_S[SHAPES[step.kind]],
            pids=server.pids(),
            load_pids=[] if server.name == MOCK else self._site.mocks(),
            cores=sorted(self._site.cores.load),
            first_event=step.kind == "paced",
        )
        if step.kind not in ("stored", "miss"):
            return order
        heard = self._files / "heard"
        heard.write_bytes(workload.body(workload.MODEL, stream=False))
        own = "" if server.name == EMPTY else str(heard)  # the empty app answers all with the same
        return replace(
            order, numbers_from=self._next, numbers=self._bodies if step.kind == "stored" else 0, heard_file=own
        )

    # -- the cache

    def _fill(self, bodies: int) -> None:
        """Brings what is to be read from the store, and what is asked for again and again."""
        self._tell(f"filling the cache with {bodies} answers")
        gateway = self._site.servers[GATEWAY]
        self._next, self._bodies = 0, bodies
        order = self._order(gateway, Step("miss", min(32, bodies), 1, _FILL_WITHIN_S))
        found = self._own_load(replace(order, most=bodies))
        if found.failures or found.asked != bodies:
            raise ServerProblem(f"the cache could not be filled: {found.asked} of {bodies} asked for, {found.failures}")
        self._next = bodies
        for kind in ("hit", "replay"):
            gateway.ask(kind)

    def _seen_from(self, step: Step) -> list[Cell]:
        """The step, and whether the gateway's answers came from where they should."""
        before = self._counted()
        cells = self._cells(step)
        came = {name: count - before[name] for name, count in self._counted().items() if count > before[name]}
        if came.get(_FROM[step.kind], 0) < _ENOUGH * sum(came.values()):
            last = cells[-1].rounds.pop()
            told = ", ".join(f"{count} from {name}" for name, count in came.items())
            cells[-1].rounds.append(replace(last, failures=last.failures | {f"wrong place: {told}": 1}))
        return cells

    def _counted(self) -> dict[str, int]:
        threading.Event().wait(_COUNTED_AFTER_S)
        return self._site.servers[GATEWAY].cache_numbers()

    # -- a round

    def _own_load(self, order: Order) -> Round:
        with pinned(order.cores):
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.load"],
                input=json.dumps(asdict(order)),
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=order.seconds + 30,
            )
        return Round(**json.loads(done.stdout))

    def _seen_wrong(self, server: Server, kind: Kind) -> dict[str, int]:
        """wrk does not look into answers, so one is read after it."""
        try:
            right = server.ask(kind) == self._site.expected(kind).read_bytes()
        except (OSError, HTTPException, ServerProblem) as problem:
            return {str(problem): 1}
        return {} if right else {"wrong answer": 1}
