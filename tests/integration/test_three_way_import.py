"""The file and the admin change the same configuration: imports by command and at a start, drift."""

import io
import json
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from llmproxy_site import start
from routing.config import yaml_file
from routing.config.publish import current_revision, rollback
from routing.config.snapshot import load, read_configuration
from routing.config.yaml_import import Conflicted, drift, import_parsed, plan_import
from routing.models import Endpoint, GeneralSettings, ImportedFile, ModelGroup, Revision, StoredSecret

pytestmark = pytest.mark.django_db

FILE = """\
model_groups:
  - model_group: gpt
    models:
      - {name: east, model: m, weight: 2}
      - {name: west, model: m}
"""
FILE_3 = FILE.replace("weight: 2", "weight: 3")
OTHER = "  - {model_group: other, models: [{name: x, model: m}]}\n"
WITHOUT_WEST = FILE.replace("      - {name: west, model: m}\n", "")


@pytest.fixture
def run(tmp_path):
    """Imports a text; tells exit code and output."""

    def run(text, *options):
        path = tmp_path / "llmproxy.yaml"
        path.write_text(text)
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            call_command("import_config", str(path), *options, stdout=out, stderr=err)
        except SystemExit as ended:
            code = ended.code
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), path=path)

    return run


@pytest.fixture
def conflicted(run):
    """The file said 2; the admin made it 5."""
    run(FILE)
    Endpoint.objects.filter(name="east").update(weight=5)


def east():
    return Endpoint.objects.get(name="east")


def test_importing_again_leaves_what_the_admin_changed(run, conflicted):
    done = run(FILE)

    assert (done.code, done.out, east().weight) == (0, "Nothing to change; the revision is still 2.\n", 5)


def test_both_changes_are_taken_where_they_do_not_meet(run, conflicted):
    done = run(FILE.replace("west, model: m", "west, model: n"))

    assert done.out.splitlines()[0] == "~ endpoint west model: m -> n"
    assert (done.code, east().weight, current_revision()) == (0, 5, 3)


def test_a_conflict_is_listed_side_by_side_and_nothing_is_written(run, conflicted):
    done = run(FILE_3.replace("west, model: m", "west, model: n"))

    assert done.code == 2
    assert done.out.splitlines() == [
        "~ endpoint west model: m -> n",
        "! endpoint east weight: base: 2 | database: 5 | file: 3",
        "Conflicts: 1. Both sides changed since the last import, so nothing was written. "
        "--ours keeps what the database says, --theirs takes what the file says.",
    ]
    assert (current_revision(), east().weight, Endpoint.objects.get(name="west").model) == (2, 5, "m")
    assert run(FILE_3).code == 2


def test_a_conflict_stores_no_secret(run, conflicted):
    assert run(FILE_3.replace("west,", "west, params: {api_key: sk-1},")).code == 2
    assert StoredSecret.objects.count() == 0


@pytest.mark.parametrize(("option", "weight"), [("--ours", 5), ("--theirs", 3)])
def test_a_conflict_can_be_settled(run, conflicted, option, weight):
    done = run(FILE_3, option)

    assert (done.code, east().weight) == (0, weight)
    assert "! endpoint east weight: base: 2 | database: 5 | file: 3" in done.out
    assert run(FILE_3).out.startswith("Nothing to change")


def test_ours_and_theirs_exclude_each_other(run):
    with pytest.raises(CommandError, match="not allowed with"):
        run(FILE, "--ours", "--theirs")


@pytest.mark.parametrize(
    ("options", "code"), [(["--dry-run"], 2), (["--dry-run", "--ours"], 0), (["--dry-run", "--theirs"], 3)]
)
def test_a_dry_run_tells_conflicts_and_writes_nothing(run, conflicted, options, code):
    done = run(FILE_3, *options)

    assert (done.code, current_revision(), east().weight) == (code, 2, 5)
    assert ImportedFile.objects.get().content == import_content(run, FILE)


def import_content(run, text):
    run(text, "--ours")
    return ImportedFile.objects.get().content


def test_conflicts_for_scripts(run, conflicted):
    done = run(FILE_3, "--json")

    assert done.code == 2
    assert json.loads(done.out) == {
        "revision": 2,
        "changes": [],
        "conflicts": [{"what": "endpoint east", "key": "weight", "base": 2, "database": 5, "file": 3}],
        "kept": [],
        "blanked": [],
        "missing": [],
    }


def test_what_the_file_dropped_is_kept_until_prune_however_often_it_is_imported(run):
    run(FILE)
    for _ in range(2):
        assert "Kept, though not in the file (--prune removes): endpoint west" in run(WITHOUT_WEST).out

    assert run(WITHOUT_WEST, "--prune").out.splitlines()[0] == "- endpoint west from gpt"
    assert list(Endpoint.objects.values_list("name", flat=True)) == ["east"]


def test_a_group_that_is_kept_may_not_lose_its_fallback(run):
    last = "  - {model_group: last, models: [{name: y, model: m}]}\n"
    run(FILE.replace("gpt\n", "gpt\n    fallbacks: [other]\n") + OTHER + last)
    Endpoint.objects.filter(name="east").update(weight=5)
    ended = run("model_groups:\n" + last, "--prune", "--ours")

    assert ended.code == 1
    assert 'fallbacks[0] there is no model group "other"' in ended.err
    assert current_revision() == 2


def test_prune_leaves_what_the_admin_made(run):
    run(FILE)
    Endpoint.objects.create(group=ModelGroup.objects.get(), name="mine", model="m", position=9)
    run(WITHOUT_WEST, "--prune")

    assert list(Endpoint.objects.values_list("name", flat=True)) == ["east", "mine"]


def test_an_endpoint_that_the_admin_removed_does_not_come_back(run):
    run(FILE)
    Endpoint.objects.filter(name="west").delete()
    run(FILE_3)

    assert list(Endpoint.objects.values_list("name", "weight")) == [("east", 3)]


def test_a_rollback_survives_the_next_import(run):
    run(FILE)
    run(FILE_3)
    rollback(1, "ada")

    assert run(FILE_3).out.startswith("Nothing to change")
    assert east().weight == 2


def test_what_the_admin_changed_back_is_taken_from_the_file_again(run, conflicted):
    Endpoint.objects.filter(name="east").update(weight=2)

    assert (run(FILE_3).code, east().weight) == (0, 3)


def test_a_file_that_does_not_fit_to_the_database_is_refused(run):
    run(FILE + OTHER)
    ModelGroup.objects.filter(name="other").delete()
    done = run(FILE.replace("gpt\n", "gpt\n    fallbacks: [other]\n") + OTHER)

    assert done.code == 1
    assert 'together with what the database holds: model_groups[0].fallbacks[0] there is no model group "other"' in (
        done.err
    )
    assert list(ModelGroup.objects.values_list("fallbacks", flat=True)) == [[]]


def test_a_plan_can_be_seen_before_it_is_carried_out(conflicted):
    parsed = yaml_file.parse(FILE_3.encode(), "uploaded.yaml")
    plan = plan_import(parsed, winner="file")
    assert (east().weight, current_revision()) == (5, 2)
    done = import_parsed(parsed, author="ada", source="admin", message="from a page", winner="file")

    assert (done.changes, done.conflicts, done.revision) == (plan.changes, plan.conflicts, 3)
    assert (Revision.objects.first().author, Revision.objects.first().message) == ("ada", "from a page")


def test_conflicts_can_be_won_one_by_one(run, conflicted):
    Endpoint.objects.filter(name="west").update(weight=5)
    parsed = yaml_file.parse(FILE_3.replace("west, model: m", "west, model: m, weight: 7").encode(), "uploaded.yaml")
    one, other = plan_import(parsed).undecided
    with pytest.raises(Conflicted) as refused:
        import_parsed(parsed, author="ada", source="admin", winner={one.id: "file"})
    before = current_revision()
    done = import_parsed(parsed, author="ada", source="admin", winner={one.id: "file", other.id: "database"})

    assert (refused.value.plan.undecided, before, done.undecided) == ((other,), 3, ())
    assert list(Endpoint.objects.values_list("name", "weight")) == [("east", 3), ("west", 5)]


def test_a_start_keeps_the_admins_value_and_warns_once(run, conflicted, monkeypatch):
    path = run(FILE_3).path
    warnings = []
    start._import(path, warnings.append)

    assert east().weight == 5
    assert warnings == ["endpoint east weight was changed in llmproxy.yaml and in the admin: the admin's value stays."]
    start._import(path, warnings.append)
    assert len(warnings) == 1


def test_a_start_goes_on_when_the_file_does_not_fit_to_the_database(run):
    run(FILE + OTHER)
    ModelGroup.objects.filter(name="other").delete()
    path = run(FILE.replace("gpt\n", "gpt\n    fallbacks: [other]\n") + OTHER).path
    warnings = []
    start._import(path, warnings.append)

    assert warnings[0].startswith("llmproxy.yaml was not imported, the database counts.")


def test_a_start_with_a_bad_file_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("model_groups: 7\n")
    with pytest.raises(start.StartRefused):
        start._import(path, print)


def test_without_an_import_there_is_no_drift():
    assert drift() is None


def test_drift_tells_what_differs_from_the_last_imported_file(run):
    run(FILE)
    assert drift().changes == ()
    Endpoint.objects.filter(name="east").update(weight=5)
    GeneralSettings.objects.update_or_create(pk=1, defaults={"num_retries": 9})
    told = drift()

    assert told.file.endswith("llmproxy.yaml")
    assert [(change.what, change.key, change.before, change.after) for change in told.changes] == [
        ("endpoint east", "weight", 2, 5),
        ("general settings", "num_retries", 3, 9),
    ]


def test_an_export_imported_again_ends_the_drift(run, conflicted):
    out = io.StringIO()
    call_command("export_config", stdout=out)
    done = run(out.getvalue())

    assert done.out == "Nothing to change; the revision is still 2.\n"
    assert drift().changes == ()


ORIGINAL = """\
model_groups:
  - model_group: gpt-4o
    models:
      - model: gpt-4o
        weight: 1
        params:
          api_key: os.environ/AZURE_KEY
          base_url: https://east.openai.azure.com/openai/deployments/gpt-4o
          default_query:
            api-version: "2024-10-21"
      - model: gpt-4o
        weight: 2
        params:
          api_key: os.environ/OPENAI_KEY
          base_url: https://west.openai.azure.com/
          api_version: 2025-04-01-preview
general_settings:
  bind_address: 0.0.0.0
  bind_port: 4243
  num_retries: 3
  allowed_fails: 1
  cooldown_time: 60
  redis_host: os.environ/REDIS_HOST
  redis_port: 6379
  redis_password: os.environ/REDIS_PASSWORD
  redis_ssl: false
  cache: true
  cache_params:
    type: redis
    host: os.environ/REDIS_HOST
    port: 6379
    password: os.environ/REDIS_PASSWORD
    ttl: 604800
    namespace: llmproxy.cache
  http_timeout: 600
  http_max_connections: 1000
"""


def test_a_file_of_the_original_imports_and_exports_as_a_no_op(run):
    assert run(ORIGINAL).code == 0
    out = io.StringIO()
    call_command("export_config", stdout=out)

    assert load().configuration == yaml_file.parse(ORIGINAL.encode(), "f").configuration
    assert "os.environ/REDIS_PASSWORD" in out.getvalue()
    assert run(out.getvalue(), "--prune").out == "Nothing to change; the revision is still 1.\n"


def test_an_import_within_a_transaction_is_a_part_of_it(run):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        run(FILE)
        raise ZeroDivisionError

    assert (read_configuration().model_groups, ImportedFile.objects.count(), current_revision()) == ([], 0, 0)
