"""/stats and /health tell exactly what happened."""

import asyncio
from typing import Any

from stats.record import RequestRecord
from stats.rollups import Cell, Cells, count_in, total
from tests.fakes import behaviours as b
from tests.fakes.load import Client, Got, load
from tests.fakes.nonce import chat_body, new_nonce
from tests.fakes.scripted import RecordedRequest
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway


async def stats(proxy: Gateway) -> dict[str, Any]:
    got = await proxy.get("/stats")
    assert got.status == 200, got.body
    told: dict[str, Any] = got.json
    requests = told["requests"]
    parts = ("succeeded", "failed", "rejected", "cancelled")
    assert requests["total"] == sum(requests[part] for part in parts), requests
    for group in told["model_groups"].values():
        for endpoint in group:
            state = endpoint["state"]
            parts = ("successful", "failed", "rejected", "cancelled")
            assert state["total_requests"] == sum(state[f"{part}_requests"] for part in parts), state
    return told


async def test_the_shape(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(2))
    await proxy.ask()
    told = await stats(proxy)
    assert set(told) == {
        "timestamp",
        "config_revision",
        "total_model_groups",
        "total_endpoints",
        "requests",
        "model_groups",
        "cache",
    }
    assert (told["total_model_groups"], told["total_endpoints"], told["timestamp"][-1]) == (1, 2, "Z")
    assert set(told["requests"]) == {"total", "succeeded", "failed", "rejected", "cancelled", "cache_hits"}
    assert set(told["cache"]) >= {"hits", "misses", "bypassed", "entries_written"}
    first = told["model_groups"]["m"][0]
    assert set(first) == {"id", "name", "config", "state"}
    assert set(first["config"]) == {"model", "weight", "base_url", "provider", "allowed_fails"}
    assert set(first["state"]) == {
        "status",
        "total_requests",
        "successful_requests",
        "failed_requests",
        "rejected_requests",
        "cancelled_requests",
        "success_rate",
        "in_flight",
        "consecutive_failures",
        "last_error",
        "last_error_time",
        "last_success_time",
        "cooldown_until",
        "latency_ms",
        "tokens",
    }
    assert set(first["state"]["latency_ms"]) == {"p50", "p95"}


async def test_attempts_and_requests_are_counted_apart(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    bad.always = b.status(500)
    proxy = await gateway(bad, good, group={"allowed_fails": 100})
    for stream in (False, True):
        for _ in range(4):
            assert (await proxy.ask(stream=stream)).verdict is None
    told = await stats(proxy)
    assert told["requests"] | {"cache_hits": 0} == {
        "total": 8,
        "succeeded": 8,
        "failed": 0,
        "rejected": 0,
        "cancelled": 0,
        "cache_hits": 0,
    }
    first, second = (endpoint["state"] for endpoint in told["model_groups"]["m"])
    assert (first["failed_requests"], second["successful_requests"]) == (len(bad.requests), 8)
    assert (first["success_rate"], second["success_rate"]) == (0.0, 100.0)
    assert first["last_error"]
    assert "500" in first["last_error"]


async def test_every_kind_of_end_under_load(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (mixed,) = await upstreams(1)
    kinds = [b.honest(), b.status(400), b.status(500), b.interrupted(3)]

    def choose(request: RecordedRequest) -> b.Behaviour:
        kind = kinds[request.number % 4]
        return b.honest() if kind is kinds[3] and not request.stream else kind

    mixed.always = choose
    proxy = await gateway(mixed, group={"allowed_fails": 10_000})
    result = await load(proxy.url, 100, clients=10)
    told = await stats(proxy)
    state = told["model_groups"]["m"][0]["state"]
    assert (told["requests"]["total"], result.done) == (100, 100)
    assert state["total_requests"] == len(mixed.requests)
    assert told["requests"]["succeeded"] == 100 - sum(result.failures.values())


async def test_an_attempt_that_outlives_who_asked_for_it_is_in_the_sums(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    """The client whose request made it leaves amid the stream; another one gets the rest."""
    (slow,) = await upstreams(1)
    slow.always = b.honest(interval=0.05)
    proxy = await gateway(slow, general={"cache": True})
    sums = Sums()
    proxy.parts.entrance.records.also(sums)
    body = chat_body(new_nonce(), stream=True, size=50, stream_options={"include_usage": True})
    async with proxy.client() as leader, proxy.client() as follower:
        for client in (leader, follower):
            await client.start("POST", "/chat/completions", body)
            assert (await client.head()).status == 200
        leader.close()
        await follower.piece(got := Got(200, {"transfer-encoding": "chunked"}, b""))
        assert (await follower.finish(got)).data[-1] == "[DONE]"
    told = await stats(proxy)
    assert told["requests"] == {"total": 2, "succeeded": 1, "failed": 0, "rejected": 0, "cancelled": 1, "cache_hits": 1}
    state, cell = told["model_groups"]["m"][0]["state"], sums.of("a")
    assert (state["total_requests"], state["tokens"]) == (len(slow.requests), {"input": 7, "output": 50})
    assert (cell.success, cell.input_tokens, cell.output_tokens) == (1, 7, 50)
    assert sums.of("").saved_tokens == 0


class Sums:
    """As they would go to the database."""

    def __init__(self) -> None:
        self._cells: Cells = {}

    def add(self, record: RequestRecord) -> None:
        count_in(self._cells, record, True)

    def of(self, endpoint: str) -> Cell:
        return total(cell for key, cell in self._cells.items() if key.endpoint == endpoint)


async def test_tokens_come_from_the_upstreams_usage(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    await proxy.ask(size=120)
    await proxy.ask(stream=True, size=120, stream_options={"include_usage": True})
    assert (await proxy.endpoint("a"))["tokens"] == {"input": 14, "output": 240}


async def test_a_request_in_flight_is_shown(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    (slow,) = await upstreams(1)
    slow.always = b.honest(delay=0.8)
    proxy = await gateway(slow)
    waiting = asyncio.ensure_future(proxy.ask())
    await slow.wait_for_requests(1)
    await asyncio.sleep(0.3)
    assert (await proxy.endpoint("a"))["in_flight"] == 1
    assert (await waiting).verdict is None
    await asyncio.sleep(0.3)
    assert (await proxy.endpoint("a"))["in_flight"] == 0


async def test_refused_requests_count_as_rejected(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with Client(proxy.url) as client:
        await client.post("/chat/completions", b"{", {"content-type": "application/json"})
        await client.post("/chat/completions", chat_body(new_nonce(), model="none"))
    told = await stats(proxy)
    assert (told["requests"]["total"], told["requests"]["rejected"]) == (2, 2)
    assert told["model_groups"]["m"][0]["state"]["total_requests"] == 0


async def test_no_secret_and_no_upstream_text_in_stats(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    bad.always = b.status(500, message=b.SECRET_TEXT)
    proxy = await gateway(bad, good)
    await proxy.ask()
    got = await proxy.get("/stats")
    assert b.SECRET_TEXT.encode() not in got.body
    assert b"sk-key-of" not in got.body


async def test_health(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    bad, good = await upstreams(2)
    proxy = await gateway(bad, good)
    told = (await proxy.get("/health")).json
    assert set(told) == {
        "status",
        "timestamp",
        "version",
        "redis_connected",
        "state_sharing_enabled",
        "endpoints_configured",
        "endpoints_available",
        "model_groups",
        "config_revision",
    }
    assert (told["endpoints_configured"], told["endpoints_available"], told["model_groups"]) == (2, 2, ["m"])
    bad.always = good.always = b.status(503)
    for _ in range(5):
        await proxy.ask()
    told = await proxy.get("/health")
    assert (told.status, told.json["status"], told.json["endpoints_available"]) == (200, "degraded", 0)


async def test_live_and_ready(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    assert [(await proxy.get(path)).status for path in ("/health/live", "/health/ready")] == [200, 200]


async def test_not_ready_without_configuration(gateway: StartGateway) -> None:
    proxy = await gateway(text="model_groups: []")
    assert [(await proxy.get(path)).status for path in ("/health/live", "/health/ready")] == [200, 503]
