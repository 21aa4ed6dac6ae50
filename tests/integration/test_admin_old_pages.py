"""Pages of the admin that were open while somebody else saved: nobody's change is undone without a word."""

from html.parser import HTMLParser

import pytest
from django.db import transaction
from django.urls import reverse

from routing.config import publish
from routing.models import Endpoint, GeneralSettings, ModelGroup

pytestmark = pytest.mark.django_db


class _Form(HTMLParser):
    """What a browser would send back of a page."""

    def __init__(self):
        super().__init__()
        self.sent, self._select, self._area = {}, "", ""

    def handle_starttag(self, tag, attrs):
        has = dict(attrs)
        name = has.get("name", "")
        if tag == "textarea":
            self._area = name
            self.sent[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and "selected" in has:
            self.sent[self._select] = has.get("value", "")
        elif tag == "input" and name and has.get("type") in ("checkbox", "radio"):
            self.sent |= {name: has.get("value", "on")} if "checked" in has else {}
        elif tag == "input" and name and has.get("type") not in ("submit", "file"):
            self.sent[name] = has.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "textarea":
            self._area = ""

    def handle_data(self, data):
        if self._area:
            self.sent[self._area] += data.removeprefix("\n") if not self.sent[self._area] else data


def sent_by(response):
    form = _Form()
    form.feed(response.content.decode())
    left_out = ("action", "_selected_action", "_saveasnew", "_continue", "_addanother", "q")
    return {name: value for name, value in form.sent.items() if "__prefix__" not in name and name not in left_out}


def opened(client, model, pk=None):
    place = "change" if pk else "changelist"
    response = client.get(reverse(f"admin:routing_{model}_{place}", args=[pk] if pk else []))
    return sent_by(response) | ({} if pk else {"_save": "Save"})


def saved(client, model, sent, pk=None):
    place = "change" if pk else "changelist"
    return client.post(reverse(f"admin:routing_{model}_{place}", args=[pk] if pk else []), sent, follow=True)


def text(response):
    return " ".join(response.content.decode().split())


@pytest.fixture
def group():
    """A group with three endpoints, published."""
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        for position, name in enumerate(["east", "north", "west"]):
            Endpoint.objects.create(group=group, name=name, model="m", position=position, api_key="os.environ/KEY")
    return group


@pytest.fixture
def east(group):
    return Endpoint.objects.get(name="east")


def test_a_page_saved_without_an_edit_makes_no_revision(admin_client, group, east):
    GeneralSettings.objects.get_or_create(pk=1)
    for model, pk in (("modelgroup", group.pk), ("endpoint", east.pk), ("generalsettings", 1)):
        saved(admin_client, model, opened(admin_client, model, pk), pk)

    assert publish.current_revision() == 1


def test_changes_of_two_people_in_different_fields_of_one_page_both_stay(admin_client, group):
    mine, theirs = opened(admin_client, "modelgroup", group.pk), opened(admin_client, "modelgroup", group.pk)
    saved(admin_client, "modelgroup", theirs | {"endpoints-0-model": "theirs", "strategy": "least_busy"}, group.pk)
    saved(admin_client, "modelgroup", mine | {"endpoints-1-model": "mine", "num_retries": "7"}, group.pk)
    group.refresh_from_db()

    assert list(Endpoint.objects.order_by("position").values_list("model", flat=True)) == ["theirs", "mine", "m"]
    assert (group.strategy, group.num_retries, publish.current_revision()) == ("least_busy", 7, 3)


@pytest.mark.parametrize(
    ("field", "theirs", "mine", "now"),
    [
        ("weight", "5", "6", "5"),
        ("model", "other", "another", "other"),
        ("rpm", "10", "20", "10"),
        ("default_query", '{"a": "1"}', '{"b": "2"}', "a"),
        ("http_timeout", "30", "40", "30"),
        ("provider", "azure", "openai", "azure"),
        ("api_key", "file:theirs", "file:mine", "file:theirs"),
        ("remove_api_key", "on", "", "empty"),
    ],
)
def test_the_same_field_changed_by_two_is_refused_and_shows_what_it_is_now(
    admin_client, east, field, theirs, mine, now
):
    page = opened(admin_client, "endpoint", east.pk)
    saved(admin_client, "endpoint", page | {field: theirs}, east.pk)
    changed = {field: mine} if mine else {"api_key": "file:mine"}
    refused = saved(admin_client, "endpoint", page | changed, east.pk)
    errors = refused.context["adminform"].form.errors

    assert (list(errors), publish.current_revision()) == ([field.removeprefix("remove_")], 2)
    assert "Somebody else changed this meanwhile" in str(errors)
    assert now in str(errors)


def test_who_has_seen_the_conflict_may_save_over_it(admin_client, east):
    page = opened(admin_client, "endpoint", east.pk)
    saved(admin_client, "endpoint", page | {"weight": "5", "rpm": "10"}, east.pk)
    refused = saved(admin_client, "endpoint", page | {"weight": "6"}, east.pk)
    saved(admin_client, "endpoint", sent_by(refused), east.pk)
    east.refresh_from_db()

    assert (east.weight, east.rpm) == (6, 10)


def test_the_same_change_by_two_is_no_conflict(admin_client, east):
    page = opened(admin_client, "endpoint", east.pk)
    for _ in range(2):
        saved(admin_client, "endpoint", page | {"weight": "5"}, east.pk)
    east.refresh_from_db()

    assert (east.weight, publish.current_revision()) == (5, 2)


def test_the_settings_of_an_old_page_are_refused_too(admin_client, group):
    GeneralSettings.objects.get_or_create(pk=1)
    page = opened(admin_client, "generalsettings", 1)
    saved(admin_client, "generalsettings", page | {"num_retries": "5", "cooldown_time": "9"}, 1)
    refused = saved(admin_client, "generalsettings", page | {"num_retries": "6"}, 1)
    saved(admin_client, "generalsettings", page | {"allowed_fails": "4"}, 1)
    settings = GeneralSettings.objects.get()

    assert list(refused.context["adminform"].form.errors) == ["num_retries"]
    assert (settings.num_retries, settings.cooldown_time, settings.allowed_fails) == (5, 9, 4)


def test_an_old_list_names_what_both_have_changed(admin_client, group):
    page = opened(admin_client, "endpoint")
    saved(admin_client, "endpoint", page | {"form-0-weight": "5"})
    refused = saved(admin_client, "endpoint", page | {"form-0-weight": "6"})

    assert "it is 5 now" in text(refused)
    assert Endpoint.objects.get(name="east").weight == 5


@pytest.mark.parametrize(("model", "field"), [("modelgroup", "endpoints-1-weight"), ("endpoint", "form-1-weight")])
def test_a_row_deleted_meanwhile_is_said_so(admin_client, group, east, model, field):
    pk = group.pk if model == "modelgroup" else None
    page = opened(admin_client, model, pk)
    east.delete()
    refused = saved(admin_client, model, page | {field: "7"}, pk)

    assert "was deleted or moved to another group meanwhile" in text(refused)
    assert Endpoint.objects.filter(weight=7).count() == 0


def dragged(page, prefix, order):
    return page | {f"{prefix}-{row}-position": str(place) for row, place in enumerate(order)}


def test_an_old_page_does_not_undo_a_new_order_of_endpoints(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk)
    saved(admin_client, "modelgroup", dragged(page, "endpoints", [2, 0, 1]), group.pk)
    saved(admin_client, "modelgroup", page | {"endpoints-0-weight": "5"}, group.pk)
    refused = saved(admin_client, "modelgroup", dragged(page, "endpoints", [1, 0, 2]), group.pk)

    assert list(Endpoint.objects.order_by("position").values_list("name", flat=True)) == ["north", "west", "east"]
    assert "Somebody else changed the order meanwhile" in text(refused)


def test_an_old_list_does_not_undo_a_new_order_of_groups(admin_client, group):
    with transaction.atomic():
        for position, name in ((1, "b"), (2, "c")):
            ModelGroup.objects.create(name=name, position=position, fallbacks=["gpt"])
    page = opened(admin_client, "modelgroup")
    saved(admin_client, "modelgroup", dragged(page, "form", [2, 0, 1]))
    saved(admin_client, "modelgroup", page)
    refused = saved(admin_client, "modelgroup", dragged(page, "form", [1, 0, 2]))

    assert list(ModelGroup.objects.order_by("position").values_list("name", flat=True)) == ["b", "c", "gpt"]
    assert "Somebody else changed the order meanwhile" in text(refused)


# -- new rows


def with_new_row(page, **values):
    row = {"name": "", "model": "m", "base_url": "https://h.example", "weight": "1", "enabled": "on", "id": ""}
    number = int(page["endpoints-TOTAL_FORMS"])
    new = {f"endpoints-{number}-{name}": value for name, value in (row | values).items()}
    return page | new | {"endpoints-TOTAL_FORMS": str(number + 1)}


def test_a_new_row_dragged_to_the_top_is_first(admin_client, group):
    page = dragged(opened(admin_client, "modelgroup", group.pk), "endpoints", [1, 2, 3])
    saved(admin_client, "modelgroup", with_new_row(page, name="new", position="0"), group.pk)

    assert list(Endpoint.objects.order_by("position").values_list("name", "position")) == [
        ("new", 0),
        ("east", 1),
        ("north", 2),
        ("west", 3),
    ]


def test_new_rows_that_nobody_dragged_are_last(admin_client, group):
    page = with_new_row(opened(admin_client, "modelgroup", group.pk), name="b", position="")
    saved(admin_client, "modelgroup", with_new_row(page, name="a", position=""), group.pk)

    assert list(Endpoint.objects.order_by("position").values_list("name", flat=True))[3:] == ["b", "a"]


def test_the_row_for_a_new_endpoint_has_no_place_yet(admin_client, group):
    response = admin_client.get(reverse("admin:routing_modelgroup_change", args=[group.pk]))

    assert response.context["inline_admin_formsets"][0].formset.empty_form["position"].value() is None


def test_two_nameless_rows_alike_get_the_names_that_yaml_gives(admin_client, group):
    page = with_new_row(with_new_row(opened(admin_client, "modelgroup", group.pk)))
    saved(admin_client, "modelgroup", page, group.pk)
    first, second = Endpoint.objects.order_by("position").values_list("name", flat=True)[3:]

    assert second == f"{first}-2"


def test_each_row_of_a_group_says_where_its_key_comes_from(admin_client, group):
    assert 'placeholder="os.environ/KEY"' in text(
        admin_client.get(reverse("admin:routing_modelgroup_change", args=[group.pk]))
    )
