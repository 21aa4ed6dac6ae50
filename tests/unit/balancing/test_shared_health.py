"""What workers tell each other, through a store in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from routing.balancing.board import HealthBoard
from routing.balancing.health import Availability, Reason
from routing.balancing.shared_health import SharedHealth
from tests.unit.tables import endpoints_of
from tests.unit.virtual_time import run


class MemoryStore:
    """SET, GET, DEL, PTTL and PUBLISH on the event loop's clock; `away` makes it unreachable."""

    def __init__(self) -> None:
        self.away = False
        self.commands: list[tuple[Any, ...]] = []
        self._values: dict[str, tuple[bytes, float]] = {}
        self._listeners: list[Callable[[bytes], None]] = []
        self._catch_up: list[Callable[[], Awaitable[None]]] = []

    @property
    def available(self) -> bool:
        return not self.away

    async def run(self, *commands: Any) -> list[Any]:
        if self.away:
            raise ConnectionError
        self.commands += commands
        return [getattr(self, command[0].lower())(*command[1:]) for command in commands]

    async def listen(self, channel: str, on_message: Any, on_connected: Any) -> None:
        self._listeners.append(on_message)
        self._catch_up.append(on_connected)
        await on_connected()
        await asyncio.Event().wait()

    async def lose_everything(self) -> None:
        """It was started anew, and all have connected again."""
        self._values.clear()
        for on_connected in self._catch_up:
            await on_connected()

    def set(self, key: str, value: bytes | str, *options: Any) -> bytes | None:
        if "NX" in options and self.get(key) is not None:
            return None
        value = value if isinstance(value, bytes) else value.encode()
        self._values[key] = value, self._now() + options[options.index("PX") + 1] / 1000
        return b"OK"

    def get(self, key: str) -> bytes | None:
        value, until = self._values.get(key, (None, 0.0))
        return value if self._now() < until else None

    def pttl(self, key: str) -> int:
        return int((self._values[key][1] - self._now()) * 1000) if self.get(key) is not None else -2

    def delete(self, *keys: str) -> int:
        return sum(self._values.pop(key, None) is not None for key in keys)

    def publish(self, channel: str, message: bytes) -> int:
        for listener in self._listeners:
            listener(message)
        return len(self._listeners)

    def __getattr__(self, name: str) -> Any:
        return self.delete if name == "del" else super().__getattribute__(name)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class Fleet:
    """Workers that share a store; each clock is shifted, as machines' are."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        (self.endpoint,) = endpoints_of(1)
        self.tasks: list[asyncio.Task[None]] = []

    async def worker(self, shift: float = 0.0) -> HealthBoard:
        loop = asyncio.get_running_loop()
        board = HealthBoard(lambda: loop.time() + shift)
        board.announcer = shared = SharedHealth(board, self.store)
        self.tasks.append(loop.create_task(shared.run(lambda: [self.endpoint.id])))
        await asyncio.sleep(0.001)
        return board

    def state(self, board: HealthBoard) -> Availability:
        return board.of(self.endpoint).availability(board.clock())

    def left(self, board: HealthBoard) -> float:
        return round(board.of(self.endpoint).until - board.clock(), 1)


def in_fleet(scenario: Callable[[Fleet], Awaitable[None]]) -> None:
    async def play() -> None:
        fleet = Fleet()
        try:
            await scenario(fleet)
        finally:
            for task in fleet.tasks:
                task.cancel()
            ended = await asyncio.gather(*fleet.tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)

    run(play())


def test_a_cooldown_is_seen_by_a_worker_whose_clock_differs():
    async def scenario(fleet: Fleet) -> None:
        one, other = await fleet.worker(), await fleet.worker(shift=-777.0)
        one.cool(fleet.endpoint, 30, Reason.RATE_LIMIT)
        await asyncio.sleep(0.01)
        assert (fleet.state(other), fleet.left(other)) == (Availability.COOLING, 30.0)
        assert other.of(fleet.endpoint).reason is Reason.RATE_LIMIT

    in_fleet(scenario)


def test_a_worker_that_starts_later_learns_the_cooldown():
    async def scenario(fleet: Fleet) -> None:
        one = await fleet.worker()
        one.cool(fleet.endpoint, 30, Reason.FAILURE)
        await asyncio.sleep(10)
        late = await fleet.worker(shift=5.0)
        assert (fleet.state(late), fleet.left(late)) == (Availability.COOLING, 20.0)

    in_fleet(scenario)


def test_a_worker_that_starts_later_learns_the_longer_of_two_cooldowns():
    async def scenario(fleet: Fleet) -> None:
        one = await fleet.worker()
        one.cool(fleet.endpoint, 300, Reason.RATE_LIMIT)
        one.cool(fleet.endpoint, 30, Reason.FAILURE)
        await asyncio.sleep(0.01)
        late = await fleet.worker()
        assert fleet.left(late) == 300.0

    in_fleet(scenario)


def test_a_recovery_is_seen_by_all():
    async def scenario(fleet: Fleet) -> None:
        one, other = await fleet.worker(), await fleet.worker(shift=50.0)
        one.cool(fleet.endpoint, 30, Reason.FAILURE)
        await asyncio.sleep(1)
        one.succeeded(fleet.endpoint, one.clock() - 0.5)
        await asyncio.sleep(0.01)
        assert [fleet.state(board) for board in (one, other)] == [Availability.AVAILABLE] * 2
        late = await fleet.worker()
        assert fleet.state(late) is Availability.AVAILABLE

    in_fleet(scenario)


def test_failures_in_different_workers_add_up():
    async def scenario(fleet: Fleet) -> None:
        one, other = await fleet.worker(), await fleet.worker()
        assert not one.failed(fleet.endpoint, one.clock(), 2)
        await asyncio.sleep(0.01)
        assert other.failed(fleet.endpoint, other.clock(), 2)

    in_fleet(scenario)


def test_one_worker_wins_the_probe():
    async def scenario(fleet: Fleet) -> None:
        boards = [await fleet.worker() for _ in range(4)]
        boards[0].cool(fleet.endpoint, 1, Reason.FAILURE)
        await asyncio.sleep(1.1)
        for board in boards:
            board.ask_for_probe(fleet.endpoint, board.clock())
        await asyncio.sleep(0.01)
        states = [fleet.state(board) for board in boards]
        assert states.count(Availability.PROBE) == 1
        assert states.count(Availability.AWAITING_PROBE) == 3

    in_fleet(scenario)


@pytest.mark.parametrize("lasts", [2.0, 20.0])
def test_a_long_probe_keeps_its_claim(lasts):
    async def scenario(fleet: Fleet) -> None:
        one, other = await fleet.worker(), await fleet.worker()
        one.cool(fleet.endpoint, 1, Reason.FAILURE)
        await asyncio.sleep(1.1)
        one.ask_for_probe(fleet.endpoint, one.clock())
        await asyncio.sleep(0.01)
        one.of(fleet.endpoint).probing = 1
        await asyncio.sleep(lasts)
        other.ask_for_probe(fleet.endpoint, other.clock())
        await asyncio.sleep(0.01)
        assert fleet.state(other) is Availability.AWAITING_PROBE

    in_fleet(scenario)


def test_without_the_store_each_worker_probes_for_itself():
    async def scenario(fleet: Fleet) -> None:
        board = await fleet.worker()
        fleet.store.away = True
        board.cool(fleet.endpoint, 1, Reason.FAILURE)
        await asyncio.sleep(1.1)
        board.ask_for_probe(fleet.endpoint, board.clock())
        await asyncio.sleep(0.01)
        assert fleet.state(board) is Availability.PROBE

    in_fleet(scenario)


def test_a_cooldown_that_began_while_the_store_was_away_is_told_when_it_is_back():
    async def scenario(fleet: Fleet) -> None:
        one, other = await fleet.worker(), await fleet.worker()
        fleet.store.away = True
        one.cool(fleet.endpoint, 30, Reason.RATE_LIMIT)
        await asyncio.sleep(5)
        assert fleet.state(other) is Availability.AVAILABLE
        fleet.store.away = False
        await asyncio.sleep(1.1)
        late = await fleet.worker()
        assert [round(fleet.left(board)) for board in (one, other, late)] == [24] * 3

    in_fleet(scenario)


def test_a_store_that_lost_everything_learns_running_cooldowns_again():
    async def scenario(fleet: Fleet) -> None:
        one = await fleet.worker()
        one.cool(fleet.endpoint, 30, Reason.FAILURE)
        await asyncio.sleep(10)
        await fleet.store.lose_everything()
        await asyncio.sleep(0.01)
        late = await fleet.worker()
        assert (fleet.state(late), round(fleet.left(late))) == (Availability.COOLING, 20)

    in_fleet(scenario)


@pytest.mark.parametrize("seconds", [5, 60])
def test_a_cooldown_that_is_over_or_healed_is_not_told_again(seconds):
    async def scenario(fleet: Fleet) -> None:
        one = await fleet.worker()
        one.cool(fleet.endpoint, 30, Reason.FAILURE)
        await asyncio.sleep(seconds)
        if seconds < 30:
            one.succeeded(fleet.endpoint, one.clock() - 1)
        await asyncio.sleep(0.01)
        told = len(fleet.store.commands)
        await fleet.store.lose_everything()
        await asyncio.sleep(0.01)
        assert [command[0] for command in fleet.store.commands[told:]] == ["GET", "PTTL"]

    in_fleet(scenario)


def test_a_claim_that_the_store_did_not_answer_is_granted():
    async def scenario(fleet: Fleet) -> None:
        board = await fleet.worker()
        board.cool(fleet.endpoint, 1, Reason.FAILURE)
        await asyncio.sleep(1.1)
        board.ask_for_probe(fleet.endpoint, board.clock())
        fleet.store.away = True
        await asyncio.sleep(0.01)
        assert fleet.state(board) is Availability.PROBE

    in_fleet(scenario)


@pytest.mark.parametrize(
    "message",
    [b"", b"nonsense", b"{}", b"[]", b'["x"]', b'["x","cooled","e",0,5,"of the future"]', b'["x","new kind","e"]',
     b'["x","cooled","e",null,null,null]', b"\xff\xfe", b'["x","cooled",7,1,2,"failure"]'],
)  # fmt: skip
def test_foreign_messages_change_nothing(message):
    async def scenario(fleet: Fleet) -> None:
        board = await fleet.worker()
        fleet.store.publish("any", message.replace(b'"e"', b'"' + fleet.endpoint.id.encode() + b'"'))
        assert fleet.state(board) is Availability.AVAILABLE

    in_fleet(scenario)


def test_news_that_pile_up_are_bounded():
    async def scenario(fleet: Fleet) -> None:
        board = await fleet.worker()
        for _ in range(30_000):
            board.failed(fleet.endpoint, board.clock(), None)
        await asyncio.sleep(0.01)
        assert len(fleet.store.commands) < 10_100

    in_fleet(scenario)
