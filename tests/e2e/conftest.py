"""Gateways as processes: `manage.py serve` with two workers and `manage.py runserver`, in front of the same upstreams."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.browsing import CHROMIUM, Browsed, logged_in
from tests.e2e.processes import Process, runserver, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.scripted import Behaviour, RecordedRequest, ScriptedUpstream

# Groups of one scripted endpoint each; the name of the group says how the upstream answers, so that tests stay apart.
SCRIPTED: dict[str, Behaviour] = {
    "bad-request": b.status(400, code="bad_thing", message="the upstream's own words"),
    "too-long": b.status(400, code="context_length_exceeded"),
    "unprocessable": b.status(422),
    "conflict": b.status(409),
    "rate-limited": b.rate_limited("retry-after: 30"),
    "unauthorized": b.status(401),
    "broken": b.status(500),
    "unavailable": b.status(503, "retry-after: 30"),
    "reset": b.reset_before_head,
    "slow-stream": b.honest(interval=0.2),
    "cut-stream": b.interrupted(4),
}


@dataclass
class Site:
    """Gateways and upstreams of the whole session."""

    text: str
    scripted: ScriptedUpstream
    mocks: list[MockUpstream]

    def asked(self, model: str) -> list[RecordedRequest]:
        """The requests that the scripted upstream got for this group."""
        return [one for one in self.scripted.requests if one.body and one.json["model"] == model]


@pytest.fixture(scope="session")
def upstream_thread() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="session")
def site(upstream_thread: LoopThread) -> Iterator[Site]:
    mocks = [MockUpstream(name) for name in ("mock-a", "mock-b")]
    ports = [upstream_thread.run(mock.start) for mock in mocks]

    async def start_scripted() -> ScriptedUpstream:
        unknown = b.status(404, message="Response not found.")
        scripted = ScriptedUpstream(lambda request: SCRIPTED[request.json["model"]] if request.body else unknown)
        await scripted.start()
        return scripted

    scripted = upstream_thread.run(start_scripted)
    models = [
        {"name": mock.name, "model": "gpt-4o-mini", "params": {"api_key": "k", "base_url": f"http://127.0.0.1:{port}"}}
        for mock, port in zip(mocks, ports, strict=True)
    ]
    groups = [{"model_group": "gpt-4o-mini", "models": models}]
    for name in SCRIPTED:
        params = {"api_key": "sk-scripted", "base_url": scripted.url}
        groups.append({"model_group": name, "models": [{"name": f"e-{name}", "model": name, "params": params}]})
    general = {"num_retries": 2, "cooldown_time": 2, "connect_timeout": 1, "idle_timeout": 5, "cache": False}
    yield Site(json.dumps({"model_groups": groups, "general_settings": general}), scripted, mocks)
    for upstream in (*mocks, scripted):
        upstream_thread.run(upstream.stop)


@pytest.fixture(scope="session", params=["serve", "runserver"])
def server(request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    start = {"serve": serve, "runserver": runserver}[request.param]
    with start(tmp_path_factory.mktemp(request.param), site.text) as process:
        process.wait_ready()
        yield process
        code = process.terminate()
        # Daphne knows no orderly end on SIGTERM.
        assert request.param == "runserver" or code == 0, process.output()
        assert "Traceback" not in process.output(), process.output()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browsed(chromium, gateway: Process) -> Iterator[Browsed]:
    """Logged in to the module's own gateway."""
    with logged_in(chromium, gateway.root) as browsed:
        yield browsed
