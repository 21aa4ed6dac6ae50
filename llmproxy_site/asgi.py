"""The ASGI application and composition root: OpenAI paths go to the door, everything else to Django.

Under uvicorn the gateway starts with the lifespan; daphne has none, so there it starts with the first request.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmproxy_site.settings")  # noqa: TID251 - Django's own entry point

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

import structlog  # noqa: E402 - what follows imports models, which need Django's set-up
from asgiref.sync import sync_to_async  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import DatabaseError  # noqa: E402

from llmproxy_site.environment import Environment, variables  # noqa: E402
from llmproxy_site.gateway_parts import GatewayParts, compile_loaded  # noqa: E402
from llmproxy_site.request_log import RequestLog, to_descriptor, whole_at  # noqa: E402
from llmproxy_site.store import find_cache_store, find_store  # noqa: E402
from llmproxy_site.store_link import StoreLink  # noqa: E402
from llmproxy_site.traces import find_traces  # noqa: E402
from routing.config.schema import Configuration  # noqa: E402
from routing.config.snapshot import LoadedConfiguration, load_last_good  # noqa: E402
from routing.config.table import RoutingTable  # noqa: E402
from routing.config.watch import RevisionWatch  # noqa: E402
from routing.config.wording import ConfigurationInvalid  # noqa: E402
from routing.openai.door import OpenAIDoor  # noqa: E402
from routing.openai.routes import BY_PATH, serves  # noqa: E402
from stats.record_tables import RecordTables  # noqa: E402
from stats.record_writer import RecordWriter  # noqa: E402

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def build_parts(environment: Environment) -> GatewayParts:
    """The gateway of this process, from its database, store and environment."""
    try:
        loaded = await sync_to_async(load_last_good)()
    except DatabaseError as error:
        log.error("the configuration cannot be read: run `manage.py migrate`, or check DATABASE_URL", reason=str(error))
        loaded = LoadedConfiguration(0, Configuration(), {})
    except ConfigurationInvalid as error:
        log.error("the configuration in the database is not valid: import a good one", reason=str(error))
        loaded = LoadedConfiguration(0, Configuration(), {})

    def compiled(loaded: LoadedConfiguration) -> RoutingTable:
        return compile_loaded(loaded, variables(), environment.secrets_dir)

    table = compiled(loaded)
    store = StoreLink(find_store(environment, table.settings))
    cache_address = find_cache_store(environment, table.settings)
    parts = GatewayParts(table, store, variables(), environment.allowed_hosts, cache_address)
    parts.keep_records(RecordWriter(RecordTables()))
    told = sys.stderr.fileno()
    parts.log_requests(RequestLog(to_descriptor(told), terminal=sys.stderr.isatty(), whole=whole_at(told)))
    if (traces := find_traces(variables(), parts.endpoint)) is not None:
        parts.trace(traces)
    parts.revisions = RevisionWatch(parts.live, compiled, store)
    return parts


class Application:
    """One worker's ASGI application."""

    def __init__(self, build: Callable[[], Awaitable[GatewayParts]]) -> None:
        self._build = build
        self._parts: GatewayParts | None = None
        self._dashboard: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
            return
        parts = self._parts or await self._start()
        if kind == "http":
            path = scope["path"]
            if path in BY_PATH or serves(path):
                await OpenAIDoor(parts.entrance)(scope, receive, send)
                return
            scope["llmproxy"] = parts
            await django_application(scope, receive, send)  # type: ignore[arg-type]
        elif kind == "websocket":
            await self._dashboard_of(parts)(scope, receive, send)

    def _dashboard_of(self, parts: GatewayParts) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        if self._dashboard is None:
            from routing.admin.dashboard_socket import live_dashboard  # most workers serve none

            self._dashboard = live_dashboard(parts)
        return self._dashboard

    async def _start(self) -> GatewayParts:
        async with self._starting:
            if self._parts is None:
                parts = await self._build()
                await parts.start()
                self._parts = parts
        return self._parts

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        parts = await self._start()
        scope.get("state", {})["gateway"] = parts
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await parts.stop()
        await send({"type": "lifespan.shutdown.complete"})


application = Application(lambda: build_parts(settings.LLMPROXY))
