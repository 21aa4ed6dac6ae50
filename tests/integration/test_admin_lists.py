"""Editing in the lists of the admin: weights and switches of endpoints, the order of groups."""

import pytest
from django.db import transaction
from django.urls import reverse

from routing.config import publish
from routing.config.snapshot import load
from routing.models import Endpoint, ModelGroup, Revision
from tests.integration.test_admin_config import form_of, page, save
from tests.integration.test_admin_operations import told

pytestmark = pytest.mark.django_db


@pytest.fixture
def three():
    """A group with three endpoints, published."""
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        for position, name in enumerate(["east", "north", "west"]):
            Endpoint.objects.create(group=group, name=name, model="m", position=position)
    return group


@pytest.fixture
def five_groups():
    """a to e; all at position 0, as ORM code leaves them."""
    with transaction.atomic():
        for name in "abcde":
            Endpoint.objects.create(group=ModelGroup.objects.create(name=name), name=f"of-{name}", model="m")


def fields_of(form):
    """What a browser sends of one form, with what the page showed at first."""
    sent = {}
    for field in form:
        for name, value in ((field.html_name, field.value()), (field.html_initial_name, field.initial)):
            shown_first = name == field.html_initial_name
            if (shown_first and not field.field.show_hidden_initial) or value is None:
                continue
            if shown_first or not isinstance(value, bool):
                sent[name] = str(value)
            elif value:
                sent[name] = "on"
    return sent


def listed(client, model, **query):
    """What a browser would send back of a list without any edit."""
    formset = client.get(reverse(f"admin:routing_{model}_changelist"), query).context["cl"].formset
    sent = fields_of(formset.management_form)
    for form in formset.forms:
        sent |= fields_of(form)
    return sent | {"_save": "Save"}


def save_list(client, model, sent, **query):
    return client.post(reverse(f"admin:routing_{model}_changelist", query=query or None), sent, follow=True)


def weights():
    return list(Endpoint.objects.order_by("position").values_list("weight", flat=True))


def errors(response):
    return [dict(form.errors) for form in response.context["cl"].formset.forms]


# -- weights and switches


def test_a_list_saved_without_an_edit_makes_no_revision(admin_client, three):
    save_list(admin_client, "endpoint", listed(admin_client, "endpoint"))

    assert publish.current_revision() == 1


def test_all_edits_of_a_list_are_one_revision(admin_client, admin_user, three):
    sent = listed(admin_client, "endpoint") | {"form-0-weight": "7", "form-1-weight": "0", "_why": "tuning"}
    del sent["form-2-enabled"]
    saved = save_list(admin_client, "endpoint", sent)
    last = Revision.objects.first()

    assert told(saved) == ["3 endpoints were changed successfully."]
    assert [(model.weight, model.enabled) for model in load().configuration.model_groups[0].models] == [
        (7, True),
        (0, True),
        (1, False),
    ]
    assert (last.number, last.author, last.source, last.message) == (2, admin_user.username, "admin", "tuning")
    assert len(last.changes) == 3


def test_a_bulk_action_left_chosen_does_not_run_on_save(admin_client, three):
    sent = listed(admin_client, "endpoint") | {"form-0-weight": "7", "form-1-weight": "8", "action": "drain_selected"}
    save_list(admin_client, "endpoint", sent | {"_selected_action": [Endpoint.objects.first().pk]})

    assert (publish.current_revision(), weights()) == (2, [7, 8, 1])
    assert Endpoint.objects.filter(enabled=True).count() == 3


@pytest.mark.parametrize("weight", ["-1", "", "1.5", "x", "99999999999999999999"])
def test_a_bad_weight_is_an_error_at_its_field_and_nothing_is_saved(admin_client, three, weight):
    refused = save_list(
        admin_client, "endpoint", listed(admin_client, "endpoint") | {"form-0-weight": "7", "form-1-weight": weight}
    )

    assert [row.keys() for row in errors(refused)] == [set(), {"weight"}, set()]
    assert (weights(), publish.current_revision()) == ([1, 1, 1], 1)


def test_what_yaml_would_refuse_is_an_error_at_its_field(admin_client, three):
    Endpoint.objects.filter(name="east").update(references={"weight": "os.environ/W"})
    refused = save_list(admin_client, "endpoint", listed(admin_client, "endpoint") | {"form-0-weight": "much"})

    assert errors(refused)[0] == {"weight": ["must be a whole number"]}


def test_a_weight_that_is_a_reference_stays_one(admin_client, three):
    Endpoint.objects.filter(name="east").update(references={"weight": "os.environ/W"})
    sent = listed(admin_client, "endpoint")
    del sent["form-0-enabled"]
    save_list(admin_client, "endpoint", sent)
    model = load().configuration.model_groups[0].models[0]

    assert (sent["form-0-weight"], model.weight, model.enabled) == ("os.environ/W", "os.environ/W", False)


def test_an_old_list_does_not_undo_what_others_have_switched_meanwhile(admin_client, three):
    sent = listed(admin_client, "endpoint") | {"form-0-weight": "7"}
    Endpoint.objects.filter(name="east").update(enabled=False)
    Endpoint.objects.filter(name="north").update(weight=3)
    save_list(admin_client, "endpoint", sent)

    assert (Endpoint.objects.get(name="east").enabled, weights()) == (False, [7, 3, 1])


def test_an_old_page_of_a_group_does_not_undo_what_others_have_switched_meanwhile(admin_client, three):
    response = admin_client.get(reverse("admin:routing_modelgroup_change", args=[three.pk]))
    sent = form_of(admin_client, "modelgroup_change", three.pk)
    for form in response.context["inline_admin_formsets"][0].formset.initial_forms:
        sent |= fields_of(form)
    Endpoint.objects.filter(name="east").update(enabled=False, weight=5)
    save(admin_client, sent | {"endpoints-0-model": "other"}, "modelgroup_change", three.pk)
    east = Endpoint.objects.get(name="east")

    assert (east.model, east.enabled, east.weight) == ("other", False, 5)


# -- the order of groups


def drag(client, *names, **query):
    """The rows of the page, dropped in this order: the browser numbers those that it shows."""
    sent = listed(client, "modelgroup", **query)
    name_of = {str(group.pk): group.name for group in ModelGroup.objects.all()}
    for field, pk in list(sent.items()):
        if field.endswith("-id"):
            sent[field.replace("-id", "-position")] = str(names.index(name_of[pk]))
    return save_list(client, "modelgroup", sent, **query)


def published():
    return "".join(group.model_group for group in load().configuration.model_groups)


def test_dragging_groups_is_one_revision(admin_client, five_groups):
    drag(admin_client, *"aebcd")

    assert (published(), publish.current_revision()) == ("aebcd", 2)
    assert [change["kind"] for change in Revision.objects.first().changes] == ["moved"]


def test_groups_that_the_page_does_not_show_keep_their_places(admin_client, five_groups):
    ModelGroup.objects.filter(name="b").update(name="bx")
    ModelGroup.objects.filter(name="d").update(name="dx")
    drag(admin_client, "dx", "bx", q="x")

    assert published() == "adxcbxe"


def test_a_list_of_groups_saved_without_dragging_makes_no_revision(admin_client, five_groups):
    save_list(admin_client, "modelgroup", listed(admin_client, "modelgroup"))

    assert (published(), publish.current_revision()) == ("abcde", 1)


def test_a_forged_row_is_no_error_of_the_server(admin_client, five_groups):
    sent = listed(admin_client, "modelgroup") | {"form-0-id": "nonsense"}

    assert save_list(admin_client, "modelgroup", sent).status_code == 200
    assert published() == "abcde"


# -- large and small things


def test_a_large_group_is_saved_as_one_revision(admin_client):
    """More fields than Django takes by itself."""
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        rows = [Endpoint(group=group, name=f"e{number}", model="m", position=number) for number in range(130)]
        Endpoint.objects.bulk_create(rows)
    sent = form_of(admin_client, "modelgroup_change", group.pk)
    saved = save(admin_client, sent | {"endpoints-129-weight": "9"}, "modelgroup_change", group.pk)

    assert (len(sent) > 1000, saved.status_code, publish.current_revision()) == (True, 200, 2)
    assert Endpoint.objects.get(name="e129").weight == 9


def test_names_stand_above_the_page_as_they_were_written(admin_client):
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt-4o")
        endpoint = Endpoint.objects.create(group=group, name="azure-east", model="m")
    pages = [page(admin_client, "modelgroup_change", group.pk), page(admin_client, "endpoint_change", endpoint.pk)]
    titles = [" ".join(shown.split("<h1")[1].split("</h1>")[0].split()) for shown in pages]

    assert [name in title for name, title in zip(["> gpt-4o <", "> azure-east <"], titles, strict=True)] == [True, True]
    assert "> Model groups <" in titles[0]
