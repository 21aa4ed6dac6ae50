"""manage.py test_endpoints: every endpoint is asked for real, and told apart."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from routing import trial
from routing.models import Endpoint, ModelGroup
from tests.e2e.upstreams import LoopThread
from tests.fakes import behaviours as b
from tests.fakes.scripted import ScriptedUpstream

pytestmark = pytest.mark.django_db
ANSWER = b'{"object": "chat.completion", "model": "gpt-2024 sk-of-good"}'
KINDS = {"good": b.body(200, ANSWER), "failing": b.status(500, message=b.SECRET_TEXT), "off": b.body(200, ANSWER)}


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    with LoopThread() as running:
        yield running


@pytest.fixture(scope="module")
def upstream(thread: LoopThread) -> Iterator[ScriptedUpstream]:
    """Answers as the model's name says."""

    async def start() -> ScriptedUpstream:
        fresh = ScriptedUpstream(lambda request: KINDS[request.json["model"]])
        await fresh.start()
        return fresh

    started = thread.run(start)
    yield started
    thread.run(started.stop)


@pytest.fixture(autouse=True)
def groups(upstream: ScriptedUpstream):
    upstream.requests.clear()
    places = {"good": upstream.url, "failing": upstream.url, "off": upstream.url, "gone": "http://127.0.0.1:1/v1"}
    with transaction.atomic():
        for group, names in {"m": ("good", "failing"), "n": ("off", "gone")}.items():
            row = ModelGroup.objects.create(name=group)
            for name in names:
                Endpoint.objects.create(
                    group=row,
                    name=name,
                    model=name,
                    base_url=places[name],
                    api_key=f"sk-of-{name}",
                    enabled=name != "off",
                )


def output_of(*options: str) -> tuple[str, str]:
    """Output, and the failure that was told."""
    out, failure = io.StringIO(), ""
    try:
        call_command("test_endpoints", *options, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        assert error.returncode == 1
        failure = str(error)
    return out.getvalue(), failure


def told(*options: str) -> dict[str, dict[str, Any]]:
    out, _ = output_of("--json", *options)
    return {one["endpoint"]: one for one in json.loads(out)["endpoints"]}


def test_every_endpoint_is_asked_once_and_told_apart(upstream):
    found = told()
    assert {name: (one["ok"], one["status"], one["error"]) for name, one in found.items()} == {
        "good": (True, 200, ""),
        "failing": (False, 500, "status 500"),
        "off": (True, 200, ""),
        "gone": (False, None, "connection refused"),
    }
    assert sorted(one.json["model"] for one in upstream.requests) == ["failing", "good", "off"]
    assert found["good"]["latency_ms"] > 0


def test_one_that_fails_makes_the_command_fail():
    assert output_of()[1] == "2 of 4 endpoints failed."
    assert output_of("good", "off")[1] == ""


def test_a_disabled_endpoint_is_marked():
    out, _ = output_of("off", "good")
    rows = [line.split() for line in out.splitlines()]
    assert rows[-2][:2] == ["off", "(disabled)"] and rows[-1][0] == "good"
    assert told("off")["off"]["enabled"] is False


def test_only_what_is_named_is_asked(upstream):
    assert set(told("failing", "good", "good")) == {"failing", "good"}
    assert set(told("--group", "n")) == {"off", "gone"}


def test_neither_keys_nor_an_upstreams_text_are_shown():
    everything = "".join([*output_of(), *output_of("--json")])
    assert "gpt-2024" in everything
    assert "sk-of" not in everything and b.SECRET_TEXT not in everything


def test_a_missing_reference_is_told_by_its_name():
    Endpoint.objects.filter(name="good").update(api_key="os.environ/SURELY_NOT_SET")
    assert told("good")["good"]["error"].startswith("misconfigured: no value for os.environ/SURELY_NOT_SET")


def test_an_endpoint_that_is_silent_is_given_up_in_time(upstream, monkeypatch):
    monkeypatch.setitem(KINDS, "good", b.silence)
    silent = told("good", "--timeout", "0.3")["good"]
    assert (silent["ok"], silent["error"]) == (False, "head timeout")
    assert silent["latency_ms"] < 20_000


def test_no_more_than_some_are_asked_at_once(upstream, monkeypatch):
    monkeypatch.setattr(trial, "_AT_A_TIME", 2)
    monkeypatch.setitem(KINDS, "good", b.body(200, ANSWER, delay=0.05))
    with transaction.atomic():
        group = ModelGroup.objects.get(name="m")
        for number in range(6):
            Endpoint.objects.create(group=group, name=f"g{number}", model="good", base_url=upstream.url, api_key="k")
    upstream.most_in_flight = 0
    assert len(told(*(f"g{number}" for number in range(6)))) == 6
    assert upstream.most_in_flight == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["godo"], 'There is no endpoint "godo", did you mean "good"?'),
        (["xyz"], 'There is no endpoint "xyz". There are: failing, gone, good, off.'),
        (["--group", "llama"], 'There is no model group "llama". There are: m, n.'),
    ],
)
def test_a_wrong_name_is_told_with_what_may_be_meant(options, message):
    assert output_of(*options) == ("", message)


def test_names_and_a_group_are_not_both_taken():
    with pytest.raises(CommandError, match="not both") as refused:
        call_command("test_endpoints", "good", "--group", "m")
    assert refused.value.returncode == 2


@pytest.mark.parametrize("timeout", ["0", "nan", "soon", "601"])
def test_a_timeout_that_cannot_be_meant_is_refused(timeout):
    with pytest.raises(CommandError, match="write seconds, more than 0"):
        call_command("test_endpoints", "--timeout", timeout)


def test_nothing_configured_names_the_remedy():
    ModelGroup.objects.all().delete()
    assert "manage.py import_config" in output_of()[1]
