"""One of three upstreams dies under load: no client notices, and both workers avoid it within 250 ms."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Process, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.load import Load, load
from tests.fakes.scripted import ScriptedUpstream


@pytest.fixture
def three(upstream_thread: LoopThread) -> Iterator[list[ScriptedUpstream]]:
    async def start() -> list[ScriptedUpstream]:
        made = [ScriptedUpstream(b.honest()) for _ in range(3)]
        for one in made:
            await one.start()
        return made

    made = upstream_thread.run(start)
    yield made
    for one in made:
        upstream_thread.run(one.stop)


@pytest.fixture
def gateway(three: list[ScriptedUpstream], tmp_path: Path) -> Iterator[Process]:
    models = [
        {"name": name, "model": "x", "params": {"api_key": "k", "base_url": one.url}}
        for name, one in zip("abc", three, strict=True)
    ]
    general = {"cache": False, "cooldown_time": 60, "connect_timeout": 1}
    text = json.dumps({"model_groups": [{"model_group": "m", "models": models}], "general_settings": general})
    with serve(tmp_path / "site", text) as process:
        process.wait_ready()
        yield process
        assert process.terminate() == 0


class Failovers(Load):
    """Also keeps when each answer came that took more than one attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []

    def count(self, got, failure):  # type: ignore[no-untyped-def]
        super().count(got, failure)
        if got.headers.get("x-llmproxy-attempts") != "1":
            self.at.append(time.monotonic())


@pytest.mark.parametrize("requests", [600, pytest.param(60_000, marks=pytest.mark.full)])
async def test_nobody_notices(
    requests: int, gateway: Process, three: list[ScriptedUpstream], upstream_thread: LoopThread
) -> None:
    async def kill(done: int) -> None:
        if done == requests // 3:
            await asyncio.to_thread(upstream_thread.run, three[0].stop)

    result = Failovers()
    await load(gateway.url, requests, clients=50, stream_share=0, after=kill, result=result)
    assert (result.done, dict(result.failures)) == (requests, {})
    assert result.at, "the dead upstream was never asked: the test proves nothing"
    # From the first failure on: 250 ms for the news, and the time of the answers that were already on their way.
    assert result.at[-1] - result.at[0] < 0.25 + result.percentile(0.99)
    await asyncio.sleep(0.6)  # workers flush their counters every 200 ms
    _, told = gateway.get("/stats")
    assert told["requests"] | {"cache_hits": 0} == {
        "total": requests,
        "succeeded": requests,
        "failed": 0,
        "rejected": 0,
        "cancelled": 0,
        "cache_hits": 0,
    }
