"""Clients to be tested, on both kinds of event loop that carry the gateway: uvicorn's uvloop and daphne's plain one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from routing.upstream.fast import FastUpstream
from routing.upstream.httpx_transport import HttpxUpstream


def pytest_asyncio_loop_factories(config, item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def fast() -> AsyncIterator[FastUpstream]:
    upstream = FastUpstream()
    yield upstream
    await upstream.aclose()


@pytest.fixture
async def through_httpx() -> AsyncIterator[HttpxUpstream]:
    upstream = HttpxUpstream({})
    yield upstream
    await upstream.aclose()
