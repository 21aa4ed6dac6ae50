"""Revisions published under load, one of them broken: no request fails, and all workers serve the last one in time."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.processes import Process, manage, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes.load import Client

_PUBLISH = """
import time
from routing.models import Endpoint, Revision
for number in range({count}):
    if number == {count} // 2:
        last = Revision.objects.first()
        Revision.objects.create(number=last.number + 1, author="t", source="t", digest="-", snapshot={{"no": "sense"}})
    endpoint = Endpoint.objects.get(name="a")
    endpoint.weight = number + 2
    endpoint.save()
    time.sleep(0.02)
print("last", Revision.objects.first().number)
"""
_ASKED = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.fixture
def gateway(upstream_thread: LoopThread, tmp_path: Path) -> Iterator[Process]:
    mock = MockUpstream("mock")
    port = upstream_thread.run(mock.start)
    models = [{"name": n, "model": "x", "params": {"base_url": f"http://127.0.0.1:{port}/v1"}} for n in "ab"]
    with serve(tmp_path / "site", json.dumps({"model_groups": [{"model_group": "m", "models": models}]})) as process:
        process.wait_ready()
        yield process
        assert process.terminate() == 0
    upstream_thread.run(mock.stop)


class Seen:
    def __init__(self) -> None:
        self.failed: list[int] = []
        self.fell: list[tuple[int, int]] = []
        self.latest: dict[int, int] = {}  # by client: a connection stays with its worker

    def answer(self, client: int, status: int, revision: int) -> None:
        if status != 200:
            self.failed.append(status)
        if revision < self.latest.get(client, 0):
            self.fell.append((self.latest[client], revision))
        self.latest[client] = revision


async def _ask(number: int, url: str, seen: Seen, enough: asyncio.Event) -> None:
    async with Client(url) as client:
        while not enough.is_set():
            got = await client.post("/chat/completions", _ASKED)
            seen.answer(number, got.status, int(got.headers["x-llmproxy-revision"]))
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("revisions", "clients"), [(8, 20), pytest.param(50, 200, marks=pytest.mark.full)])
async def test_revisions_under_load_cost_no_request(gateway: Process, revisions: int, clients: int) -> None:
    seen, enough = Seen(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(_ask(number, gateway.url, seen, enough))
        done = await asyncio.to_thread(
            manage, gateway.directory, "shell", "-v", "0", "-c", _PUBLISH.format(count=revisions)
        )
        published = time.monotonic()
        assert done.returncode == 0, done.stderr
        last = int(done.stdout.split("last")[1])
        while set(seen.latest.values()) != {last} and time.monotonic() < published + 10:  # noqa: ASYNC110 - many answers
            await asyncio.sleep(0.02)
        took = time.monotonic() - published
        enough.set()
    assert (seen.failed, seen.fell, set(seen.latest.values())) == ([], [], {last})
    assert took < 2
