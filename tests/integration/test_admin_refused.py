"""A page that is refused: the problem at its field, nothing typed lost, and no secret in it."""

import pytest
from django.db import transaction
from django.urls import reverse

from routing.config import publish, stored_secrets
from routing.models import Endpoint, GeneralSettings, ModelGroup
from tests.integration.test_admin_old_pages import opened, saved, sent_by, text, with_new_row

pytestmark = pytest.mark.django_db

SECRET = "sekret-that-was-typed"


@pytest.fixture
def group():
    """Two groups, one of which falls back to the other; published."""
    with transaction.atomic():
        GeneralSettings.objects.create(pk=1)
        group = ModelGroup.objects.create(name="gpt")
        Endpoint.objects.create(group=group, name="east", model="m")
        ModelGroup.objects.create(name="other", fallbacks=["gpt"], position=1)
    return group


@pytest.fixture
def east(group):
    return Endpoint.objects.get(name="east")


def errors(response):
    return dict(response.context["adminform"].form.errors)


# -- rules across parts


def test_two_stores_are_an_error_at_the_url(admin_client, group):
    typed = {"redis_url": "redis://h:1/0", "redis_host": "h", "num_retries": "7"}
    refused = saved(admin_client, "generalsettings", opened(admin_client, "generalsettings", 1) | typed, 1)

    assert errors(refused) == {"redis_url": ["stands beside redis_host: give one of them"]}
    assert sent_by(refused)["num_retries"] == "7"
    assert "changed successfully" not in text(refused)


def test_a_new_group_without_an_endpoint_keeps_what_was_typed(admin_client, group):
    page = sent_by(admin_client.get(reverse("admin:routing_modelgroup_add")))
    url = reverse("admin:routing_modelgroup_add")
    refused = admin_client.post(url, page | {"name": "new", "num_retries": "7"}, follow=True)
    again = sent_by(refused)

    assert "a group needs at least one model or a fallback" in str(errors(refused))
    assert (again["name"], again["num_retries"], "added successfully" in text(refused)) == ("new", "7", False)
    assert ModelGroup.objects.filter(name="new").count() == 0


def test_deleting_all_endpoints_of_a_group_keeps_the_page(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk) | {"endpoints-0-DELETE": "on", "num_retries": "7"}
    refused = saved(admin_client, "modelgroup", page, group.pk)

    assert "a group needs at least one model or a fallback" in str(errors(refused))
    assert (sent_by(refused)["num_retries"], Endpoint.objects.count()) == ("7", 1)


def test_renaming_a_group_that_others_fall_back_to_keeps_the_page(admin_client, group):
    page = opened(admin_client, "modelgroup", group.pk) | {"name": "renamed", "num_retries": "7"}
    refused = saved(admin_client, "modelgroup", page, group.pk)

    assert "Model group other: fallbacks[0] there is no model group" in str(errors(refused))
    assert (sent_by(refused)["name"], sent_by(refused)["num_retries"]) == ("renamed", "7")
    assert set(ModelGroup.objects.values_list("name", flat=True)) == {"gpt", "other"}


def test_moving_the_last_endpoint_away_keeps_the_page(admin_client, group, east):
    other = ModelGroup.objects.get(name="other")
    page = opened(admin_client, "endpoint", east.pk) | {"group": str(other.pk), "rpm": "7"}
    refused = saved(admin_client, "endpoint", page, east.pk)

    assert "Model group gpt: models is empty" in str(errors(refused))
    assert sent_by(refused)["rpm"] == "7"


def test_what_was_refused_can_be_mended_and_saved(admin_client, group):
    typed = {"redis_url": "redis://h:1/0", "redis_host": "h"}
    refused = saved(admin_client, "generalsettings", opened(admin_client, "generalsettings", 1) | typed, 1)
    saved(admin_client, "generalsettings", sent_by(refused) | {"redis_host": ""}, 1)

    assert (GeneralSettings.objects.get().redis_url, publish.current_revision()) == ("redis://h:1/0", 2)


# -- secrets that were typed


@pytest.mark.parametrize("url", [f"redis://:{SECRET}@h/0", f"redis://h:1/2?password={SECRET}", f"redis://[:{SECRET}@h"])
def test_a_password_in_a_refused_url_does_not_come_back(admin_client, group, url):
    typed = {"redis_url": url, "max_in_flight": "-1"}
    refused = saved(admin_client, "generalsettings", opened(admin_client, "generalsettings", 1) | typed, 1)
    again = saved(admin_client, "generalsettings", sent_by(refused) | {"max_in_flight": "9"}, 1)

    assert SECRET not in refused.content.decode()
    assert (list(errors(again)), publish.current_revision()) == (["redis_url"], 1)


@pytest.mark.parametrize("field", ["default_headers", "default_query"])
@pytest.mark.parametrize(
    "typed",
    [
        f'{{"authorization": "Bearer {SECRET}"}}',
        f'{{"X-Team": "Bearer {SECRET}", "x-plain": "seen"}}',
        f'{{"x-api-key": ["{SECRET}"]}}',
        f'{{"authorization": "{SECRET}",}}',
    ],
)
def test_a_secret_in_a_refused_header_does_not_come_back(admin_client, east, field, typed):
    page = opened(admin_client, "endpoint", east.pk) | {field: typed, "weight": "-1"}
    refused = saved(admin_client, "endpoint", page, east.pk)

    assert SECRET not in refused.content.decode()


@pytest.mark.parametrize("field", ["default_headers", "default_query"])
def test_a_secret_that_was_not_typed_again_is_asked_for(admin_client, east, field):
    page = opened(admin_client, "endpoint", east.pk)
    typed = {field: f'{{"x-token": "{SECRET}", "x-plain": "seen"}}', "weight": "-1"}
    refused = saved(admin_client, "endpoint", page | typed, east.pk)
    again = saved(admin_client, "endpoint", sent_by(refused) | {"weight": "1"}, east.pk)

    assert "seen" in sent_by(refused)[field]
    assert (errors(again), publish.current_revision()) == (
        {field: ["No page shows a secret again: type it anew."]},
        1,
    )


# -- stored keys that are not here


def test_an_unknown_fingerprint_is_an_error_at_the_key(admin_client, east):
    page = opened(admin_client, "endpoint", east.pk) | {"api_key": "stored:0123456789abcdef"}
    refused = saved(admin_client, "endpoint", page, east.pk)

    assert list(errors(refused)) == ["api_key"]


def test_an_unknown_fingerprint_in_a_row_is_an_error_at_the_key(admin_client, group):
    page = with_new_row(opened(admin_client, "modelgroup", group.pk), name="new", api_key="stored:0123456789abcdef")
    refused = saved(admin_client, "modelgroup", page, group.pk)
    rows = refused.context["inline_admin_formsets"][0].formset.errors

    assert [list(row) for row in rows] == [[], ["api_key"]]


def test_an_unknown_fingerprint_of_a_header_is_an_error_at_the_headers(admin_client, east):
    page = opened(admin_client, "endpoint", east.pk) | {"default_headers": '{"x-a": "stored:0123456789abcdef"}'}

    assert list(errors(saved(admin_client, "endpoint", page, east.pk))) == ["default_headers"]


def test_a_known_fingerprint_is_accepted(admin_client, east):
    with transaction.atomic():
        reference = stored_secrets.keep(SECRET, "https://api.openai.com:443")
    saved(admin_client, "endpoint", opened(admin_client, "endpoint", east.pk) | {"api_key": reference}, east.pk)
    east.refresh_from_db()

    assert east.api_key == reference


# -- words


def test_beside_another_error_a_reference_is_not_called_wrong(admin_client, east):
    Endpoint.objects.update(references={"enabled": "os.environ/EN", "rpm": "os.environ/RPM"})
    page = opened(admin_client, "endpoint", east.pk) | {"default_headers": "nonsense"}

    assert list(errors(saved(admin_client, "endpoint", page, east.pk))) == ["default_headers"]


def test_a_key_that_is_not_there_cannot_be_removed(admin_client, east):
    pages = [text(admin_client.get(reverse("admin:routing_endpoint_change", args=[east.pk])))]
    Endpoint.objects.update(api_key="os.environ/KEY")
    pages.append(text(admin_client.get(reverse("admin:routing_endpoint_change", args=[east.pk]))))
    pages.append(text(admin_client.get(reverse("admin:routing_endpoint_add"))))

    assert ["remove_api_key" in shown for shown in pages] == [False, True, False]
