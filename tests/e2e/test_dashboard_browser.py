"""The dashboard in a real browser: its numbers, its charts, and what it does when the server goes away."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.processes import Process, manage, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.scripted import ScriptedUpstream

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM: the dashboard was not tried in a browser")

PASSWORD = "a-password-for-the-browser"
SO_FAR = "Number(document.querySelector('[data-so-far=total]').textContent.replace(/\\D/g, ''))"
HAS_PIXELS = """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
                .some((value, index) => index % 4 === 3 && value > 0)"""


@pytest.fixture(scope="module")
def gateway(upstream_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Two groups: of a good endpoint alone, and of one that fails before a good one."""
    mock = MockUpstream("good", latency_ms=20, event_interval_ms=5)
    good = f"http://127.0.0.1:{upstream_thread.run(mock.start)}"

    async def start() -> ScriptedUpstream:
        scripted = ScriptedUpstream(b.status(503, message="<b>the upstream's own words</b>"))
        await scripted.start()
        return scripted

    down = upstream_thread.run(start)

    def endpoint(name: str, url: str, weight: int = 1, **more: object) -> dict[str, object]:
        return {"name": name, "model": "m", "weight": weight, "params": {"api_key": "k", "base_url": url}, **more}

    groups = [
        {"model_group": "steady", "models": [endpoint("alone", good, price={"input": 1, "output": 2})]},
        {"model_group": "shaky", "cache": False, "models": [endpoint("down", down.url), endpoint("spare", good, 0)]},
    ]
    text = json.dumps({"model_groups": groups, "general_settings": {"cooldown_time": 300}})
    with serve(tmp_path_factory.mktemp("dashboard"), text, workers=2, LLMPROXY_ADMIN_PASSWORD=PASSWORD) as process:
        process.wait_ready()
        for question in ("one", "two", "two", "three"):
            ask(process, "steady", question)
        ask(process, "steady", "streamed", stream=True, stream_options={"include_usage": True})
        for _ in range(2):
            ask(process, "shaky", "please")
        with pytest.raises(urllib.error.HTTPError):
            ask(process, "there is no such model", "please")
        yield process
        process.terminate()
    upstream_thread.run(mock.stop)
    upstream_thread.run(down.stop)


def ask(gateway: Process, model: str, question: str, **more: object) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}], **more}).encode()
    asked = urllib.request.Request(f"{gateway.url}/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        answer.read()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(context, root: str, wrong: list[str]):
    """The dashboard, live."""
    context.set_default_timeout(20_000)
    page = context.new_page()
    ours = (root + "/", root.replace("http", "ws") + "/", "data:")
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(ours) else wrong.append(asked.url))
    page.on("websocket", lambda socket: None if socket.url.startswith(ours) else wrong.append(socket.url))
    page.goto(f"{root}/admin/")
    if "/login/" in page.url:
        page.fill("#id_username", "admin")
        page.fill("#id_password", PASSWORD)
        page.press("#id_password", "Enter")
    page.wait_for_selector("#lp-link[data-state=live]")
    return page


@pytest.fixture(scope="module")
def context(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context, gateway: Process):
    """Whatever goes wrong in it fails the test at its end."""
    wrong: list[str] = []
    page = opened(context, gateway.root, wrong)
    yield page
    page.close()
    assert wrong == []


def text(page, selector: str) -> str:
    return page.inner_text(selector).strip()


def figure(page, row: str, name: str) -> str:
    return text(page, f"tr[data-name={row}] [data-figure={name}]")


def test_the_numbers_are_those_of_stats(page, gateway: Process):
    stats = gateway.get("/stats")[1]
    total = stats["requests"]["total"]
    page.wait_for_function(f"{SO_FAR} === {total}")
    page.wait_for_function(f"document.querySelector('.lp-tile [data-figure=requests]').textContent === '{total}'")

    shown = {name: int(text(page, f"[data-so-far={name}]")) for name in stats["requests"]}
    assert shown == stats["requests"]
    for group, endpoints in stats["model_groups"].items():
        for one in endpoints:
            state = one["state"]
            tokens = state["tokens"]["input"] + state["tokens"]["output"]
            assert figure(page, one["name"], "requests") == str(state["total_requests"]), group
            assert figure(page, one["name"], "tokens") == str(tokens)
            rate = state["success_rate"]
            assert figure(page, one["name"], "success") == ("-" if rate is None else f"{rate:g} %" if rate == 100 else f"{rate:.1f} %")  # fmt: skip


def test_costs_are_shown_where_they_are_known(page):
    page.wait_for_function("document.querySelector('tr[data-name=alone] [data-figure=cost]').textContent !== '-'")

    assert figure(page, "alone", "cost").startswith("$0.0")
    assert figure(page, "spare", "cost") == "unknown"
    assert text(page, ".lp-tile [data-figure=cost]").startswith("> $0.0")


def test_a_failure_is_shown_with_its_attempts(page):
    item = page.wait_for_selector(".lp-failure").inner_text()

    assert "shaky" in item and "down" in item and "status 503" in item and "spare" in item and "answered" in item
    assert "own words" not in page.content()
    page.click(".lp-failure .lp-ago")
    assert "shaky" in page.wait_for_selector("#lp-records").inner_text()


def test_a_cooldown_counts_down(page):
    page.wait_for_selector("[data-live=down] .lp-cooling_down")
    seconds = "parseInt(document.querySelector('[data-live=down] .lp-countdown').textContent)"
    first = page.evaluate(seconds)

    page.wait_for_function(f"{seconds} < {first}")


def test_a_request_is_shown_within_two_seconds(page, gateway: Process):
    page.wait_for_function(f"{SO_FAR} > 0")
    before = page.evaluate(SO_FAR)
    ask(gateway, "steady", "how fast are you?")

    page.wait_for_function(f"{SO_FAR} === {before + 1}", timeout=2000)


def test_charts_are_drawn_for_every_span(page):
    for span, name in {"24h": "24 h", "30d": "30 days", "15m": "15 min"}.items():
        page.click(f"button[data-span='{span}']")
        page.wait_for_function(f"document.querySelector('[data-span-name]').textContent === '{name}'")

        assert page.eval_on_selector_all("[data-chart]", f"all => all.map({HAS_PIXELS})") == [True] * 4, span
        assert page.eval_on_selector_all("[data-empty]", "all => all.map(one => one.dataset.empty)") == [""] * 4, span


def test_charts_take_the_colours_of_the_theme(page):
    page.wait_for_function("document.querySelector('[data-empty]')")
    axis = "Chart.getChart(document.querySelector('[data-chart=requests]')).options.scales.x.ticks.color"
    light = page.evaluate(axis)
    page.evaluate("document.documentElement.classList.add('dark')")

    page.wait_for_function(f"{axis} !== '{light}'")


def test_it_is_not_wider_than_the_window(page):
    page.wait_for_selector(".lp-failure")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 900})

            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (scheme, width)


def test_a_changed_configuration_appears_by_itself(page, gateway: Process):
    page.wait_for_selector("tr[data-name=spare]")
    file = gateway.directory / "more.yaml"
    file.write_text(
        json.dumps({"model_groups": [{"model_group": "added", "models": [{"name": "fresh", "model": "m"}]}]})
    )
    done = manage(gateway.directory, "import_config", str(file))
    assert done.returncode == 0, done.stdout + done.stderr

    page.wait_for_selector("tr[data-name=fresh] .lp-badge")


def test_it_recovers_after_the_server_was_restarted(context, tmp_path):
    wrong: list[str] = []
    first = serve(tmp_path, json.dumps({"model_groups": []}), workers=1, LLMPROXY_ADMIN_PASSWORD=PASSWORD)
    with first:
        first.wait_for(lambda: "serves http" in first.output(), 40)
        page = opened(context, first.root, wrong)
        page.evaluate("window.sameDocument = true")
        assert first.terminate() == 0  # a browser that looks on does not keep it from its end
        page.wait_for_selector("#lp-link[data-state=reconnecting]")
    with Process(first.directory, first.arguments, first.port, first.variables):
        page.wait_for_selector("#lp-link[data-state=live]")
        page.wait_for_function(f"{SO_FAR} === 0")

        assert page.evaluate("window.sameDocument")
        assert [line for line in wrong if "net::ERR_" not in line and "WebSocket connection" not in line] == []
