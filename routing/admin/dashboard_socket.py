"""The dashboard's websocket: tells signed-in members of staff who may see endpoints, on our own pages, and nobody else.

Imported when the first browser asks for it, so that a worker without a watched dashboard does not hold it.
"""
# mypy: disallow-untyped-calls=False
# (channels has no types)

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from importlib import import_module
from typing import Any

import structlog
from channels.auth import AuthMiddlewareStack, get_user
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import DatabaseError
from django.http.request import split_domain_port, validate_host
from django.utils.http import is_same_domain

from routing.admin.dashboard_figures import SPANS
from routing.admin.dashboard_readings import Readings, Watcher
from routing.admin.running import RunningGateway
from stats.history import History

PATH = "/admin/live/"
PERMISSION = "routing.view_endpoint"
LOST_RIGHTS = 4403  # close code; the page loads itself anew, and so comes to the login
_CHECK_EVERY_S = 20.0

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def live_dashboard(gateway: RunningGateway, check_every_s: float = _CHECK_EVERY_S) -> Callable[..., Awaitable[None]]:
    """The ASGI application for websockets of one worker. check_every_s: how often rights are looked at again."""
    readings = Readings(gateway, History())
    socket = DashboardSocket.as_asgi(readings=readings, check_every_s=check_every_s)
    signed_in = AuthMiddlewareStack(socket)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        if scope["path"] == PATH and is_own_page(host, origin, settings.ALLOWED_HOSTS, settings.CSRF_TRUSTED_ORIGINS):
            await signed_in(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})  # before it was accepted: a 403

    return application


def is_own_page(host: str, origin: str, allowed_hosts: Iterable[str], trusted_origins: Iterable[str]) -> bool:
    """As Django judges forms: the page is of the very host and port that is asked, or of an origin that is trusted.

    Browsers send cookies along whatever page opens the socket, so this is all that keeps others' pages out.
    """
    domain, _ = split_domain_port(host)
    if not validate_host(domain, allowed_hosts):
        return False
    return origin in (f"http://{host}", f"https://{host}") or any(_stands_for(one, origin) for one in trusted_origins)


def _stands_for(trusted: str, origin: str) -> bool:
    """`https://*.example.com` stands for all below it, and for itself, as Django reads it."""
    scheme, wild, below = trusted.partition("://*")
    own, _, place = origin.partition("://")
    return own == scheme and is_same_domain(place, below) if wild else origin == trusted


class DashboardSocket(AsyncWebsocketConsumer):
    """One browser. It may send the name of a span, and gets numbers of that one from then on."""

    def __init__(self, readings: Readings, check_every_s: float) -> None:
        super().__init__()
        self._readings = readings
        self._check_every_s = check_every_s
        self._watcher: Watcher | None = None
        self._telling: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # also when the server ends it without a word to us
            if self._watcher is not None:
                self._readings.leave(self._watcher)
            if self._telling is not None:
                self._telling.cancel()
                await asyncio.gather(self._telling, return_exceptions=True)

    async def connect(self) -> None:
        if not await _may_watch(self.scope["user"]):
            await self.close()
            return
        await self.accept()
        self._watcher = self._readings.join(next(iter(SPANS)))
        self._telling = asyncio.get_running_loop().create_task(self._tell(self._watcher), name="dashboard")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data in SPANS and self._watcher is not None:
            self._watcher.span = text_data
            self._readings.repeat(self._watcher, text_data)

    async def _tell(self, watcher: Watcher) -> None:
        """Until the browser goes, or may not see it any more."""
        check_at = time.monotonic() + self._check_every_s
        try:
            while True:
                for text in await watcher.next():
                    await self.send(text_data=text)
                if time.monotonic() >= check_at:
                    if not await self._still_may():
                        await self.close(LOST_RIGHTS)
                        return
                    check_at = time.monotonic() + self._check_every_s
        except OSError:
            return  # the browser has gone
        except Exception:
            log.exception("a browser is not told the dashboard's numbers any more")
            await self.close(1011)

    async def _still_may(self) -> bool:
        """Asks for the session anew: who has logged out or was expelled has none that leads to a user."""
        session = import_module(settings.SESSION_ENGINE).SessionStore(self.scope["session"].session_key)
        try:
            may: bool = await _may_watch(await get_user({"session": session}))
            return may
        except DatabaseError:
            return True  # nobody can be expelled meanwhile, and on such days the page is needed most


@database_sync_to_async
def _may_watch(user: User | AnonymousUser) -> bool:
    return bool(user.is_active and user.is_staff and user.has_perm(PERMISSION))
