"""/metrics of any worker tells the same truth about all of them, and the same as /stats."""

import asyncio
from typing import Any

import pytest

from stats.metrics_series import MOST_STALE
from stats.recorder import METRICS
from tests.fakes import behaviours as b
from tests.fakes.load import Client, load
from tests.fakes.scripted import RecordedRequest
from tests.fakes.valkey import Valkey
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.in_process import Gateway, configuration
from tests.unit.stats.test_metrics import Samples, samples, value


async def scrape(proxy: Gateway) -> Samples:
    got = await proxy.get("/metrics")
    assert got.status == 200, got.body
    return samples(got.body)


def total(found: Samples, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(count for (one, told), count in found.items() if one == name and wanted <= told)


@pytest.fixture
async def worked(upstreams: StartUpstreams, gateway: StartGateway) -> list[Gateway]:
    """Two workers after requests of every kind."""
    mixed, good = await upstreams(2)
    kinds = [b.honest(), b.status(400), b.status(500), b.honest()]

    def choose(request: RecordedRequest) -> b.Behaviour:
        return kinds[request.number % 4]

    mixed.always = choose
    settings: dict[str, Any] = {"general": {"allowed_fails": 10_000, "cache": True}}
    proxies = [await gateway(mixed, good, **settings) for _ in range(2)]
    for proxy in proxies:
        await load(proxy.url, 30, clients=5)
        for stream in (False, True):
            for _ in range(2):
                await proxy.ask(stream=stream, nonce="the-same-each-time")
            await proxy.ask(model="unheard-of", stream=stream)
    await told_to_the_store(proxies)
    return proxies


async def told_to_the_store(proxies: list[Gateway]) -> None:
    """What each does by itself five times a second."""
    for proxy in proxies:
        await proxy.parts.recorder.flush()


async def test_every_worker_tells_the_same(worked: list[Gateway]) -> None:
    one, other = [await scrape(proxy) for proxy in worked]
    assert one == other
    assert one["llmproxy_store_up", frozenset()] == 1


async def test_the_numbers_are_those_of_stats(worked: list[Gateway]) -> None:
    found = await scrape(worked[0])
    stats = (await worked[1].get("/stats")).json
    requests, cache = stats["requests"], stats["cache"]
    assert total(found, "llmproxy_requests_total") == requests["total"] == 72
    assert total(found, "llmproxy_request_duration_seconds_count") == requests["total"]
    for outcome, name in (("success", "succeeded"), ("failure", "failed"), ("rejected", "rejected")):
        assert total(found, "llmproxy_request_outcomes_total", outcome=outcome) == requests[name]
    for endpoint in stats["model_groups"]["m"]:
        for outcome, name in (("success", "successful"), ("failure", "failed"), ("rejected", "rejected")):
            told = total(found, "llmproxy_upstream_attempts_total", endpoint=endpoint["name"], outcome=outcome)
            assert told == endpoint["state"][f"{name}_requests"]
        tokens = total(found, "llmproxy_tokens_total", endpoint=endpoint["name"], direction="output")
        assert tokens == endpoint["state"]["tokens"]["output"]
    told = {result: value(found, "llmproxy_cache_requests_total", result=result) for result in ("hit", "miss")}
    assert told == {"hit": cache["hits"], "miss": cache["misses"]}
    assert total(found, "llmproxy_requests_total", cache="hit") == requests["cache_hits"] > 0
    assert value(found, "llmproxy_cache_written_bytes_total") == cache["bytes_written"] > 0


async def test_a_model_that_does_not_exist_gets_no_label(worked: list[Gateway]) -> None:
    found = await scrape(worked[0])
    groups = {dict(labels)["model_group"] for name, labels in found if name == "llmproxy_requests_total"}
    assert groups == {"", "m"}
    assert total(found, "llmproxy_requests_total", model_group="", status_class="4xx") == 4


async def test_what_a_worker_counted_outlives_it(upstreams: StartUpstreams, gateway: StartGateway, store: Any) -> None:
    (upstream,) = await upstreams(1)
    first = await Gateway.start(configuration(upstream), store)
    await first.ask()
    await first.stop()
    assert total(await scrape(await gateway(upstream)), "llmproxy_requests_total") == 1


async def test_with_the_store_away_no_worker_tells_counts_that_are_only_its_own(upstreams: StartUpstreams) -> None:
    """To Prometheus a counter that becomes smaller has begun anew."""
    (upstream,) = await upstreams(1)
    with Valkey() as own:
        proxies = [await Gateway.start(configuration(upstream), own.address) for _ in range(2)]
        for proxy in proxies:
            await proxy.ask()
        await told_to_the_store(proxies)
        assert total(await scrape(proxies[0]), "llmproxy_requests_total") == 2
        own.process.kill()
        own.process.wait()
        for proxy in proxies:
            await proxy.ask()
            found = await scrape(proxy)
            assert found["llmproxy_store_up", frozenset()] == 0
            assert found["llmproxy_config_revision", frozenset()] == 1
            assert not [name for name, _ in found if name.endswith(("_total", "_bucket", "_sum", "_count"))]
        await asyncio.gather(*(proxy.stop() for proxy in proxies))


async def test_a_batch_that_was_sent_twice_counts_once(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    link, sent = proxy.parts.store, 0
    run = link.run

    async def lose_the_reply(*commands: Any, **options: Any) -> list[Any]:
        nonlocal sent
        replies = await run(*commands, **options)
        if commands[0][0] == "EVAL" and (sent := sent + 1) == 1:
            raise ConnectionError
        return replies

    link.run = lose_the_reply  # type: ignore[method-assign]
    await proxy.ask()
    while sent < 2:
        await scrape(proxy)
    found = await scrape(proxy)
    assert total(found, "llmproxy_requests_total") == total(found, "llmproxy_upstream_attempts_total") == 1


JUNK = [
    ("HSET", METRICS, "not ours", "1", '["requests"]', "x", '["attempts","a","success"]', "x", b"\xff\xfe", b"\xff"),
    ("SET", METRICS, "a string"),
    ("HSET", "llmproxy:stats:requests", "success", "x"),
    ("SADD", "llmproxy:stats:cache", "a set"),
    ("HSET", "llmproxy:stats:cache", "hit:process", "9" * 5000, "bypassed:\n", "1", "miss", "-1"),
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: f"{junk[0]}-{junk[1].rpartition(':')[2]}")
async def test_what_is_not_ours_in_the_store_makes_way(
    upstreams: StartUpstreams, gateway: StartGateway, junk: tuple[Any, ...]
) -> None:
    proxy = await gateway(*await upstreams(1))
    await proxy.parts.store.run(junk)
    await proxy.ask()
    found = await scrape(proxy)
    assert found["llmproxy_store_up", frozenset()] == 1
    assert total(found, "llmproxy_requests_total") == total(found, "llmproxy_upstream_attempts_total") == 1
    assert total(found, "llmproxy_request_outcomes_total") == 1


async def test_names_that_are_gone_do_not_pile_up(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    gone = [word for number in range(MOST_STALE + 1) for word in (f'["attempts","gone-{number}","success"]', 1)]
    await proxy.parts.store.run(("HSET", METRICS, *gone))
    await proxy.ask()
    for _ in range(2):
        assert total(await scrape(proxy), "llmproxy_upstream_attempts_total") == 1
    assert (await proxy.parts.store.run(("HLEN", METRICS)))[0] < 50


async def test_openmetrics_is_told_to_whom_asks(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with Client(proxy.root) as client:
        got = await client.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        plain = await client.get("/metrics")
    assert got.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert got.body.endswith(b"# EOF\n")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_a_foreign_host_is_refused_as_for_stats(upstreams: StartUpstreams, gateway: StartGateway) -> None:
    proxy = await gateway(*await upstreams(1))
    async with Client(proxy.root) as client:
        statuses = [(await client.get(path, {"Host": "evil.example"})).status for path in ("/metrics", "/stats")]
    assert statuses == [403, 403]
