"""Every page and every action of the admin, for every role: on the server, whatever the pages show."""

import importlib

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client
from django.urls import reverse

from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision
from tests.integration.admin_gateway import gateway_in_requests

pytestmark = pytest.mark.django_db

ROLES = ("nobody", "viewer", "operator", "configurator")
SEEN = ("viewer", "operator", "configurator")
OPERATED = ("operator", "configurator")
CONFIGURED = ("configurator",)
DISABLING = ("disable", "drain")


@pytest.fixture
def running(settings):
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        Endpoint.objects.create(group=group, name="east", model="m", api_key="os.environ/EAST_KEY")
    GeneralSettings.objects.get_or_create(pk=1)
    group.strategy = "least_busy"
    group.save()
    importlib.import_module("routing.migrations.0003_roles").make_roles(apps, None)
    importlib.import_module("routing.migrations.0004_roles_see_requests").let_roles_see_requests(apps, None)
    with gateway_in_requests(settings) as gateway:
        yield gateway


@pytest.fixture
def as_role(client, running):
    def logged_in(role):
        user = User.objects.create_user(role, password="x", is_staff=True)
        if role != "nobody":
            user.groups.add(Group.objects.get(name=role))
        client.force_login(user)
        return client

    return logged_in


def url(name):
    """The admin's page `name`; `{group}`, `{endpoint}` stand for what the test made."""
    name, *arguments = name.split()
    known = {"group": ModelGroup.objects.get().pk, "endpoint": Endpoint.objects.get().pk}
    return reverse(f"admin:{name}", args=[known.get(argument, argument) for argument in arguments])


PAGES = {
    "index": ROLES,
    "routing_modelgroup_changelist": SEEN,
    "routing_modelgroup_change group": SEEN,
    "routing_modelgroup_add": CONFIGURED,
    "routing_modelgroup_delete group": CONFIGURED,
    "routing_endpoint_changelist": SEEN,
    "routing_endpoint_change endpoint": SEEN,
    "routing_endpoint_add": CONFIGURED,
    "routing_endpoint_delete endpoint": CONFIGURED,
    "routing_generalsettings_change 1": SEEN,
    "routing_revision_changelist": SEEN,
    "routing_revision_change 1": SEEN,
    "routing_live": SEEN,
    "routing_explain": SEEN,
    "routing_drift": SEEN,
    "routing_export": SEEN,
    "routing_import": CONFIGURED,
    "routing_rollback 1": CONFIGURED,
    "stats_recordedrequest_changelist": SEEN,
    "stats_requests_export": SEEN,
    "auth_user_changelist": (),
    "auth_group_changelist": (),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_for_those_who_may_see_it(as_role, page, role):
    assert as_role(role).get(url(page)).status_code == (200 if role in PAGES[page] else 403)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_opens_without_a_login(client, running, page):
    assert client.get(url(page)).status_code == 302


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", ["enable", "disable", "drain", "reset", "test"])
def test_only_operators_operate(as_role, operation, role):
    answer = as_role(role).post(url(f"routing_operate endpoint {operation}"))

    assert answer.status_code == (302 if role in OPERATED else 403)
    assert Endpoint.objects.get().enabled is not (operation in DISABLING and role in OPERATED)


@pytest.mark.parametrize("role", SEEN)
@pytest.mark.parametrize("action", ["enable", "disable", "drain", "reset", "test"])
def test_only_operators_have_the_bulk_actions(as_role, running, action, role):
    data = {"action": f"{action}_selected", "_selected_action": [Endpoint.objects.get().pk]}
    as_role(role).post(url("routing_endpoint_changelist"), data)

    assert (bool(running.asked), bool(running.ended), not Endpoint.objects.get().enabled) == (
        (action == "test", action == "reset", action in DISABLING) if role in OPERATED else (False, False, False)
    )


@pytest.mark.parametrize("role", ROLES)
def test_only_configurators_change_an_endpoint(as_role, role):
    endpoint = Endpoint.objects.get()
    data = {"group": endpoint.group_id, "name": "east", "model": "m", "weight": 7, "enabled": "on"}
    data |= {"base_url": "https://h.example", "provider": "auto", "ask_usage": "auto", "transport": "auto"}
    as_role(role).post(url("routing_endpoint_change endpoint"), data)

    assert Endpoint.objects.get().weight == (7 if role in CONFIGURED else 1)


@pytest.mark.parametrize("role", ROLES)
def test_only_configurators_edit_in_the_list(as_role, role):
    data = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "form-0-id": Endpoint.objects.get().pk, "_save": ""}
    as_role(role).post(url("routing_endpoint_changelist"), data | {"form-0-weight": 7, "form-0-enabled": "on"})

    assert Endpoint.objects.get().weight == (7 if role in CONFIGURED else 1)


@pytest.mark.parametrize("page", ["routing_endpoint_changelist", "routing_modelgroup_changelist"])
@pytest.mark.parametrize("role", SEEN)
def test_a_list_can_be_saved_by_those_who_may(as_role, page, role):
    assert ('name="_save"' in as_role(role).get(url(page)).content.decode()) is (role in CONFIGURED)


@pytest.mark.parametrize("role", ROLES)
def test_only_configurators_roll_back(as_role, role):
    as_role(role).post(url("routing_rollback 1"), {"message": "back"})

    assert Revision.objects.count() == (3 if role in CONFIGURED else 2)


@pytest.mark.parametrize("role", ROLES)
def test_only_configurators_import(as_role, role):
    answer = as_role(role).post(url("routing_import"), {"text": "model_groups: []\n"})

    assert answer.status_code == (200 if role in CONFIGURED else 403)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_only_looks_sees_no_form_to_save(as_role, role):
    assert 'name="_save"' not in as_role(role).get(url("routing_endpoint_change endpoint")).content.decode()


def test_the_buttons_take_no_get(as_role):
    assert as_role("operator").get(url("routing_operate endpoint drain")).status_code == 405
    assert Endpoint.objects.get().enabled


@pytest.mark.parametrize("page", ["routing_operate endpoint drain", "routing_rollback 1", "routing_import"])
def test_a_post_without_the_token_is_refused(as_role, page):
    as_role("configurator")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="configurator"))

    assert strict.post(url(page), {"text": "x"}).status_code == 403


def test_making_the_roles_twice_changes_nothing(running):
    before = {group.name: group.permissions.count() for group in Group.objects.all()}
    importlib.import_module("routing.migrations.0003_roles").make_roles(apps, None)

    assert {group.name: group.permissions.count() for group in Group.objects.all()} == before
    assert before.keys() >= {"viewer", "operator", "configurator"}
