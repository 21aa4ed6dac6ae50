"""Whatever sequence of edits, imports, rollbacks and exports: the last revision says what the tables hold, numbers have
no gap, and importing what was exported changes nothing."""

import contextlib
import io
import tempfile
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from routing.config import yaml_file
from routing.config.differences import differences
from routing.config.publish import ChangeRefused, configuration_of, current_revision, digest_of, rollback
from routing.config.snapshot import load, read_configuration
from routing.config.yaml_import import CannotMerge, Conflicted, drift, import_file
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision
from tests.unit.config.configurations import configurations

pytestmark = pytest.mark.django_db

_refusable = contextlib.suppress(ChangeRefused)
weights = st.integers(0, 9)
picks = st.integers(0, 99)
hosts = st.sampled_from(["https://a.example", "https://b.example", "os.environ/URL"])
keys = st.sampled_from(["", "sk-1", "sk-2", "os.environ/KEY"])


def one_of(rows, pick):
    rows = list(rows.order_by("pk"))
    return rows[pick % len(rows)] if rows else None


class History(RuleBasedStateMachine):
    """Each rule is one change, and may make at most one revision."""

    def __init__(self):
        super().__init__()
        self._savepoint = transaction.atomic()
        self._savepoint._from_testcase = True  # as the test case's own: what happens inside is committed at once
        self._savepoint.__enter__()
        self._directory = tempfile.TemporaryDirectory()
        self._file = Path(self._directory.name) / "llmproxy.yaml"
        self._known = 0
        self._client = None

    def teardown(self):
        transaction.set_rollback(True)
        self._savepoint.__exit__(None, None, None)
        self._directory.cleanup()

    @rule(pick=picks, weight=weights, url=hosts, key=keys)
    def save_an_endpoint(self, pick, weight, url, key):
        if row := one_of(Endpoint.objects, pick):
            row.weight, row.api_key = weight, key
            row.base_url = url
            row.references = {}
            with _refusable:
                row.save()

    @rule(weight=weights)
    def update_all(self, weight):
        Endpoint.objects.update(enabled=weight > 4)

    @rule(pick=picks)
    def delete_an_endpoint(self, pick):
        if row := one_of(Endpoint.objects, pick):
            with _refusable:
                row.delete()

    @rule(pick=picks)
    def delete_a_group(self, pick):
        if row := one_of(ModelGroup.objects, pick):
            with _refusable:
                row.delete()

    @rule(pick=picks, name=st.sampled_from(["x", "y", "z"]), position=weights)
    def add_an_endpoint(self, pick, name, position):
        group = one_of(ModelGroup.objects, pick)
        if group and not Endpoint.objects.filter(name=name).exists():
            Endpoint.objects.create(group=group, name=name, model="m", position=position)

    @rule(pick=picks, to=picks, position=weights)
    def move_an_endpoint(self, pick, to, position):
        if row := one_of(Endpoint.objects, pick):
            row.group = one_of(ModelGroup.objects, to)
            row.position = position
            with _refusable:
                row.save()

    @rule(weight=weights)
    def several_at_once(self, weight):
        with transaction.atomic():
            Endpoint.objects.update(weight=weight)
            GeneralSettings.objects.update_or_create(pk=1, defaults={"num_retries": weight, "references": {}})
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                Endpoint.objects.update(rpm=weight + 1)
                raise ZeroDivisionError

    @rule(configuration=configurations(), prune=st.booleans(), winner=st.sampled_from([None, "database", "file"]))
    def import_a_file(self, configuration, prune, winner):
        self._file.write_text(yaml_file.dump(configuration), encoding="utf-8")
        before = read_configuration()
        try:
            result = import_file(self._file, author="a", source="test", prune=prune, winner=winner)
        except (Conflicted, CannotMerge):
            assert read_configuration() == before
        else:
            assert list(result.changes) == differences(before, read_configuration())

    @precondition(lambda self: self._known)
    @rule(pick=picks)
    def roll_back(self, pick):
        number = 1 + pick % self._known
        rollback(number, "a")
        assert read_configuration() == configuration_of(Revision.objects.get(number=number))

    @rule(pick=picks)
    def delete_in_the_admin(self, pick):
        if row := one_of(Endpoint.objects, pick):
            self._admin().post(reverse("admin:routing_endpoint_delete", args=[row.pk]), {"post": "yes"})

    @rule(prune=st.booleans(), anew=st.booleans())
    def export_and_import(self, prune, anew):
        if anew:
            self._file.unlink(missing_ok=True)
        call_command("export_config", str(self._file), stdout=io.StringIO(), stderr=io.StringIO())
        number = current_revision()
        result = import_file(self._file, author="a", source="test", prune=prune)

        assert (result.changes, result.conflicts, result.kept, result.revision) == ((), (), (), number)
        assert drift().changes == ()

    @invariant()
    def the_last_revision_is_what_the_tables_hold(self):
        tables = read_configuration()
        last = Revision.objects.first()
        assert digest_of(tables) == (last.digest if last else digest_of(type(tables)()))
        assert load().configuration == tables
        if last:
            assert configuration_of(last) == tables

    @invariant()
    def each_change_made_one_revision_at_most(self):
        numbers = list(Revision.objects.values_list("number", flat=True))
        assert numbers == list(range(len(numbers), 0, -1))
        assert len(numbers) - self._known in (0, 1)
        self._known = len(numbers)

    def _admin(self):
        if self._client is None:
            self._client = Client()
            self._client.force_login(get_user_model().objects.create_superuser("history"))
        return self._client


def test_any_history_is_consistent():
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
