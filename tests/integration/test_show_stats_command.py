"""manage.py show_stats: the store's and the database's numbers, once and again and again."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from llmproxy_site import store as stores
from llmproxy_site.management import stats_reading
from llmproxy_site.management.stats_reading import StatsReader
from llmproxy_site.offline import compiled
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_link import StoreLink
from routing.balancing.board import HealthBoard
from routing.balancing.health import Reason
from routing.balancing.shared_health import SharedHealth
from routing.config.snapshot import load
from routing.config.table import Endpoint as ServedEndpoint
from routing.models import Endpoint, ModelGroup, Revision
from stats.pending import Pending
from stats.record import AttemptRecord, RequestRecord
from stats.record_tables import RecordTables
from stats.recorder import Recorder
from tests.fakes.valkey import Valkey
from tests.integration.records_database import record

pytestmark = pytest.mark.django_db


@pytest.fixture
def use_store(settings) -> Callable[[str], None]:
    """The environment names this one."""

    def use(url: str) -> None:
        settings.LLMPROXY = settings.LLMPROXY.model_copy(update={"redis_url": url})

    return use


@pytest.fixture
def store(valkey: Valkey, use_store) -> StoreAddress:
    asyncio.run(valkey.empty())
    use_store(valkey.address.url)
    return valkey.address


@pytest.fixture(autouse=True)
def groups():
    with transaction.atomic():
        group = ModelGroup.objects.create(name="m")
        for name in ("east", "west"):
            Endpoint.objects.create(group=group, name=name, model="gpt", api_key="os.environ/PATH")


def served(name: str) -> ServedEndpoint:
    return next(endpoint for endpoint in compiled(load()).endpoints.values() if endpoint.name == name)


def count(address: StoreAddress, endpoint: ServedEndpoint, **outcomes: int) -> None:
    """So many requests, of one attempt each, in the counters that workers share."""

    async def tell() -> None:
        link = StoreLink(address, reply_timeout_s=10)
        recorder = Recorder(link)
        for outcome, number in outcomes.items():
            for _ in range(number):
                recorder.attempt_ended(AttemptRecord("", endpoint.id, outcome, "status 500", 500, 0.0, 100.0), 1, 2)
                recorder.request_ended(outcome)
        await recorder.flush()
        await link.aclose()

    asyncio.run(tell())


def cool(address: StoreAddress, endpoint: ServedEndpoint) -> None:
    async def tell() -> None:
        link, board = StoreLink(address, reply_timeout_s=10), HealthBoard()
        board.announcer = health = SharedHealth(board, link)
        telling = asyncio.ensure_future(health.run(lambda: [endpoint.id]))
        board.cool(endpoint, 300, Reason.FAILURE)
        while await link.run(("EXISTS", f"llmproxy:health:cooldown:{endpoint.id}")) != [1]:
            pass
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await link.aclose()

    asyncio.run(tell())


def write(*records: RequestRecord) -> None:
    pending = Pending()
    for one in records:
        pending.add(one)
    RecordTables().write("w", pending.take())


def shown(*options: str) -> str:
    out = io.StringIO()
    call_command("show_stats", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def told(*options: str) -> dict[str, Any]:
    return json.loads(shown("--json", *options))


def test_live_numbers_are_those_of_all_workers_in_the_shape_of_stats(store):
    count(store, served("east"), success=3, failure=1)
    count(store, served("west"), rejected=2)
    live = told()["live"]
    assert live["requests"] | {"cache_hits": 0} == {
        "total": 6, "succeeded": 3, "failed": 1, "rejected": 2, "cancelled": 0, "cache_hits": 0,
    }  # fmt: skip
    east, west = live["model_groups"]["m"]
    assert set(east) == {"id", "name", "config", "state"}
    assert (east["state"]["total_requests"], east["state"]["success_rate"]) == (4, 75.0)
    assert (west["state"]["rejected_requests"], west["state"]["last_error"]) == (2, None)
    assert east["state"]["consecutive_failures"] is None


def test_a_cooldown_is_shown_with_what_is_left_of_it(store):
    cool(store, served("west"))
    east, west = told()["live"]["model_groups"]["m"]
    assert (east["state"]["status"], west["state"]["status"]) == ("healthy", "cooling_down")
    assert "cooling down, " in shown()


def test_the_past_is_what_the_database_says(store):
    now = time.time()
    write(record(at=now, cost_nano_usd=None), record(at=now - 3600, cost_nano_usd=2_000_000_000))
    day, quarter = told()["past"], told("--span", "15m")["past"]
    assert (day["span"], day["requests"]["requests"], day["requests"]["cost_usd"]) == ("24h", 2, 2.0)
    assert (quarter["span"], quarter["requests"]["requests"], quarter["requests"]["cost_usd"]) == ("15m", 1, None)
    assert day["model_groups"]["m"]["requests"] == day["endpoints"]["east"]["requests"] == 2
    assert told("--span", "30d")["past"]["requests"]["requests"] == 2


def test_a_page_for_people_has_it_all_and_no_colours(store):
    count(store, served("east"), success=3)
    write(record(at=time.time(), cost_nano_usd=None))
    page = shown()
    assert "\x1b" not in page and "─" not in page
    lines = [line.split() for line in page.splitlines()]
    assert any(line[:3] == ["east", "m", "healthy"] and "unknown" in line for line in lines)
    assert "Since the counters began: 3 requests" in page


def test_a_store_that_is_away_is_told_and_the_rest_is_shown(use_store, tmp_path):
    use_store(f"unix://{tmp_path}/nobody")
    write(record(at=time.time()))
    everything = told()
    assert everything["live"] is None
    assert "does not answer" in everything["live_missing"] and "Is the gateway running?" in everything["live_missing"]
    assert everything["past"]["requests"]["requests"] == 1


def test_where_the_gateway_keeps_its_numbers_to_itself_it_must_be_asked(monkeypatch):
    monkeypatch.setattr(stores, "embedded_binary", lambda: None)
    assert "GET /stats" in told()["live_missing"]


def test_a_store_that_comes_and_goes_is_followed(use_store, tmp_path):
    path = tmp_path / "s"
    use_store(f"unix://{path}")
    with asyncio.Runner() as runner:
        reader = StatsReader(runner, "15m")

        def follow(live: bool) -> None:
            until = time.monotonic() + 20
            while (reader.read().live is not None) is not live:
                assert time.monotonic() < until
                reader.wait(0.1)

        follow(False)
        for _ in range(2):
            with Valkey() as valkey:
                path.symlink_to(valkey.address.url.removeprefix("unix://"))
                follow(True)
            path.unlink()
            follow(False)
        reader.close()


@pytest.fixture
def rounds(monkeypatch) -> Callable[[int], None]:
    """Ctrl-C comes in that round."""

    def limit(most: int) -> None:
        waits = iter(range(most - 1))

        def wait(reader: StatsReader, seconds: float) -> None:
            if next(waits, None) is None:
                raise KeyboardInterrupt

        monkeypatch.setattr(StatsReader, "wait", wait)

    return limit


def test_watched_as_json_there_is_a_line_each_time(store, rounds):
    rounds(3)
    lines = shown("--watch", "--json").splitlines()
    assert [json.loads(line)["past"]["span"] for line in lines] == ["24h"] * 3


def test_watched_through_a_pipe_the_pages_follow_each_other(store, rounds):
    rounds(2)
    page = shown("--watch", "1")
    assert page.count("Requests, last 24h") == 2
    assert "\x1b" not in page


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_watched_on_a_terminal_it_draws_in_place_and_gives_the_cursor_back(store, rounds, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    rounds(2)
    out = Terminal()
    call_command("show_stats", "--watch", stdout=out)
    assert "\x1b[1A" in out.getvalue()
    assert out.getvalue().endswith("\x1b[?25h")


def test_watched_a_database_that_goes_away_is_told_and_asked_again(store, rounds, monkeypatch):
    rounds(3)
    answers = iter([stats_reading.published_table, None, stats_reading.published_table])

    def published() -> Any:
        answer = next(answers)
        if answer is None:
            raise CommandError("The database cannot be used (gone).")
        return answer()

    monkeypatch.setattr(stats_reading, "published_table", published)
    out, err = io.StringIO(), io.StringIO()
    call_command("show_stats", "--watch", "--json", stdout=out, stderr=err)
    assert len(out.getvalue().splitlines()) == 2
    assert err.getvalue() == "The database cannot be used (gone).\n"


@pytest.mark.parametrize("seconds", ["0", "nan", "often", "1e9"])
def test_an_interval_that_cannot_be_meant_is_refused(seconds):
    with pytest.raises(CommandError, match="write seconds, from"):
        call_command("show_stats", "--watch", seconds)


def test_a_configuration_that_cannot_be_served_is_told(store):
    Revision.objects.create(number=99, author="a", source="sql", digest="d", snapshot={"model_groups": "nonsense"})
    with pytest.raises(CommandError, match="published configuration is not valid"):
        shown()
