"""What people type into the admin's forms: names line by line, references for numbers, names that change places."""

import pytest
from cryptography.fernet import Fernet
from django.db import transaction
from django.urls import reverse

from routing.config import publish
from routing.config.references import LOST
from routing.config.snapshot import load
from routing.models import Endpoint, ModelGroup, Revision
from tests.integration.test_admin_old_pages import opened, saved, sent_by, text, with_new_row

pytestmark = pytest.mark.django_db

SECRET = "sk-that-was-typed"


@pytest.fixture
def group():
    """Three groups, the first with three endpoints; published."""
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt", fallbacks=["local", "big, slow"])
        for position, name in enumerate(["east", "north", "west"]):
            Endpoint.objects.create(group=group, name=name, model=f"of-{name}", position=position)
        for position, name in enumerate(["local", "big, slow"]):
            other = ModelGroup.objects.create(name=name, position=position + 1)
            Endpoint.objects.create(group=other, name=f"e{position}", model="m")
    return group


@pytest.fixture
def east(group):
    return Endpoint.objects.get(name="east")


def errors(response):
    return dict(response.context["adminform"].form.errors)


def row_errors(response):
    return [dict(row) for row in response.context["inline_admin_formsets"][0].formset.errors]


def names_by_model():
    return dict(Endpoint.objects.filter(group__name="gpt").values_list("model", "name"))


# -- keys that cannot be decrypted


@pytest.fixture
def lost(east, settings):
    """Its key and a header were encrypted with what this process does not have any more. Gives their fingerprints."""
    Endpoint.objects.filter(pk=east.pk).update(api_key=SECRET, default_headers={"x-token": f"{SECRET}-2"})
    east.refresh_from_db()
    other = settings.LLMPROXY.model_copy(update={"encryption_keys": [Fernet.generate_key().decode()]})
    settings.LLMPROXY = other
    return [one.removeprefix("stored:") for one in (east.api_key, east.default_headers["x-token"])]


def test_a_key_that_cannot_be_decrypted_is_said_so_at_its_field(admin_client, east, lost):
    page = admin_client.get(reverse("admin:routing_endpoint_change", args=[east.pk]))
    form = page.context["adminform"].form

    for field, fingerprint in zip(("api_key", "default_headers"), lost, strict=True):
        assert f"The stored key {fingerprint} {LOST}." in form.fields[field].help_text
    assert "Kept encrypted" not in text(page)
    assert f'<b class="lp-lost">The stored key {lost[0]}' in text(page)


def test_a_row_says_that_its_key_cannot_be_decrypted(admin_client, group, lost):
    page = text(admin_client.get(reverse("admin:routing_modelgroup_change", args=[group.pk])))

    assert page.count('placeholder="lost: cannot be decrypted"') == page.count(" data-lost") == 1
    assert f'title="The stored key {lost[0]} {LOST}.' in page


def test_a_lost_key_typed_anew_is_said_to_be_kept(admin_client, east, lost):
    saved(admin_client, "endpoint", opened(admin_client, "endpoint", east.pk) | {"api_key": "sk-new"}, east.pk)
    page = admin_client.get(reverse("admin:routing_endpoint_change", args=[east.pk]))

    assert "Kept encrypted" in page.context["adminform"].form.fields["api_key"].help_text


# -- fallbacks


def test_fallbacks_are_shown_one_a_line(admin_client, group):
    assert opened(admin_client, "modelgroup", group.pk)["fallbacks"] == "local\nbig, slow"


def test_fallbacks_are_typed_in_their_order(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk) | {"fallbacks": " big, slow \r\n\r\nlocal\r\n"}
    saved(admin_client, "modelgroup", page, group.pk)

    assert load().configuration.model_groups[0].fallbacks == ["big, slow", "local"]
    assert Revision.objects.first().diff.count("fallbacks") == 1


def test_no_fallback_is_an_empty_list(admin_client, group):
    saved(admin_client, "modelgroup", opened(admin_client, "modelgroup", group.pk) | {"fallbacks": ""}, group.pk)

    assert load().configuration.model_groups[0].fallbacks == []


def test_fallbacks_that_nobody_touched_are_not_changed_by_a_browsers_line_breaks(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk)
    saved(admin_client, "modelgroup", {name: value.replace("\n", "\r\n") for name, value in page.items()}, group.pk)

    assert publish.current_revision() == 1


def test_fallbacks_changed_by_one_person_are_no_conflict(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk)
    page = {name: value.replace("\n", "\r\n") for name, value in page.items()} | {"fallbacks": "local"}
    saved(admin_client, "modelgroup", page, group.pk)
    group.refresh_from_db()

    assert group.fallbacks == ["local"]


def test_fallbacks_changed_by_two_people_are_a_conflict(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk)
    saved(admin_client, "modelgroup", page | {"fallbacks": "local"}, group.pk)
    refused = saved(admin_client, "modelgroup", page | {"fallbacks": "big, slow"}, group.pk)

    assert "Somebody else changed this meanwhile" in str(errors(refused)["fallbacks"])
    assert sent_by(refused)["fallbacks"] == "big, slow"


# -- names that change places


def test_two_endpoints_swap_their_names_in_one_revision(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk)
    saved(
        admin_client,
        "modelgroup",
        page | {"endpoints-0-name": "west", "endpoints-1-name": "east", "endpoints-2-name": "north"},
        group.pk,
    )

    assert names_by_model() == {"of-east": "west", "of-north": "east", "of-west": "north"}
    assert publish.current_revision() == 2


def test_a_new_row_takes_the_name_of_one_that_is_deleted(admin_client, group):
    page = with_new_row(opened(admin_client, "modelgroup", group.pk), name="east", model="new", position="")
    saved(admin_client, "modelgroup", page | {"endpoints-0-DELETE": "on"}, group.pk)

    assert names_by_model() == {"new": "east", "of-north": "north", "of-west": "west"}


@pytest.mark.parametrize(("name", "told"), [("north", "Another endpoint of this page"), ("e0", "already exists")])
def test_a_name_that_is_taken_is_an_error_at_its_field(admin_client, group, name, told):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-2-name": name}
    refused = saved(admin_client, "modelgroup", page, group.pk)

    assert [list(row) for row in row_errors(refused)] == [[], [], ["name"]]
    assert told in str(row_errors(refused))
    assert names_by_model()["of-west"] == "west"


# -- references


@pytest.mark.parametrize("field", ["weight", "rpm", "price_input", "http_timeout"])
def test_a_number_may_become_a_reference(admin_client, east, field):
    saved(admin_client, "endpoint", opened(admin_client, "endpoint", east.pk) | {field: " os.environ/N "}, east.pk)
    east.refresh_from_db()

    assert east.references == {field: "os.environ/N"}


def test_the_number_of_a_row_may_become_a_reference(admin_client, group, east):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-weight": "file:weight"}
    saved(admin_client, "modelgroup", page, group.pk)
    east.refresh_from_db()

    assert (east.references, publish.current_revision()) == ({"weight": "file:weight"}, 2)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("os.environ/", "is not a usable reference"),
        ("stored:0123456789abcdef", "is not a usable reference"),
        ("os.environ/DATABASE_URL", "names a secret of the gateway itself"),
        ("many", "Enter a whole number"),
        ("-1", "greater than or equal to 0"),
    ],
)
def test_what_is_no_number_and_no_reference_is_one_error_at_its_field(admin_client, east, typed, told):
    refused = saved(admin_client, "endpoint", opened(admin_client, "endpoint", east.pk) | {"weight": typed}, east.pk)

    assert list(errors(refused)) == ["weight"] and len(errors(refused)["weight"]) == 1
    assert told in str(errors(refused))
    assert sent_by(refused)["weight"] == typed


def test_a_new_reference_stays_beside_another_error(admin_client, east):
    page = opened(admin_client, "endpoint", east.pk) | {"weight": "os.environ/W", "default_headers": "nonsense"}
    refused = saved(admin_client, "endpoint", page, east.pk)

    assert (list(errors(refused)), sent_by(refused)["weight"]) == (["default_headers"], "os.environ/W")


@pytest.mark.parametrize("field", ["enabled", "provider"])
def test_a_reference_where_none_can_be_typed_is_refused_with_the_way_to_have_it(admin_client, east, field):
    page = opened(admin_client, "endpoint", east.pk) | {field: "os.environ/N"}
    refused = saved(admin_client, "endpoint", page, east.pk)

    assert errors(refused) == {
        field: ["A reference can stand here, but not be chosen here: import a file that has it."]
    }


# -- rows deleted on an old page


@pytest.mark.parametrize("more", [{}, {"endpoints-0-weight": "6"}])
def test_a_row_that_somebody_else_changed_is_not_deleted_without_a_word(admin_client, group, east, more):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-DELETE": "on"} | more
    saved(admin_client, "endpoint", opened(admin_client, "endpoint", east.pk) | {"weight": "5"}, east.pk)
    refused = saved(admin_client, "modelgroup", page, group.pk)
    before = Endpoint.objects.filter(name="east").count()
    saved(admin_client, "modelgroup", sent_by(refused), group.pk)

    assert "Somebody else changed endpoint east meanwhile: weight. Save again to delete it" in text(refused)
    assert (before, Endpoint.objects.filter(name="east").count()) == (1, 0)


def test_who_then_keeps_the_row_keeps_what_the_other_one_changed(admin_client, group, east):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-DELETE": "on"}
    theirs = {"weight": "5", "api_key": "file:theirs", "base_url": "https://theirs.example", "model": "theirs"}
    without = opened(admin_client, "endpoint", east.pk) | theirs
    del without["enabled"]
    saved(admin_client, "endpoint", without, east.pk)
    refused = saved(admin_client, "modelgroup", page, group.pk)
    kept = sent_by(refused)
    del kept["endpoints-0-DELETE"]
    saved(admin_client, "modelgroup", kept, group.pk)
    east.refresh_from_db()

    assert (east.weight, east.api_key, east.base_url, east.model, east.enabled) == (
        *(5, "file:theirs", "https://theirs.example"),
        *("theirs", False),
    )
    assert publish.current_revision() == 2


def test_a_row_that_somebody_else_moved_to_another_group_is_not_said_to_be_deleted(admin_client, group, east):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-DELETE": "on"}
    local = ModelGroup.objects.get(name="local")
    saved(admin_client, "endpoint", opened(admin_client, "endpoint", east.pk) | {"group": str(local.pk)}, east.pk)
    refused = saved(admin_client, "modelgroup", page, group.pk)

    assert "was deleted or moved to another group meanwhile" in text(refused)
    assert Endpoint.objects.get(name="east").group == local


def test_a_row_that_somebody_else_deleted_may_be_deleted(admin_client, group, east):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-DELETE": "on", "endpoints-1-weight": "6"}
    east.delete()
    saved(admin_client, "modelgroup", page, group.pk)

    assert list(Endpoint.objects.filter(group=group).values_list("name", "weight")) == [("north", 6), ("west", 1)]


def test_a_row_that_nobody_else_changed_is_deleted_at_once(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-DELETE": "on", "endpoints-0-weight": "6"}
    saved(admin_client, "modelgroup", page, group.pk)

    assert Endpoint.objects.filter(name="east").count() == 0
