"""The admin in a real browser: what an operator does on a bad day, and what no page may do."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from routing.mock_upstream import MockUpstream
from tests.e2e.browsing import CHROMIUM, PASSWORD, SECRET, Browsed
from tests.e2e.processes import Process, serve
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.scripted import Behaviour, ScriptedUpstream

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM: the admin was not tried in a browser")

PAGES = (
    *("/", "/routing/modelgroup/", "/routing/modelgroup/1/change/", "/routing/modelgroup/explain/?model=gpt"),
    *("/routing/endpoint/", "/routing/endpoint/1/change/", "/routing/endpoint/2/change/", "/routing/endpoint/add/"),
    *("/routing/generalsettings/1/change/", "/routing/revision/", "/routing/revision/1/change/"),
    *("/routing/revision/1/change/?compare=now", "/routing/revision/1/rollback/", "/routing/revision/import/"),
    *("/routing/revision/drift/", "/auth/user/", "/auth/group/"),
)


@pytest.fixture(scope="module")
def gateway(upstream_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A group with a good endpoint and one that is down, which cools; others whose endpoints are dragged and drained."""
    mock = MockUpstream("good")
    good = upstream_thread.run(mock.start)

    async def start(behaviour: Behaviour) -> ScriptedUpstream:
        scripted = ScriptedUpstream(behaviour)
        await scripted.start()
        return scripted

    down = upstream_thread.run(start, b.status(503, message=f"<script>alert(1)</script> {SECRET}"))
    slow = upstream_thread.run(start, b.honest(interval=0.5))

    def endpoint(name: str, url: str) -> dict[str, object]:
        return {"name": name, "model": "gpt-4o-mini", "params": {"api_key": SECRET, "base_url": url}}

    def group(name: str, *models: dict[str, object]) -> dict[str, object]:
        return {"model_group": name, "models": models}

    mocked = f"http://127.0.0.1:{good}"
    groups = [
        group("gpt", endpoint("good", mocked), endpoint("down", down.url)),
        group("dragged", *(endpoint(name, mocked) for name in ("one", "two", "three"))),
        group("slow", endpoint("slow", slow.url)),
        group("last", endpoint("four", mocked)),
    ]
    text = json.dumps({"model_groups": groups, "general_settings": {"cooldown_time": 300, "cache": False}})
    with serve(tmp_path_factory.mktemp("browser"), text, workers=1, LLMPROXY_ADMIN_PASSWORD=PASSWORD) as process:
        process.wait_ready()
        yield process
        process.terminate()
    for upstream in (mock, down, slow):
        upstream_thread.run(upstream.stop)


def asked(gateway: Process, model: str = "gpt", **more: object):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **more}).encode()
    request = urllib.request.Request(f"{gateway.url}/chat/completions", body, {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=20)


def ask(gateway: Process) -> None:
    with asked(gateway) as answer:
        answer.read()


def endpoints(gateway: Process) -> dict[str, dict[str, dict[str, object]]]:
    """What `/stats` says of all endpoints, by name, in the order in which they serve."""
    return {one["name"]: one for group in gateway.get("/stats")[1]["model_groups"].values() for one in group}


def status(gateway: Process, name: str) -> object:
    return endpoints(gateway)[name]["state"]["status"]


def weight(gateway: Process, name: str) -> object:
    return endpoints(gateway)[name]["config"]["weight"]


def revision(gateway: Process) -> int:
    return gateway.get("/stats")[1]["config_revision"]


def make_it_cool(gateway: Process) -> None:
    def cooling() -> bool:
        ask(gateway)
        return status(gateway, "down") == "cooling_down"

    gateway.wait_for(cooling)


def test_a_weight_edited_in_the_group_is_served_and_rolled_back(browsed: Browsed, gateway: Process):
    before = revision(gateway)
    page = browsed.open("/routing/modelgroup/1/change/")
    page.fill("#id_endpoints-0-weight", "7")
    page.fill("#lp-why-field", "more to the good one")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=was changed successfully")
    gateway.wait_for(lambda: weight(gateway, "good") == 7, 5)

    page = browsed.open(f"/routing/revision/{before + 1}/change/")
    assert "more to the good one" in page.inner_text("#content")
    page = browsed.open(f"/routing/revision/{before}/rollback/")
    page.fill("input[name=message]", "that was too much")
    page.click("button:has-text('Roll back')")
    page.wait_for_selector(f"text=Back to revision {before}, published as revision {before + 2}.")
    gateway.wait_for(lambda: weight(gateway, "good") == 1, 5)


def test_a_tested_endpoint_shows_status_latency_and_model(browsed: Browsed):
    page = browsed.open("/routing/endpoint/1/change/")
    page.click("text=Test endpoint")
    result = page.wait_for_selector(".lp-trial.lp-good").inner_text()

    assert "200" in result and " ms" in result and "gpt-4o-mini" in result


def test_a_failed_test_shows_the_class_of_the_error_only(browsed: Browsed):
    page = browsed.open("/routing/endpoint/2/change/")
    page.click("text=Test endpoint")
    result = page.wait_for_selector(".lp-trial.lp-bad").inner_text()

    assert "status 503" in result and "script" not in result


def test_a_cooldown_counts_down_and_is_ended(browsed: Browsed, gateway: Process):
    make_it_cool(gateway)
    page = browsed.open("/routing/endpoint/2/change/")
    seconds = "parseInt(document.querySelector('.lp-countdown').textContent)"
    page.wait_for_selector(".lp-countdown")
    first = page.evaluate(seconds)
    page.wait_for_function(f"{seconds} < {first - 1}")

    page.click("text=End cooldown")
    page.wait_for_selector("text=Cooldown ended: down.")
    gateway.wait_for(lambda: status(gateway, "down") == "healthy", 5)


def test_the_state_is_refreshed_without_a_reload(browsed: Browsed, gateway: Process):
    page = browsed.open("/routing/endpoint/2/change/")
    page.click("text=End cooldown")
    page.wait_for_selector("text=Cooldown ended: down.")
    page.wait_for_selector("[data-live=down] .lp-healthy")
    make_it_cool(gateway)

    page.wait_for_selector("[data-live=down] .lp-cooling_down")


def test_a_drained_endpoint_counts_down_until_it_is_disabled(browsed: Browsed, gateway: Process):
    page = browsed.open("/routing/endpoint/?q=slow")
    page.click("#result_list a:text-is('slow')")
    with asked(gateway, "slow", stream=True) as stream:
        stream.readline()
        page.click("text=Disable (drain)")
        page.wait_for_selector("text=slow drains: 1 request still runs.")
        assert "1 running" in page.wait_for_selector("[data-live=slow] .lp-draining").inner_text()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            asked(gateway, "slow")
        assert b"[DONE]" in stream.read()

    page.wait_for_selector("[data-live=slow] .lp-disabled")
    page.click("button:has-text('Enable')")
    page.wait_for_selector("text=Enabled slow.")


def test_conflicts_of_an_import_are_decided_one_by_one(browsed: Browsed, gateway: Process):
    before = revision(gateway)
    page = browsed.open("/routing/endpoint/")
    for name in ("two", "three"):
        page.fill(f"#result_list tr:has(a:text-is('{name}')) input[name$=weight]", "5")
    page.click("button[name=_save]")
    page.wait_for_selector("text=2 endpoints were changed successfully.")
    gateway.wait_for(lambda: (revision(gateway), weight(gateway, "two")) == (before + 1, 5), 5)

    file = json.loads((gateway.directory / "config.yaml").read_text())
    for model in file["model_groups"][1]["models"]:
        model["weight"] = 1 if model["name"] == "one" else 9
    page = browsed.open("/routing/revision/import/")
    page.fill("textarea[name=text]", json.dumps(file))
    page.click("text=Show the plan")
    page.click("fieldset:has-text('endpoint two') >> text=Take the file's")
    page.click("fieldset:has-text('endpoint three') >> text=Keep the database's")
    assert SECRET not in page.content()
    page.click("button:has-text('Import')")
    page.wait_for_selector(f"text=as revision {before + 2}.")
    gateway.wait_for(lambda: (weight(gateway, "two"), weight(gateway, "three")) == (9, 5), 5)


# -- dragging


def drag(page, handle: str, onto: str) -> None:
    """With the mouse, in steps as a hand does it, to the upper edge of `onto`."""
    page.locator(onto).evaluate("row => row.scrollIntoView({block: 'center'})")  # not below the bar with the buttons
    start, end = page.locator(handle).bounding_box(), page.locator(onto).bounding_box()
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    for upwards in (12, 8, 4):
        page.mouse.move(end["x"] + end["width"] / 2, end["y"] + upwards, steps=8)
        page.wait_for_timeout(250)  # rows that make way are not dropped on until they have done so
    page.mouse.up()


def assert_moved(browsed: Browsed, gateway: Process, number: int, why: str) -> None:
    """It was this one revision that brought the new order."""
    told = browsed.open(f"/routing/revision/{number}/change/").inner_text("#content")
    assert "MOVED" in told and why in told
    assert revision(gateway) == number


def test_endpoints_dragged_in_their_group_are_served_in_the_new_order(browsed: Browsed, gateway: Process):
    def served() -> list[str]:
        return [name for name in endpoints(gateway) if name in ("one", "two", "three")]

    def shown() -> list[str]:
        return page.eval_on_selector_all(
            "#endpoints-data .original input[name^=endpoints-][name$=name]", "all => all.map(one => one.value)"
        )

    before = revision(gateway)
    page = browsed.open("/routing/modelgroup/2/change/")
    assert shown() == served() == ["one", "two", "three"]
    row = "#endpoints-data tbody:has(input[value={}])"
    drag(page, row.format("three") + " .cursor-move", row.format("one"))
    page.fill("#lp-why-field", "three first")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=was changed successfully")

    assert shown() == ["three", "one", "two"]
    gateway.wait_for(lambda: served() == ["three", "one", "two"], 5)
    assert_moved(browsed, gateway, before + 1, "three first")


def test_a_page_that_another_tab_overtook_is_refused_and_may_then_be_saved(browsed: Browsed, gateway: Process):
    page = browsed.open("/routing/endpoint/7/change/")
    assert page.input_value("#id_name") == "four"
    other = page.context.new_page()
    other.goto(page.url)
    other.fill("#id_weight", "5")
    other.click("button[name=_continue]")
    other.wait_for_selector("text=was changed successfully")
    page.fill("#id_weight", "6")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=Somebody else changed this meanwhile: it is 5 now")
    assert page.input_value("#id_weight") == "6"
    page.click("button[name=_continue]")
    page.wait_for_selector("text=was changed successfully")

    assert page.input_value("#id_weight") == "6"


def test_groups_dragged_in_the_list_are_served_in_the_new_order(browsed: Browsed, gateway: Process):
    def served() -> list[str]:
        return list(gateway.get("/stats")[1]["model_groups"])

    def shown() -> list[str]:
        return page.locator("#result_list .field-name").all_inner_texts()

    before = revision(gateway)
    page = browsed.open("/routing/modelgroup/")
    assert shown() == served() == ["gpt", "dragged", "slow", "last"]
    row = "#result_list tbody:has(a:text-is('{}'))"
    drag(page, row.format("last") + " div.cursor-move", row.format("gpt"))
    page.fill("#lp-why-field", "the last shall be first")
    page.click("button[name=_save]")
    page.wait_for_selector("text=changed successfully")

    assert shown() == ["last", "gpt", "dragged", "slow"]
    gateway.wait_for(lambda: served() == ["last", "gpt", "dragged", "slow"], 5)
    assert_moved(browsed, gateway, before + 1, "the last shall be first")


def test_a_half_typed_reference_for_a_number_is_refused_and_stays_in_its_field(browsed: Browsed, gateway: Process):
    before = revision(gateway)
    page = browsed.open("/routing/endpoint/7/change/")
    page.fill("#id_weight", "os.environ/")
    page.click("button[name=_continue]")
    page.wait_for_selector("text=is not a usable reference: write os.environ/NAME")

    assert (page.input_value("#id_weight"), revision(gateway)) == ("os.environ/", before)


def test_fallbacks_are_typed_line_by_line(browsed: Browsed, gateway: Process):
    before = revision(gateway)
    page = browsed.open("/routing/modelgroup/4/change/")
    for typed in ("slow\ndragged", "dragged\nslow", ""):
        page.fill("#id_fallbacks", typed)
        page.click("button[name=_continue]")
        page.wait_for_selector("text=was changed successfully")
        assert page.input_value("#id_fallbacks") == typed

    gateway.wait_for(lambda: revision(gateway) == before + 3, 5)


def test_on_a_telephone_deleting_stands_below_saving(browsed: Browsed):
    browsed.page.set_viewport_size({"width": 400, "height": 900})
    page = browsed.open("/routing/endpoint/1/change/")
    save, delete = page.locator("button[name=_save]"), page.locator("#submit-row a:has-text('Delete')")

    assert save.bounding_box()["y"] < delete.bounding_box()["y"]


# -- everything


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_is_wider_than_the_window_or_shows_a_secret(browsed: Browsed, width: int, scheme: str):
    browsed.page.set_viewport_size({"width": width, "height": 900})
    browsed.page.emulate_media(color_scheme=scheme)
    for path in PAGES:
        page = browsed.open(path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert SECRET not in page.content(), path
    assert browsed.wrong == []
