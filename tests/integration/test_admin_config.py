"""The configuration in the admin: pages render, saving publishes a revision, keys are write-only."""

import pytest
from django.db import connection, transaction
from django.urls import reverse

from routing.config import publish, stored_secrets
from routing.config.snapshot import load
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision

pytestmark = pytest.mark.django_db

SECRET = "sk-typed-into-the-admin"


@pytest.fixture
def group():
    """One group with one endpoint, published."""
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        Endpoint.objects.create(group=group, name="east", model="m", api_key="os.environ/EAST_KEY")
    return group


def page(client, name, *args):
    response = client.get(reverse(f"admin:routing_{name}", args=args))
    assert response.status_code == 200
    return response.content.decode()


def form_of(client, name, *args):
    """What a browser would send back for the page's form without any edit."""
    response = client.get(reverse(f"admin:routing_{name}", args=args))
    context = response.context
    forms = [context["adminform"].form]
    for formset in context["inline_admin_formsets"]:
        forms += [formset.formset.management_form, *formset.formset.forms]
    data = {}
    for form in forms:
        for field in form:
            value = field.value()
            if value is not None and value is not False:
                data[field.html_name] = "on" if value is True else value
    return data


def save(client, data, name, *args):
    return client.post(reverse(f"admin:routing_{name}", args=args), data, follow=True)


@pytest.mark.parametrize("name", ["modelgroup", "endpoint", "revision"])
def test_the_lists_render(admin_client, group, name):
    page(admin_client, f"{name}_changelist")


@pytest.mark.parametrize("name", ["modelgroup_add", "endpoint_add"])
def test_the_pages_to_add_render(admin_client, group, name):
    page(admin_client, name)


def test_a_group_shows_its_endpoints_inline(admin_client, group):
    assert 'value="east"' in page(admin_client, "modelgroup_change", group.pk)


def test_the_settings_open_at_once(admin_client):
    response = admin_client.get(reverse("admin:routing_generalsettings_changelist"), follow=True)

    assert (response.status_code, GeneralSettings.objects.count()) == (200, 1)


def test_saving_without_an_edit_makes_no_revision(admin_client, group):
    save(admin_client, form_of(admin_client, "modelgroup_change", group.pk), "modelgroup_change", group.pk)

    assert publish.current_revision() == 1


def test_an_edit_of_an_inline_endpoint_is_published_as_one_revision(admin_client, admin_user, group):
    data = form_of(admin_client, "modelgroup_change", group.pk) | {"endpoints-0-weight": "7", "strategy": "least_busy"}
    save(admin_client, data, "modelgroup_change", group.pk)
    loaded = load()

    assert (loaded.revision, Revision.objects.count()) == (2, 2)
    assert (loaded.configuration.model_groups[0].strategy, loaded.configuration.model_groups[0].models[0].weight) == (
        "least_busy",
        7,
    )
    assert (Revision.objects.first().author, Revision.objects.first().source) == (admin_user.username, "admin")


def test_a_new_group_with_a_nameless_endpoint_gets_the_name_that_yaml_would_give(admin_client):
    data = form_of(admin_client, "modelgroup_add")
    data |= {"name": "new", "endpoints-TOTAL_FORMS": "1", "endpoints-0-model": "m", "endpoints-0-weight": "1"}
    data |= {"endpoints-0-base_url": "https://h.example", "endpoints-0-name": "", "endpoints-0-enabled": "on"}
    save(admin_client, data, "modelgroup_add")

    assert Endpoint.objects.get().name == load().configuration.model_groups[0].models[0].name
    assert Endpoint.objects.get().name.startswith("m-")


def test_a_typed_key_is_kept_encrypted_and_never_shown(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"api_key": SECRET}
    saved = save(admin_client, data, "endpoint_change", endpoint.pk)
    endpoint.refresh_from_db()
    fingerprint = endpoint.api_key.removeprefix("stored:")

    assert stored_secrets.reveal_all() == {fingerprint: SECRET}
    pages = [
        saved.content.decode(),
        page(admin_client, "endpoint_changelist"),
        page(admin_client, "endpoint_change", endpoint.pk),
        page(admin_client, "endpoint_history", endpoint.pk),
        page(admin_client, "modelgroup_change", group.pk),
        page(admin_client, "revision_change", 2),
    ]
    assert [SECRET in text for text in pages] == [False] * len(pages)
    assert f"fingerprint {fingerprint}" in pages[2]


def test_a_key_typed_inline_is_kept_encrypted(admin_client, group):
    data = form_of(admin_client, "modelgroup_change", group.pk) | {"endpoints-0-api_key": SECRET}
    save(admin_client, data, "modelgroup_change", group.pk)

    assert list(stored_secrets.reveal_all().values()) == [SECRET]
    assert Endpoint.objects.get().api_key.startswith("stored:")


def test_a_refused_page_does_not_show_the_typed_key(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"api_key": SECRET, "base_url": "nonsense"}
    refused = save(admin_client, data, "endpoint_change", endpoint.pk)

    assert "must be a URL that begins with http:// or https://" in refused.content.decode()
    assert SECRET not in refused.content.decode()
    assert stored_secrets.reveal_all() == {}


def test_an_empty_key_field_keeps_the_key(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk)
    save(admin_client, data | {"api_key": "", "weight": "2"}, "endpoint_change", endpoint.pk)
    endpoint.refresh_from_db()

    assert (endpoint.api_key, endpoint.weight) == ("os.environ/EAST_KEY", 2)


def test_a_key_can_be_removed(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"remove_api_key": "on"}
    save(admin_client, data, "endpoint_change", endpoint.pk)
    endpoint.refresh_from_db()

    assert endpoint.api_key == ""


def test_a_reference_is_stored_as_a_reference(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"api_key": "file:east"}
    save(admin_client, data, "endpoint_change", endpoint.pk)
    endpoint.refresh_from_db()

    assert endpoint.api_key == "file:east"


def test_a_number_that_is_a_reference_survives_a_page(admin_client, group):
    Endpoint.objects.update(references={"weight": "os.environ/W", "enabled": "os.environ/E"})
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk)
    save(admin_client, data | {"model": "other"}, "endpoint_change", endpoint.pk)
    model = load().configuration.model_groups[0].models[0]

    assert (model.weight, model.enabled, model.model) == ("os.environ/W", "os.environ/E", "other")


def test_a_value_may_take_the_place_of_a_reference(admin_client, group):
    Endpoint.objects.update(references={"weight": "os.environ/W"})
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"weight": "5"}
    save(admin_client, data, "endpoint_change", endpoint.pk)
    endpoint.refresh_from_db()

    assert (endpoint.weight, endpoint.references) == (5, {})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("fallbacks", "nobody", "there is no model group &quot;nobody&quot;"),
        ("fallbacks", "gpt", "makes a loop of fallbacks: gpt -&gt; gpt"),
        ("fallbacks", "file:", "is not a usable reference"),
        ("http_timeout", "0", "must be greater than 0"),
        ("name", "two\nlines", "must be printable"),
    ],
)
def test_what_yaml_would_refuse_is_an_error_at_the_field(admin_client, group, field, value, message):
    data = form_of(admin_client, "modelgroup_change", group.pk) | {field: value}
    refused = save(admin_client, data, "modelgroup_change", group.pk)

    assert message in refused.content.decode()
    assert field in refused.context["adminform"].form.errors
    assert publish.current_revision() == 1


def test_a_header_that_would_break_requests_is_refused(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"default_headers": '{"host": "x"}'}
    refused = save(admin_client, data, "endpoint_change", endpoint.pk)

    assert refused.context["adminform"].form.errors.keys() == {"default_headers"}


def test_a_secret_header_is_kept_encrypted(admin_client, group):
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"default_headers": f'{{"x-token": "{SECRET}"}}'}
    save(admin_client, data, "endpoint_change", endpoint.pk)

    assert SECRET not in page(admin_client, "endpoint_change", endpoint.pk)
    assert list(stored_secrets.reveal_all().values()) == [SECRET]


def test_a_group_that_others_fall_back_to_is_not_deleted(admin_client, group):
    other = ModelGroup.objects.create(name="other", fallbacks=["gpt"], position=1)
    response = admin_client.post(reverse("admin:routing_modelgroup_delete", args=[group.pk]), {"post": "yes"})
    messages = [str(message) for message in admin_client.get(response.url).context["messages"]]

    assert messages == ['Nothing was changed. Model group other: fallbacks[0] there is no model group "gpt"']
    assert set(ModelGroup.objects.all()) == {group, other}


def test_deleting_a_group_is_published(admin_client, group):
    admin_client.post(reverse("admin:routing_modelgroup_delete", args=[group.pk]), {"post": "yes"})

    assert (load().revision, load().configuration.model_groups) == (2, [])


def test_deleting_in_the_list_is_published(admin_client, group):
    data = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    admin_client.post(reverse("admin:routing_modelgroup_changelist"), data)

    assert (load().revision, load().configuration.model_groups) == (2, [])


def test_settings_are_saved_and_published_without_showing_the_password(admin_client, group):
    GeneralSettings.objects.get_or_create(pk=1)
    data = form_of(admin_client, "generalsettings_change", 1) | {"redis_password": SECRET, "num_retries": "5"}
    save(admin_client, data, "generalsettings_change", 1)
    loaded = load()

    assert (loaded.configuration.general_settings.num_retries, list(loaded.stored.values())) == (5, [SECRET])
    assert SECRET not in page(admin_client, "generalsettings_change", 1)


def test_a_revision_cannot_be_changed_or_deleted(admin_client, group):
    url = reverse("admin:routing_revision_change", args=[1])

    assert admin_client.post(url, {"author": "x"}).status_code == 403
    assert admin_client.post(reverse("admin:routing_revision_delete", args=[1]), {"post": "yes"}).status_code == 403


def test_rows_written_past_the_schema_can_be_mended_in_the_admin(admin_client, group):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE routing_endpoint SET base_url = 'nonsense'")
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"base_url": "https://h.example"}
    save(admin_client, data, "endpoint_change", endpoint.pk)

    assert load().configuration.model_groups[0].models[0].params.base_url == "https://h.example"


def test_another_host_takes_the_stored_key_out_and_says_so(admin_client, group):
    Endpoint.objects.update(api_key=SECRET)
    endpoint = Endpoint.objects.get()
    before = page(admin_client, "endpoint_change", endpoint.pk)
    data = form_of(admin_client, "endpoint_change", endpoint.pk) | {"base_url": "https://other.example"}
    saved = save(admin_client, data, "endpoint_change", endpoint.pk)
    endpoint.refresh_from_db()

    assert "unless base_url gets another host: then it is taken out" in before
    assert (endpoint.base_url, endpoint.api_key) == ("https://other.example", "")
    assert "the stored key was taken out, give it anew. endpoint east: params.api_key" in saved.content.decode()


def test_another_host_with_a_new_key_is_saved_with_it(admin_client, group):
    Endpoint.objects.update(api_key=SECRET)
    endpoint = Endpoint.objects.get()
    data = form_of(admin_client, "endpoint_change", endpoint.pk)
    save(
        admin_client, data | {"base_url": "https://other.example", "api_key": "sk-new"}, "endpoint_change", endpoint.pk
    )
    endpoint.refresh_from_db()

    assert stored_secrets.reveal_all()[endpoint.api_key.removeprefix("stored:")] == "sk-new"


def test_a_stored_key_of_another_endpoint_cannot_be_named_for_another_host(admin_client, group):
    Endpoint.objects.update(api_key=SECRET)
    Endpoint.objects.create(group=group, name="thief", model="m", base_url="https://c.example", position=1)
    thief = Endpoint.objects.get(name="thief")
    data = form_of(admin_client, "endpoint_change", thief.pk) | {"api_key": Endpoint.objects.get(name="east").api_key}
    save(admin_client, data, "endpoint_change", thief.pk)
    thief.refresh_from_db()

    assert thief.api_key == ""
