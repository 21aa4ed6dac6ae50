"""A gateway in the test's own event loop, on a real port, in front of scripted upstreams on real ports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from llmproxy_site.store import StoreAddress
from tests.fakes import behaviours as b
from tests.fakes.scripted import ScriptedUpstream
from tests.fakes.valkey import Valkey
from tests.integration.in_process import Gateway, configuration

StartGateway = Callable[..., Awaitable[Gateway]]
StartUpstreams = Callable[[int], Awaitable[list[ScriptedUpstream]]]


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with Valkey() as running:
        yield running


@pytest.fixture
async def store(valkey: Valkey) -> StoreAddress:
    """A real store with nothing in it."""
    await valkey.empty()
    return valkey.address


@pytest.fixture
async def upstreams() -> AsyncIterator[StartUpstreams]:
    """`a, b = await upstreams(2)`: honest ones, until the test says otherwise."""
    started: list[ScriptedUpstream] = []

    async def start(count: int) -> list[ScriptedUpstream]:
        fresh = [ScriptedUpstream(b.honest()) for _ in range(count)]
        for upstream in fresh:
            await upstream.start()
        started.extend(fresh)
        return fresh

    yield start
    await asyncio.gather(*(upstream.stop() for upstream in started))


@pytest.fixture
async def gateway(store: StoreAddress) -> AsyncIterator[StartGateway]:
    """`await gateway(a, b)`: one group "m" whose endpoints a, b, c... are these upstreams, in order.

    Arguments as of `configuration`; `text=` gives the whole YAML instead. Called twice, it makes two workers that
    share the store.
    """
    started: list[Gateway] = []

    async def start(*urls: ScriptedUpstream | str, text: str | None = None, **settings: Any) -> Gateway:
        fresh = await Gateway.start(configuration(*urls, **settings) if text is None else text, store)
        started.append(fresh)
        return fresh

    yield start
    await asyncio.gather(*(one.stop() for one in started))


@pytest.fixture
def past_the_orm(db: None) -> Callable[[str], None]:
    """Runs one SQL statement, as no code of ours would."""

    def run(statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    return run
