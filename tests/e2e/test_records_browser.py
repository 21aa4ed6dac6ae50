"""Requests in a real browser: found, looked into and taken away as CSV."""

import csv
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.browsing import CHROMIUM, PASSWORD, SECRET, Browsed, logged_in
from tests.e2e.processes import Process, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.scripted import ScriptedUpstream

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM: the records were not tried in a browser")

LIST = "/stats/recordedrequest/"
ROWS = "#lp-records tbody tr"
PLANTED = "planted in the body"


@pytest.fixture(scope="module")
def gateway(upstream_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """After some traffic: rescued, streamed, kept, refused and failed requests."""
    mock = MockUpstream("good", latency_ms=30)
    good = f"http://127.0.0.1:{upstream_thread.run(mock.start)}"

    async def start() -> ScriptedUpstream:
        scripted = ScriptedUpstream(b.status(503, message=f"<script>alert(1)</script> {SECRET}", delay=0.02))
        await scripted.start()
        return scripted

    down = upstream_thread.run(start)

    def endpoint(name: str, url: str, **more: object) -> dict[str, object]:
        return {"name": name, "model": "m", "params": {"api_key": SECRET, "base_url": url}, **more}

    groups = [
        {"model_group": "shaky", "models": [endpoint("down", down.url), endpoint("spare", good, weight=0)]},
        {"model_group": "steady", "models": [endpoint("good", good), endpoint("off", good, enabled=False)]},
        {"model_group": "broken", "models": [endpoint("gone", down.url)]},
    ]
    text = json.dumps({"model_groups": groups, "general_settings": {"num_retries": 1, "cooldown_time": 300}})
    with serve(tmp_path_factory.mktemp("records"), text, workers=1, LLMPROXY_ADMIN_PASSWORD=PASSWORD) as process:
        process.wait_ready()
        ask(process, "shaky", "rescued")
        ask(process, "steady", "streamed", stream=True)
        ask(process, "steady", "asked")
        ask(process, "steady", "kept")
        ask(process, "nothing", "refused")
        ask(process, "broken", "=failed")
        for number in range(60):
            ask(process, "steady", f"more-{number}")
        yield process
        process.terminate()
    upstream_thread.run(mock.stop)
    upstream_thread.run(down.stop)


def ask(gateway: Process, model: str, name: str, **more: object) -> None:
    """name: of the request."""
    body = {"model": model, "messages": [{"role": "user", "content": PLANTED}], **more}
    headers = {"content-type": "application/json", "x-request-id": name, "authorization": f"Bearer {SECRET}"}
    asked = urllib.request.Request(f"{gateway.url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()


@pytest.fixture(scope="module")
def visit(chromium, gateway: Process) -> Iterator[Browsed]:
    """One login for all: it takes longer than what is done then."""
    with logged_in(chromium, gateway.root) as browsed:
        page = browsed.open(LIST)
        for _ in range(100):
            if page.locator(ROWS).count() == 50 and "more-59" in ids(page):
                break
            page.wait_for_timeout(100)  # records are written once a second
            page.reload()
        yield browsed


@pytest.fixture
def listed(visit: Browsed) -> Iterator[Browsed]:
    """The list, with all that was asked."""
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    visit.open(LIST)
    yield visit
    assert visit.wrong == []


def ids(page) -> list[str]:
    return [code.get_attribute("title") for code in page.query_selector_all(f"{ROWS} code")]


def test_the_sidebar_leads_to_the_newest(listed: Browsed):
    page = listed.open("/")
    page.click("text=Requests >> nth=0")
    page.wait_for_selector("#lp-records")
    assert ids(page)[:2] == ["more-59", "more-58"]


def test_the_form_finds_one_request(listed: Browsed):
    page = listed.page
    page.fill("#id_id", "rescued")
    page.click("button:has-text('Find')")
    page.wait_for_url("**id=rescued**")

    assert ids(page) == ["rescued"]
    row = page.inner_text(ROWS)
    assert "shaky" in row and "spare" in row and "unknown" in row and "$0" not in row


def test_filters_go_together(listed: Browsed):
    page = listed.page
    page.select_option("#id_outcome", "troubled")
    page.click("summary")
    page.select_option("#id_tried", "down")
    page.click("button:has-text('Find')")
    page.wait_for_url("**tried=down**")
    assert ids(page) == ["rescued"]

    page.click("text=Reset")
    page.click("nav >> text=Failed or rescued")
    page.wait_for_url("**outcome=troubled**")
    assert ids(page) == ["=failed", "rescued"]


def test_older_ones_are_on_the_next_page(listed: Browsed):
    page = listed.page
    first = ids(page)
    page.click("text=Older")
    page.wait_for_url("**after=**")
    second = ids(page)
    assert (len(first), first[-1], second[0], second[-1]) == (50, "more-10", "more-9", "rescued")

    page.click("text=Newest")
    page.wait_for_selector("text=Older")
    assert ids(page) == first


def test_the_trail_shows_who_was_asked_and_who_was_not(listed: Browsed):
    page = listed.open(f"{LIST}?id=rescued")
    page.click(f"{ROWS} >> nth=0")  # anywhere in the row
    page.wait_for_selector(".lp-timeline")
    told = page.inner_text(".lp-timeline")
    first, second = (bar.bounding_box() for bar in page.query_selector_all(".lp-track i"))

    assert "asked next, because down gave: status 503" in told
    assert first["x"] + first["width"] <= second["x"] + 2
    assert min(first["width"], second["width"]) >= 3
    assert PLANTED not in page.content()

    page = listed.open(f"{LIST}?id=asked")
    page.click(f"{ROWS} >> nth=0")
    assert "disabled in revision 1" in page.inner_text("section:has-text('Explain')")


def test_the_csv_has_what_is_listed(listed: Browsed, tmp_path: Path):
    page = listed.open(f"{LIST}?outcome=troubled")
    with page.expect_download() as started:
        page.click("text=CSV")
    started.value.save_as(tmp_path / "requests.csv")
    with (tmp_path / "requests.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))

    assert started.value.suggested_filename.endswith(".csv")
    assert [(line["request_id"], line["attempts"], line["endpoint"]) for line in lines] == [
        ("'=failed", "2", "gone"),
        ("rescued", "2", "spare"),
    ]
    assert SECRET not in (tmp_path / "requests.csv").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_is_wider_than_the_window(listed: Browsed, width: int, scheme: str):
    page = listed.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for path in (LIST, f"{LIST}?tried=down&slower=0.001", f"{LIST}?status=9", f"{LIST}1/change/", f"{LIST}2/change/"):
        page = listed.open(path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        clipped = "[...document.querySelectorAll('.lp-facts dd, .lp-field, .lp-records td')].filter(one => one.scrollWidth > one.clientWidth + 1)"
        assert page.evaluate(f"{clipped}.map(one => one.textContent)") == [], path
