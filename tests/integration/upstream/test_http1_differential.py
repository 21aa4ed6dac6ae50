"""Our client and httpx's read the same servers: the same answer, or a clean error where ours is stricter."""

import asyncio
from collections.abc import Iterator

import pytest

from routing.upstream.errors import UpstreamError
from routing.upstream.fast import FastUpstream
from routing.upstream.httpx_transport import HttpxUpstream
from tests.wire.answers import CORPUS, Case
from tests.wire.asking import outcome
from tests.wire.server import Script, Wire, WireServer

TRIED = 6  # positions in the short version


def says(case: Case, pieces: tuple[bytes, ...]) -> Script:
    async def play(wire: Wire) -> None:
        await wire.request()
        await wire.send(*pieces)
        if not case.closes:
            # httpx waits for the rest of some answers that we refuse at once.
            await asyncio.wait({asyncio.ensure_future(wire.gone())}, timeout=0.02)

    return play


def splits(raw: bytes, tried: int | None) -> Iterator[tuple[bytes, ...]]:
    yield (raw,)
    step = 1 if tried is None else max(1, len(raw) // tried)
    for position in range(1, len(raw), step):
        yield raw[:position], raw[position:]


def comparable(result: tuple[int, list[tuple[bytes, bytes]], bytes]) -> tuple[object, ...]:
    """h11 writes the coding's name in lower case."""
    status, headers, body = result
    return status, [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in headers], body


async def compare(case: Case, pieces: tuple[bytes, ...], fast: FastUpstream, reference: HttpxUpstream) -> None:
    async with WireServer(says(case, pieces)) as server:
        ours = await outcome(fast, server.origin())
        theirs = await outcome(reference, server.origin())
    if isinstance(ours, UpstreamError):
        assert case.error is not None
        assert isinstance(ours, case.error)
        assert case.stricter != isinstance(theirs, UpstreamError), theirs
    else:
        assert (ours[0], ours[2]) == (case.status, case.body)
        assert not isinstance(theirs, UpstreamError), theirs
        assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
async def test_same_answer_as_httpx_or_a_clean_error(case: Case, fast, through_httpx):
    for pieces in splits(case.raw, TRIED):
        await compare(case, pieces, fast, through_httpx)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
async def test_same_split_at_every_byte(case: Case, fast, through_httpx):
    for pieces in splits(case.raw, None):
        await compare(case, pieces, fast, through_httpx)
