"""Two gateways as processes of one worker each, which share nothing but a store, in front of one scripted upstream."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.processes import Process, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes.scripted import Behaviour, RecordedRequest, ScriptedUpstream
from tests.fakes.valkey import Valkey


@dataclass
class Pair:
    """`servers`: those that run."""

    servers: list[Process]
    upstream: ScriptedUpstream
    start: Callable[[], Process]

    def asked(self, text: str) -> list[RecordedRequest]:
        """The requests that the upstream got with this text in them."""
        return [one for one in self.upstream.requests if text.encode() in one.body]


@contextmanager
def pair(
    thread: LoopThread,
    directory: Path,
    valkey: Valkey,
    always: Behaviour | Callable[[RecordedRequest], Behaviour],
    **general: Any,
) -> Iterator[Pair]:
    """general: settings beside those that keep tests short. One group, "m"."""

    async def start_upstream() -> ScriptedUpstream:
        upstream = ScriptedUpstream(always)
        await upstream.start()
        return upstream

    upstream = thread.run(start_upstream)
    text = configuration(upstream.url, **general)
    with ExitStack() as stack:
        stack.callback(lambda: thread.run(upstream.stop))

        def start() -> Process:
            place = directory / f"server-{len(started)}"
            process = serve(place, text, workers=1, LLMPROXY_REDIS_URL=valkey.address.url)
            started.append(process)
            return stack.enter_context(process)

        started: list[Process] = []
        servers = [start(), start()]
        for process in servers:
            process.wait_ready()
        yield Pair(servers, upstream, start)
        for process in started:
            assert "Traceback" not in process.output(), process.output()


def configuration(url: str, **general: Any) -> str:
    models = [{"name": "e", "model": "upstream-model", "params": {"api_key": "k", "base_url": url}}]
    settings = {"num_retries": 0, "cooldown_time": 0, "connect_timeout": 1, "cache": True} | general
    return json.dumps({"model_groups": [{"model_group": "m", "models": models}], "general_settings": settings})
