"""The dashboard's websocket: who is told, what, and for how long."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import Client

from llmproxy_site.gateway_parts import GatewayParts, compile_loaded
from llmproxy_site.operators_view import stats_view
from llmproxy_site.store_link import StoreLink
from routing.admin.dashboard_readings import Readings
from routing.admin.dashboard_socket import LOST_RIGHTS, PATH, live_dashboard
from routing.config.snapshot import LoadedConfiguration
from routing.config.yaml_file import parse
from stats.history import History
from stats.pending import Pending
from stats.record import AttemptRecord
from stats.record_tables import RecordTables
from tests.integration.admin_gateway import AdminGateway
from tests.integration.in_process import configuration
from tests.integration.records_database import record

pytestmark = pytest.mark.django_db(transaction=True)


def cookie_of(**user):
    """Of a session of a new user."""
    client = Client()
    client.force_login(User.objects.create_user("somebody", **user))
    return "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())


@pytest.fixture
def viewer():
    """The cookie of a member of staff who may see endpoints, and nothing else."""
    cookie = cookie_of(is_staff=True)
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_endpoint"))
    return cookie


@pytest.fixture
def gateway():
    return AdminGateway()


def browser(application, cookie="", origin="http://localhost", path=PATH):
    headers = {"host": "localhost", "origin": origin, "cookie": cookie}
    return WebsocketCommunicator(application, path, [(k.encode(), v.encode()) for k, v in headers.items() if v])


@asynccontextmanager
async def connected(application, cookie):
    socket = browser(application, cookie)
    accepted, _ = await socket.connect(timeout=10)
    assert accepted
    yield socket
    await socket.disconnect(timeout=10)


async def told(socket, what, fits=lambda value: True):
    """The next message of this kind, of which `fits` is true."""
    async with asyncio.timeout(15):
        while True:
            message = json.loads(await socket.receive_from(timeout=15))
            if what in message and fits(message[what]):
                return message[what]


def tasks():
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("dashboard")]


# -- who


async def refused(gateway, *arguments, **named):
    accepted, _ = await browser(live_dashboard(gateway), *arguments, **named).connect(timeout=10)
    return not accepted and tasks() == []


async def test_who_is_not_signed_in_is_refused(gateway):
    assert await refused(gateway)


async def test_a_session_that_does_not_exist_is_refused(gateway):
    assert await refused(gateway, "llmproxy_session=abcdefghijklmnopqrstuvwxyz012345")


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000", ""])
async def test_a_page_of_somebody_else_is_refused(gateway, viewer, origin):
    assert await refused(gateway, viewer, origin=origin)


async def test_another_path_is_refused(gateway, viewer):
    assert await refused(gateway, viewer, path="/admin/other/")


@pytest.fixture
def not_staff():
    cookie = cookie_of(is_staff=False)
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_endpoint"))
    return cookie


async def test_who_is_not_staff_is_refused(gateway, not_staff):
    assert await refused(gateway, not_staff)


@pytest.fixture
def without_role():
    return cookie_of(is_staff=True)


async def test_staff_without_a_role_is_refused(gateway, without_role):
    assert await refused(gateway, without_role)


async def test_who_logs_out_is_not_told_any_more(gateway, viewer):
    async with connected(live_dashboard(gateway, check_every_s=0), viewer) as socket:
        await told(socket, "live")
        await sync_to_async(Session.objects.all().delete)()

        assert await close_code(socket) == LOST_RIGHTS


async def test_who_is_staff_no_longer_is_not_told_any_more(gateway, viewer):
    async with connected(live_dashboard(gateway, check_every_s=0), viewer) as socket:
        await told(socket, "live")
        await sync_to_async(User.objects.update)(is_staff=False)

        assert await close_code(socket) == LOST_RIGHTS


async def close_code(socket):
    async with asyncio.timeout(15):
        while (message := await socket.receive_output(timeout=15))["type"] != "websocket.close":
            pass
    return message["code"]


# -- what


@pytest.fixture
async def served(store):
    """The parts of a real worker with a real store, which nothing runs."""
    loaded = LoadedConfiguration(1, parse(configuration("http://127.0.0.1:9").encode(), "c.yaml").configuration, {})
    parts = GatewayParts(compile_loaded(loaded, {}, None), StoreLink(store), {}, ())
    yield parts
    await parts.stop()


async def test_the_numbers_are_those_of_stats(served, viewer):
    [endpoint] = served.live.table.endpoints.values()
    for outcome, count in {"success": 5, "failure": 2, "rejected": 3, "cancelled": 1}.items():
        for _ in range(count):
            attempt = AttemptRecord("", endpoint.id, outcome, "status 500", 500, 0.0, 200.0)
            served.recorder.attempt_ended(attempt, 7, 9)
            served.recorder.request_ended(outcome, hit=outcome == "success")
    stats = await stats_view(served)
    async with connected(live_dashboard(served), viewer) as socket:
        live = await told(socket, "live")

    assert {name: live["requests"][name] for name in stats["requests"]} == stats["requests"]
    state = stats["model_groups"]["m"][0]["state"]
    shown = live["endpoints"]["a"]
    assert shown["total"] == state["total_requests"] == 11
    assert shown["success_rate"] == state["success_rate"]
    assert {"p50": shown["p50_ms"], "p95": shown["p95_ms"]} == state["latency_ms"]


async def test_a_request_is_told_within_two_seconds(served, viewer):
    async with connected(live_dashboard(served), viewer) as socket:
        await told(socket, "live", lambda live: live["requests"]["total"] == 0)
        served.recorder.request_ended("success")
        ended = time.monotonic()
        await told(socket, "live", lambda live: live["requests"]["total"] == 1)

    assert time.monotonic() - ended < 2


def write(*records):
    pending = Pending()
    for one in records:
        pending.add(one)
    RecordTables().write("test", pending.take())


@pytest.fixture
def recorded():
    """Of now: a hit, and a request that the second endpoint has rescued, of unknown price."""
    attempts = [
        AttemptRecord("west", "id-west", "failure", "status 500", 500, 0.4, 30.0),
        AttemptRecord("east", "id-east", "success", "", 200, 31.0, 90.0),
    ]
    hit = {"cache": "hit", "attempts": [], "cost_nano_usd": 0, "saved_nano_usd": 5000}
    rescued = {"request_id": "r-2", "cache": "miss", "attempts": attempts, "cost_nano_usd": None}
    write(record(at=time.time() - 1, **hit), record(at=time.time() - 1, **rescued))


@pytest.mark.parametrize("span", ["15m", "24h", "30d"])
async def test_the_past_is_that_of_the_chosen_span(gateway, viewer, recorded, span):
    async with connected(live_dashboard(gateway), viewer) as socket:
        await socket.send_to(text_data=span)
        past = await told(socket, "past", lambda past: past["span"] == span)

    assert past["totals"]["requests"] == sum(past["series"]["success"]) == 2
    assert past["totals"]["unpriced"] == 1
    assert past["totals"]["cache"]["hit_rate"] == 50
    assert past["groups"]["m"]["requests"] == 2
    assert {name: one["requests"] for name, one in past["endpoints"].items()} == {"east": 1, "west": 1}
    assert past["endpoints"]["west"]["success_rate"] == 0


async def test_a_rescued_request_is_among_the_failures_with_its_attempts(gateway, viewer, recorded):
    async with connected(live_dashboard(gateway), viewer) as socket:
        [failure] = (await told(socket, "past"))["failures"]

    assert (failure["request_id"], failure["outcome"]) == ("r-2", "success")
    assert [(one["endpoint"], one["cause"]) for one in failure["attempts"]] == [("west", "status 500"), ("east", "")]


async def test_nonsense_from_a_browser_changes_nothing(gateway, viewer):
    async with connected(live_dashboard(gateway), viewer) as socket:
        await socket.send_to(text_data="1 year")
        await socket.send_to(bytes_data=b"\x00")

        assert (await told(socket, "past"))["span"] == "15m"


class AwayHistory(History):
    def totals(self, span, by=""):
        raise OperationalError("gone")


async def test_a_database_that_is_away_is_told(gateway):
    readings = Readings(gateway, AwayHistory())
    watcher = readings.join("24h")
    async with asyncio.timeout(10):
        while '{"away":"24h"}' not in await watcher.next():
            pass
    readings.leave(watcher)


# -- for how long, and at what cost


async def test_ten_browsers_cost_one_reading(gateway):
    readings = Readings(gateway, History())
    watchers = [readings.join("15m") for _ in range(10)]
    texts = {text for watcher in watchers for text in await watcher.next() if "live" in text}

    assert len(texts) == 1
    assert len(gateway.store.trips) == 1
    for watcher in watchers:
        readings.leave(watcher)


async def test_nothing_is_read_when_the_last_browser_has_gone(gateway, viewer):
    application = live_dashboard(gateway)
    async with connected(application, viewer) as first, connected(application, viewer) as second:
        await told(first, "live")
        await told(second, "live")
        assert sorted(tasks()) == ["dashboard", "dashboard", "dashboard readings", "dashboard readings"]
    await asyncio.sleep(0)

    assert tasks() == []


async def test_a_server_that_ends_a_socket_without_a_word_leaves_nothing(gateway, viewer):
    socket = browser(live_dashboard(gateway), viewer)
    await socket.connect(timeout=10)
    await told(socket, "live")
    socket.future.cancel()
    await asyncio.gather(socket.future, return_exceptions=True)
    await asyncio.sleep(0)

    assert tasks() == []
