"""What operators see and do in the admin, in front of a gateway that says what the test wants."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.urls import reverse

from routing.balancing.health import Reason
from routing.config import publish
from routing.config.watch import Refused
from routing.models import Endpoint, ModelGroup, Revision
from routing.upstream.errors import ConnectFailed
from tests.integration.admin_gateway import gateway_in_requests
from tests.integration.test_admin_config import form_of, save

pytestmark = pytest.mark.django_db


@pytest.fixture
def east():
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        endpoint = Endpoint.objects.create(group=group, name="east", model="m", api_key="os.environ/EAST_KEY")
        Endpoint.objects.create(group=group, name="west", model="m", base_url="https://w.example", position=1)
    return endpoint


@pytest.fixture
def running(east, settings):
    with gateway_in_requests(settings) as gateway:
        yield gateway


def press(client, endpoint, operation, **headers):
    return client.post(reverse("admin:routing_operate", args=[endpoint.pk, operation]), follow=True, headers=headers)


def choose(client, action, *endpoints):
    data = {"action": action, "_selected_action": [endpoint.pk for endpoint in endpoints]}
    return client.post(reverse("admin:routing_endpoint_changelist"), data, follow=True)


def told(response):
    return [str(message) for message in response.context["messages"]]


def live(client):
    return client.get(reverse("admin:routing_live")).json()


# -- live state


def test_a_cooldown_is_told_as_seconds_left(admin_client, running):
    running.board.cool(running.endpoint("east"), 42, Reason.RATE_LIMIT)
    state = live(admin_client)["endpoints"]["east"]

    assert (state["status"], state["reason"]) == ("cooling_down", "rate_limit")
    assert 40 < state["cooldown_s"] <= 42


@pytest.mark.parametrize("page", ["modelgroup_changelist", "endpoint_changelist", "revision_changelist"])
def test_a_page_reads_the_store_once(admin_client, running, page):
    response = admin_client.get(reverse(f"admin:routing_{page}"))

    assert response.context["live"]["endpoints"].keys() == {"east", "west"}
    assert len(running.store.trips) == 1


def test_a_group_counts_its_available_endpoints(admin_client, running):
    running.board.cool(running.endpoint("east"), 42, Reason.FAILURE)

    assert live(admin_client)["groups"] == {"gpt": {"available": 1, "endpoints": 2, "in_flight": 0}}


def test_a_refused_revision_is_a_banner(admin_client, running):
    running.revisions.refused = Refused(9, "<script>")
    page = admin_client.get(reverse("admin:index")).content.decode()

    assert "is refused" in page and "hidden" not in page.split('id="lp-refused"')[1][:60]
    assert "<script></div>" not in page and "&lt;script&gt;" in page


def test_without_a_gateway_the_pages_still_open(admin_client, east):
    assert admin_client.get(reverse("admin:routing_endpoint_change", args=[east.pk])).status_code == 200
    assert told(press(admin_client, east, "reset")) == ["No cooldown was ended: this worker does not serve it yet."]


# -- switches


@pytest.mark.parametrize("operation", ["disable", "drain"])
def test_disabling_is_one_revision_that_says_so(admin_client, running, east, operation):
    press(admin_client, east, operation)

    assert (Endpoint.objects.get(name="east").enabled, Revision.objects.first().message) == (False, "Disabled east")
    assert publish.current_revision() == 2


@pytest.mark.parametrize("action", ["disable_selected", "drain_selected"])
def test_a_bulk_action_is_one_revision(admin_client, running, action):
    choose(admin_client, action, *Endpoint.objects.all())

    assert (Endpoint.objects.filter(enabled=True).count(), publish.current_revision()) == (0, 2)


def test_draining_tells_how_many_requests_still_run(admin_client, running):
    running.board.of(running.endpoint("east")).in_flight = 3
    drained = choose(admin_client, "drain_selected", *Endpoint.objects.all())

    assert told(drained) == [
        "Disabled east, west.",
        "east drains: 3 requests still run. It shows as disabled when the last one has ended.",
        "west: no request runs.",
    ]


def test_draining_again_tells_again_without_a_revision(admin_client, running, east):
    press(admin_client, east, "drain")
    running.board.of(running.endpoint("east")).in_flight = 1

    assert told(press(admin_client, east, "drain"))[1].startswith("east drains: 1 request still runs.")
    assert publish.current_revision() == 2


def test_enabling_takes_the_place_of_a_reference(admin_client, running, east):
    Endpoint.objects.filter(pk=east.pk).update(enabled=False, references={"enabled": "os.environ/E"})
    press(admin_client, east, "enable")
    east.refresh_from_db()

    assert (east.enabled, east.references) == (True, {})


def test_a_disabled_endpoint_drains_while_requests_run(admin_client, running, east):
    press(admin_client, east, "drain")
    with_disabled = type(running)()
    running.live.swap(with_disabled.live.table)
    running.board.of(running.endpoint("east")).in_flight = 2

    assert (live(admin_client)["endpoints"]["east"]["status"]) == "draining"
    running.board.of(running.endpoint("east")).in_flight = 0
    assert (live(admin_client)["endpoints"]["east"]["status"]) == "disabled"


def test_a_cooldown_is_ended(admin_client, running, east):
    running.board.cool(running.endpoint("east"), 42, Reason.FAILURE)
    response = press(admin_client, east, "reset")

    assert told(response) == ["Cooldown ended: east."]
    assert live(admin_client)["endpoints"]["east"]["status"] == "healthy"


# -- test endpoint


def test_a_test_says_status_latency_and_model(admin_client, running, east):
    result = press(admin_client, east, "test", accept="application/json").json()

    assert {key: result[key] for key in ("ok", "status", "model", "error")} == {
        "ok": True,
        "status": 200,
        "model": "m-2024",
        "error": "",
    }
    assert running.asked[0][0] == "/v1/chat/completions"
    assert running.asked[0][1]["model"] == "m"


def test_a_test_counts_nowhere(admin_client, running, east):
    running.status = 503
    press(admin_client, east, "test")

    assert running.recorder.own().empty()
    assert running.board.of(running.endpoint("east")).consecutive_failures == 0


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (503, b"<b>down</b>", "status 503"),
        (401, b'{"error": {"message": "key sk-of-east-0123456789 is wrong"}}', "status 401"),
        (200, b"not json", "invalid JSON"),
        (200, b'{"error": {"message": "no"}}', "error in a 200 answer"),
        (0, ConnectFailed("connect timeout"), "connect timeout"),
    ],
)
def test_a_failed_test_tells_a_class_and_never_the_upstreams_text(admin_client, running, east, status, answer, error):
    running.status, running.answer = status, answer
    response = press(admin_client, east, "test")

    assert error in told(response)[0]
    assert "<b>down" not in response.content.decode() and "sk-of-east" not in response.content.decode()


def test_a_model_name_with_the_key_in_it_is_struck_out(admin_client, running, east):
    running.answer = json.dumps({"object": "x", "model": "<i>sk-of-east-0123456789"}).encode()
    response = press(admin_client, east, "test")

    assert "model <i>[redacted]" in told(response)[0]
    assert "<i>[redacted]" not in response.content.decode()


def test_all_chosen_endpoints_are_tested(admin_client, running):
    assert len(told(choose(admin_client, "test_selected", *Endpoint.objects.all()))) == 2


def test_an_embedding_model_is_asked_for_an_embedding(admin_client, running, east):
    Endpoint.objects.filter(pk=east.pk).update(model="text-embedding-3-small")
    running.live.swap(type(running)().live.table)
    press(admin_client, east, "test")

    assert running.asked[0] == ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "ok"})


# -- order and explain


def test_dragging_endpoints_is_published_as_a_new_order(admin_client, running, east):
    data = form_of(admin_client, "modelgroup_change", east.group_id)
    save(
        admin_client,
        data | {"endpoints-0-position": "1", "endpoints-1-position": "0"},
        "modelgroup_change",
        east.group_id,
    )

    assert [change["kind"] for change in Revision.objects.first().changes] == ["moved"]
    assert list(Endpoint.objects.order_by("position").values_list("name", flat=True)) == ["west", "east"]


def test_explain_shows_who_is_out_and_why(admin_client, running):
    running.board.cool(running.endpoint("east"), 42, Reason.FAILURE)
    page = admin_client.get(reverse("admin:routing_explain"), {"model": "gpt"}).content.decode()

    assert "cooling for 42 s (failures)" in page and "1 of 1 first attempts (100 %)" in page


def test_explain_of_an_unknown_model_says_which_there_are(admin_client, running):
    page = admin_client.get(reverse("admin:routing_explain"), {"model": "<nope>"}).content.decode()

    assert "There are: gpt." in page and "<nope>" not in page


# -- the cache


def empty_cache(client):
    data = {"action": "empty_cache_selected", "_selected_action": [group.pk for group in ModelGroup.objects.all()]}
    return client.post(reverse("admin:routing_modelgroup_changelist"), data, follow=True)


def test_the_cache_of_a_group_is_emptied(admin_client, running):
    response = empty_cache(admin_client)
    (group,) = running.live.table.groups.values()

    assert told(response) == [f"{group.name}: 3 kept answers deleted."]
    assert running.emptied == [group.key]


def test_the_cache_is_not_emptied_by_viewers(client, running):
    viewer = get_user_model().objects.create_user("looker", is_staff=True)
    viewer.groups.add(Group.objects.get(name="viewer"))
    client.force_login(viewer)
    empty_cache(client)

    assert running.emptied == []
