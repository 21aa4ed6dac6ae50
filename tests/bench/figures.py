"""From counts to figures: percentiles, costs, ratios within a round, how far rounds differ, the bars. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, nan
from statistics import median

from tests.bench.workload import Kind

SATURATED = 0.95  # of a core


@dataclass(frozen=True)
class Round:
    """One server under one load, once: what counts within the time, but failures over the whole time."""

    requests: int
    events: int
    pieces: int  # reads that held at least one event: fewer than events where several came in one
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: float  # of the server's processes
    load_cpu_s: float  # of the load generator and the mocks
    machine_cpu_s: float  # of everything that ran; 0: not known
    failures: dict[str, int] = field(default_factory=dict)
    asked: int = 0  # all that was sent, so that the next round can go on with other numbers


@dataclass
class Cell:
    """All rounds of one server under one load; the rounds of cells with the same load were run in turn."""

    server: str
    kind: Kind
    connections: int
    load_cores: int  # how many cores the load generator and the mock had
    rounds: list[Round] = field(default_factory=list)

    def rate(self, one: Round) -> float:
        """Requests, streams or (paced) events in a second."""
        return (one.events if self.kind == "paced" else one.requests) / one.seconds

    def cpu_us(self, one: Round) -> float:
        """Per request, stream or (paced) event."""
        return one.cpu_s * 1e6 / ((one.events if self.kind == "paced" else one.requests) or nan)

    def of(self, figure: "Figure") -> float:
        """The median of the rounds."""
        return median(figure(self, one) for one in self.rounds)

    def ratio(self, figure: "Figure", base: "Cell") -> float:
        """The median of the ratios to the other server's figure in the same round."""
        pairs = zip(self.rounds, base.rounds, strict=True)
        return median(figure(self, one) / (figure(base, other) or nan) for one, other in pairs)

    def failures(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for one in self.rounds:
            for reason, count in one.failures.items():
                total[reason] = total.get(reason, 0) + count
        return total


Figure = Callable[[Cell, Round], float]

RATE: Figure = Cell.rate
CPU: Figure = Cell.cpu_us


def p50(_: Cell, one: Round) -> float:
    return one.p50_ms


def p99(_: Cell, one: Round) -> float:
    return one.p99_ms


def server_busy(_: Cell, one: Round) -> float:
    """Share of one core."""
    return one.cpu_s / one.seconds


def load_busy(cell: Cell, one: Round) -> float:
    """Share of the cores that the load generator and the mock had."""
    return one.load_cpu_s / one.seconds / cell.load_cores


def bunched(_: Cell, one: Round) -> float:
    """Events in one read: above 1 the pace was not kept."""
    return one.events / (one.pieces or nan)


def others_busy(_: Cell, one: Round) -> float:
    """How many cores processes that are none of ours kept busy meanwhile."""
    return max(0.0, one.machine_cpu_s - one.cpu_s - one.load_cpu_s) / one.seconds


def load_is_bottleneck(cell: Cell) -> bool:
    """Whether rate and latencies say more of the load generator and the mock than of the server."""
    return cell.of(load_busy) >= SATURATED and cell.of(server_busy) < SATURATED


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * share) - 1)] if ordered else nan


def spread(values: Sequence[float]) -> float:
    """How far they lie apart, as a share of their median."""
    return (max(values) - min(values)) / (median(values) or inf)


@dataclass
class Memory:
    """Resident bytes of one process."""

    server: str
    before: int
    after: int = 0
    cached: int = 0  # with the answers that it keeps; 0: the cache was not measured


@dataclass(frozen=True)
class Start:
    """A start of the gateway, to its first answer."""

    seconds: float
    cpu_s: float
    rss_bytes: int


@dataclass
class Results:
    """What a run found."""

    cells: list[Cell] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    starts: list["Start"] = field(default_factory=list)  # the first one in an empty data directory

    def cell(self, server: str, kind: str, connections: int) -> Cell | None:
        for cell in self.cells:
            if (cell.server, cell.kind, cell.connections) == (server, kind, connections):
                return cell
        return None

    @property
    def start_s(self) -> float | None:
        """Median of the starts after the first."""
        return median(start.seconds for start in self.starts[1:]) if self.starts[1:] else None

    def failures(self) -> list[tuple[Cell, dict[str, int]]]:
        """Where answers were wrong or missing."""
        return [(cell, found) for cell in self.cells if (found := cell.failures())]


@dataclass(frozen=True)
class Bar:
    """A figure that must not be above its limit; None: not measured in this run."""

    name: str
    limit: float
    value: float | None
    unit: str = ""

    @property
    def missed(self) -> bool:
        return self.value is not None and not self.value <= self.limit
