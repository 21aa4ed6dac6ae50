"""The gateway served by uvicorn inside the test's event loop, without database and without store."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uvicorn
from uvicorn.server import ServerState

from llmproxy_site.asgi import Application
from llmproxy_site.gateway_parts import GatewayParts, compile_loaded
from llmproxy_site.joined_writes import JoinedWritesProtocol
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink
from routing.config.snapshot import LoadedConfiguration
from routing.config.yaml_file import parse
from stats.record_writer import RecordWriter
from tests.fakes.load import Client, Got, verdict
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import ScriptedUpstream

NAMES = "abcdefghijkl"
KEEP_ALIVE_S = 5
# Long enough for two busy cores; tests that wait for one of them set it shorter.
GENERAL: dict[str, Any] = {
    "num_retries": 3,
    "allowed_fails": 1,
    "cooldown_time": 30,
    "connect_timeout": 1,
    "http_timeout": 4,
    "first_event_timeout": 1,
    "idle_timeout": 1,
    "stream_timeout": 5,
    "cache": False,
}


def endpoint(name: str, url: str, **fields: Any) -> dict[str, Any]:
    """One model entry; `params` in fields are added to the URL and a key of its own."""
    params = {"api_key": f"sk-key-of-{name}", "base_url": url} | fields.pop("params", {})
    return {"name": name, "model": f"upstream-model-{name}", "params": params} | fields


def configuration(
    *upstreams: ScriptedUpstream | str,
    group: dict[str, Any] | None = None,
    general: dict[str, Any] | None = None,
    weights: tuple[int, ...] = (),
    endpoints: dict[str, Any] | None = None,
    more_groups: tuple[dict[str, Any], ...] = (),
) -> str:
    """A YAML text (JSON is YAML). group, general, endpoints: further fields of those."""
    urls = [one if isinstance(one, str) else one.url for one in upstreams]
    models = [endpoint(NAMES[index], url, **(endpoints or {})) for index, url in enumerate(urls)]
    for model, weight in zip(models, weights, strict=False):
        model["weight"] = weight
    first = {"model_group": "m", "models": models} | (group or {})
    return json.dumps({"model_groups": [first, *more_groups], "general_settings": GENERAL | (general or {})})


@dataclass
class Gateway:
    """A running gateway; `url` ends in /v1.

    uvicorn's protocol and lifespan without its Server, whose main loop costs 200 ms at every end.
    """

    port: int
    parts: GatewayParts
    _listener: asyncio.Server
    _state: ServerState
    _lifespan: Any

    @classmethod
    async def start(cls, text: str, store: StoreAddress, records: RecordWriter | None = None) -> Self:
        loop, state = asyncio.get_running_loop(), ServerState()
        application = build(text, store, records)
        config = uvicorn.Config(
            application,
            http=JoinedWritesProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        lifespan = config.lifespan_class(config)
        await lifespan.startup()
        listener = await loop.create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state=lifespan.state),
            "127.0.0.1",
            0,
            backlog=1024,
        )
        return cls(listener.sockets[0].getsockname()[1], lifespan.state["gateway"], listener, state, lifespan)

    async def stop(self) -> None:
        self._listener.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            _, pending = await asyncio.wait(self._state.tasks, timeout=1)
            for task in pending:
                task.cancel()
        await self._lifespan.shutdown()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def client(self) -> Client:
        return Client(self.url)

    async def ask(self, *, stream: bool = False, headers: dict[str, str] | None = None, **fields: Any) -> Got:
        """One chat request on a connection of its own; `got.verdict` is None when the answer is right and whole."""
        nonce = fields.pop("nonce", None) or new_nonce()
        async with self.client() as client:
            got = await client.post("/chat/completions", chat_body(nonce, stream=stream, **fields), headers)
        got.verdict = verdict(got, nonce, stream=stream)
        return got

    async def get(self, path: str) -> Got:
        async with Client(self.root) as client:
            return await client.get(path)

    async def endpoint(self, name: str, group: str = "m") -> dict[str, Any]:
        """The endpoint's `state` in /stats."""
        got = await self.get("/stats")
        state: dict[str, Any] = next(e["state"] for e in got.json["model_groups"][group] if e["name"] == name)
        return state


def build(text: str, store: StoreAddress, records: RecordWriter | None = None) -> Application:
    """The ASGI application of this configuration."""
    loaded = LoadedConfiguration(1, parse(text.encode(), "test.yaml").configuration, {})

    async def parts() -> GatewayParts:
        parts = GatewayParts(compile_loaded(loaded, {}, Path("none")), StoreLink(store), {}, ())
        if records is not None:
            parts.keep_records(records)
        return parts

    return Application(parts)
