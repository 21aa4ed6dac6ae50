"""How long a body may take: as long as it makes progress."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from routing.errors import Overloaded, RequestTimedOut, TooLarge
from routing.openai.body import ClientLeft, read_body
from routing.openai.time_limits import TimeLimits
from tests.unit.virtual_time import run

LIMIT = 50_000_000


class Sender:
    """Sends pieces, each after its seconds of silence; then nothing for ever."""

    def __init__(self, *pieces: tuple[float, bytes], ends: bool = True) -> None:
        self._pieces: list[tuple[float, bytes]] = list(pieces)
        self._ends = ends

    async def receive(self) -> dict[str, Any]:
        if not self._pieces:
            await asyncio.sleep(1e6)
        after, piece = self._pieces.pop(0)
        await asyncio.sleep(after)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._ends}


def upload(pieces: Iterable[tuple[float, bytes]], *, limit: int = LIMIT, ends: bool = True) -> tuple[bytes, float]:
    """The body, and the seconds that it took."""

    async def scenario() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        body = await read_body(Sender(*pieces, ends=ends).receive, limit, TimeLimits(), lambda: None)
        return body, loop.time() - began

    return run(scenario())


def given_up_after(pieces: Iterable[tuple[float, bytes]], *, ends: bool = True) -> float:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(RequestTimedOut):
            await read_body(Sender(*pieces, ends=ends).receive, LIMIT, TimeLimits(), lambda: None)
        return loop.time() - began

    return run(scenario())


def test_a_body_that_is_there_at_once_takes_no_time():
    assert upload([(0, b"{}")]) == (b"{}", 0)


def test_a_slow_upload_that_makes_progress_lives():
    pieces = [(10.0, b"x" * 65_536)] * 300
    body, seconds = upload(pieces)
    assert (len(body), seconds) == (300 * 65_536, 3000)


def test_a_body_that_never_begins_is_given_up():
    assert 15 <= given_up_after([]) <= 17


def test_silence_in_the_middle_is_given_up():
    assert 25 <= given_up_after([(0, b"x" * 1_000_000), (10.0, b"x")], ends=False) <= 27


def test_a_trickle_is_given_up_after_its_first_15_seconds():
    assert 15 <= given_up_after([(1.0, b"x")] * 100) <= 17


def test_a_trickle_after_a_fast_start_lives_as_long_as_the_average():
    assert 100 <= given_up_after([(0.0, b"x" * 102_400), *[(1.0, b"x")] * 1000]) <= 103


def test_empty_messages_are_no_progress():
    assert 15 <= given_up_after([(0.0, b"x" * 1_000_000), *[(1.0, b"")] * 1000]) <= 17


def test_more_than_the_limit_is_refused_before_the_rest_comes():
    with pytest.raises(TooLarge):
        upload([(0, b"x" * 60), (0, b"x" * 60)], limit=100, ends=False)


def test_a_client_that_leaves_is_no_error_of_its_body():
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientLeft):
        run(read_body(receive, LIMIT, TimeLimits(), lambda: None))


def test_an_upload_is_refused_at_once_where_there_is_no_place():
    def refuse() -> None:
        raise Overloaded("full")

    async def scenario() -> None:
        with pytest.raises(Overloaded):
            await read_body(Sender((0, b"x"), ends=False).receive, LIMIT, TimeLimits(), refuse)

    run(scenario())


def test_somebody_elses_cancellation_stays_one():
    async def scenario() -> None:
        reading = asyncio.ensure_future(read_body(Sender().receive, LIMIT, TimeLimits(), lambda: None))
        await asyncio.sleep(1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    run(scenario())
