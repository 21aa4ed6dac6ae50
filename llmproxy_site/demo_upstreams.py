"""Two mock upstreams for the demo, a process of their own. Prints their ports; ends with its input.

With a host and a port as arguments it is the demo's clients too.
"""

import asyncio
import random
import sys

from llmproxy_site.demo_traffic import visit
from routing.mock_upstream import MockUpstream

# The same ports every time, where they are free: then a second demo's configuration is no change.
UPSTREAMS = {"mock-a": 4301, "mock-b": 4302}


async def _serve(gateway: list[str]) -> None:
    mocks = [
        MockUpstream(name="mock-a", event_interval_ms=30, latency_ms=120),
        MockUpstream(name="mock-b", event_interval_ms=40, latency_ms=200, fail_rate=0.025),  # the other one rescues
    ]
    ports = [await _started(mock, port) for mock, port in zip(mocks, UPSTREAMS.values(), strict=True)]
    sys.stdout.write(" ".join(map(str, ports)) + "\n")
    sys.stdout.flush()
    clients = asyncio.get_running_loop().create_task(_live(mocks, gateway))
    await asyncio.to_thread(sys.stdin.read)
    clients.cancel()
    for mock in mocks:
        await mock.stop()


async def _live(mocks: list[MockUpstream], gateway: list[str]) -> None:
    """Traffic, and upstreams that are now faster and now slower."""
    if not gateway:
        return
    host, port = gateway
    rng = random.Random()  # noqa: S311 - nothing here is secret
    usual = [mock.latency_ms for mock in mocks]
    async with asyncio.TaskGroup() as together:
        together.create_task(visit(host, int(port), rng))
        while True:
            await asyncio.sleep(0.3)
            for mock, latency_ms in zip(mocks, usual, strict=True):
                mock.latency_ms = latency_ms * rng.lognormvariate(0, 0.4)


async def _started(mock: MockUpstream, preferred: int) -> int:
    try:
        return await mock.start(preferred)
    except OSError:
        return await mock.start(0)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
