"""A load generator in a process of its own: `python -m tests.bench.load` reads an `Order` from stdin, writes a `Round`.

Every answer is compared with the expected one, byte for byte; where requests are numbered, each has one of its own.
Connections begin one after the other, so that paced
streams do not tick together, and only what happens after that counts.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httptools

from tests.bench.accounts import cpu_seconds, machine_seconds
from tests.bench.figures import Round, percentile
from tests.bench.workload import identity, numbered

try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from asyncio import new_event_loop

DRAIN_S = 5.0  # for answers that are under way when the time is up


@dataclass(frozen=True)
class Order:
    """What to do. Files hold the whole request and the body that must come back; pids: whose CPU time to count."""

    port: int
    request_file: str
    expected_file: str
    connections: int
    seconds: float
    warm_up: float
    pids: list[int]
    load_pids: list[int]  # the mocks
    cores: list[int]  # where the generator may run; empty: everywhere
    first_event: bool = False  # time to the first piece of a body instead of to its end
    numbers_from: int | None = None  # requests are numbered from here on; None: all are the same
    numbers: int = 0  # then it begins again at 0; 0: never
    heard_file: str = ""  # the body that the mock gets for number 0, where answers depend on it
    most: int = 0  # requests, then it is over; 0: when the time is


class Run:
    """Counts for all connections."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.request = Path(order.request_file).read_bytes()
        self.expected = Path(order.expected_file).read_bytes()
        self._heard = Path(order.heard_file).read_bytes() if order.heard_file else b""
        self._identity = identity(self._heard)
        self.failures: Counter[str] = Counter()
        self.asked = 0
        self.over = False
        self.busy = 0  # connections that wait for an answer
        self.drained = asyncio.Event()  # over, and none waits any more
        self.begin()

    def begin(self) -> None:
        """From here on it counts."""
        self.requests = self.events = self.pieces = 0
        self.latencies: list[float] = []
        self.began = time.perf_counter()
        self._cpu = self._cpu_now()

    def end(self) -> Round:
        """Up to here it counted."""
        seconds = time.perf_counter() - self.began
        server, load, machine = (now - before for now, before in zip(self._cpu_now(), self._cpu, strict=True))
        p50, p99 = (percentile(self.latencies, share) * 1000 for share in (0.5, 0.99))
        self.over = True
        return Round(self.requests, self.events, self.pieces, seconds, p50, p99, server, load, machine)

    def ask(self) -> int:
        """The number of the next request."""
        self.asked += 1
        if self.order.most and self.asked >= self.order.most:
            self.over = True
        if self.order.numbers_from is None:
            return 0
        number = self.order.numbers_from + self.asked - 1
        return number % self.order.numbers if self.order.numbers else number

    def expects(self, number: int) -> bytes:
        if not (number and self._heard):
            return self.expected
        return self.expected.replace(self._identity, identity(numbered(self._heard, number)))

    def _cpu_now(self) -> tuple[float, float, float]:
        load = cpu_seconds(self.order.load_pids) + time.process_time()
        return cpu_seconds(self.order.pids), load, machine_seconds()


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._waiting = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        if not self._run.over:
            self._send()

    def _send(self) -> None:
        self._body.clear()
        self._waiting = True
        self._run.busy += 1
        self._number = self._run.ask()
        asked = numbered(self._run.request, self._number) if self._number else self._run.request
        self._asked = time.perf_counter()
        self._transport.write(asked)

    def data_received(self, data: bytes) -> None:
        before = self._run.events
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._done("not HTTP")
            self._transport.abort()
        if self._run.events != before:
            self._run.pieces += 1

    def on_body(self, piece: bytes) -> None:
        if not self._body and self._run.order.first_event:
            self._run.latencies.append(time.perf_counter() - self._asked)
        self._body.append(piece)
        self._run.events += piece.count(b"\n\n")

    def on_message_complete(self) -> None:
        run = self._run
        if not run.order.first_event:
            run.latencies.append(time.perf_counter() - self._asked)
        status = self._parser.get_status_code()
        if status != 200:
            self._done(f"status {status}")
        elif b"".join(self._body) != run.expects(self._number):
            self._done("wrong answer")
        else:
            self._done(None)
        if run.over:
            self._transport.close()
        else:
            self._send()

    def _done(self, failure: str | None) -> None:
        self._run.requests += 1
        self._run.busy -= 1
        if self._run.over and not self._run.busy:
            self._run.drained.set()
        self._waiting = False
        if failure is not None:
            self._run.failures[failure] += 1

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._done("connection lost")


async def load(order: Order) -> Round:
    """Runs the order."""
    loop, run = asyncio.get_running_loop(), Run(order)
    due, transports = loop.time(), []
    for _ in range(order.connections):
        transport, _ = await loop.create_connection(lambda: Connection(run), "127.0.0.1", order.port)
        transports.append(transport)
        due += order.warm_up / order.connections
        await asyncio.sleep(due - loop.time())
    run.begin()
    if order.most:
        with suppress(TimeoutError):
            await asyncio.wait_for(run.drained.wait(), order.seconds)
    else:
        await asyncio.sleep(order.seconds)
    result = run.end()
    if run.busy:
        with suppress(TimeoutError):
            await asyncio.wait_for(run.drained.wait(), DRAIN_S)
    if run.busy:
        run.failures[f"no answer within {DRAIN_S:g} s"] = run.busy
    result = replace(result, asked=run.asked)
    result.failures.update(run.failures)
    for transport in transports:
        transport.abort()
    await asyncio.sleep(0)  # sockets are closed in the loop's next turn
    return result


def main() -> None:
    order = Order(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        json.dump(asdict(runner.run(load(order))), sys.stdout)


if __name__ == "__main__":
    main()
