"""check_config, import_config, export_config against a real database."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import HealthCheck, given, settings

from routing.config import publish, stored_secrets, yaml_file, yaml_import
from routing.config.schema import CacheParams, Configuration, EndpointConfig, GroupConfig, Params
from routing.config.schema import GeneralSettings as Settings
from routing.config.snapshot import load, read_configuration, write_configuration
from routing.config.wording import ConfigurationInvalid
from routing.management.commands import export_config
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision, StoredSecret
from tests.unit.config.configurations import configurations

pytestmark = pytest.mark.django_db

PLAIN = """\
model_groups:
  - model_group: gpt
    models:
      - name: east
        model: m
        params:
          api_key: os.environ/EAST_KEY
"""
WITH_SECRETS = """\
model_groups:
  - model_group: gpt
    models:
      - name: east
        model: m
        params:
          api_key: sk-literal
          default_headers: {x-token: t0ken, x-team: blue, x-tenant: Bearer sk-tenant}
          default_query: {key: qkey, code: qcode}
      - {name: west, model: m, params: {api_key: sk-literal}}
general_settings:
  redis_url: redis://h:1/2?password=urlpass
  cache_params: {password: cachepass}
"""
SECRETS = ("sk-literal", "t0ken", "sk-tenant", "qkey", "qcode", "urlpass", "cachepass")


@pytest.fixture
def run(tmp_path, settings):
    """Runs a command: text is what stands in its file."""
    settings.LLMPROXY_VARIABLES = lambda: {"EAST_KEY": "sk-east"}

    def run(command, text, *options):
        path = tmp_path / "llmproxy.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            call_command(command, str(path), *options, stdout=out, stderr=err)
        except SystemExit as ended:
            code = ended.code
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), path=path)

    return run


def run_in(path, command, *options):
    """Runs a command on a file as it is."""
    out, err = io.StringIO(), io.StringIO()
    call_command(command, str(path), *options, stdout=out, stderr=err)
    return SimpleNamespace(out=out.getvalue(), err=err.getvalue())


def past_the_orm(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)


def exported():
    out = io.StringIO()
    call_command("export_config", stdout=out)
    return out.getvalue()


def test_import_makes_one_revision_and_tells_what_changed(run):
    done = run("import_config", PLAIN)

    assert (done.code, publish.current_revision(), Revision.objects.count()) == (0, 1, 1)
    assert done.out.splitlines() == [
        "+ model group gpt",
        "+ endpoint east in gpt",
        "    model: m",
        "    params.api_key: os.environ/EAST_KEY",
        "Imported as revision 1. Changes: 2.",
    ]


def test_importing_the_same_again_makes_no_revision_and_says_so(run):
    run("import_config", PLAIN)

    assert run("import_config", PLAIN).out == "Nothing to change; the revision is still 1.\n"
    assert Revision.objects.count() == 1


def test_a_dry_run_finds_changes_and_writes_nothing(run):
    done = run("import_config", WITH_SECRETS, "--dry-run")

    assert (done.code, ModelGroup.objects.count(), Revision.objects.count(), StoredSecret.objects.count()) == (
        3,
        0,
        0,
        0,
    )
    assert "+ endpoint east in gpt" in done.out


def test_a_dry_run_without_changes_ends_well(run):
    run("import_config", PLAIN)

    assert run("import_config", PLAIN, "--dry-run").code == 0


def test_a_changed_value_is_told_with_before_and_after(run):
    run("import_config", PLAIN)

    assert (
        "~ endpoint east weight: 1 -> 3\n"
        in run("import_config", PLAIN.replace("model: m\n", "model: m\n        weight: 3\n")).out
    )


def test_what_the_file_does_not_name_stays_and_is_told(run):
    run("import_config", PLAIN)
    done = run("import_config", PLAIN.replace("east", "west"))

    assert "Kept, though not in the file (--prune removes): endpoint east\n" in done.out
    assert list(Endpoint.objects.values_list("name", flat=True)) == ["west", "east"]


def test_prune_removes_what_the_file_does_not_name(run):
    run("import_config", PLAIN + "general_settings: {num_retries: 9}\n")
    run("import_config", "model_groups: []\n", "--prune")

    assert (ModelGroup.objects.count(), Endpoint.objects.count(), read_configuration()) == (0, 0, Configuration())


def test_a_file_without_general_settings_keeps_them(run):
    run("import_config", PLAIN + "general_settings: {num_retries: 9}\n")
    run("import_config", PLAIN)

    assert GeneralSettings.objects.get().num_retries == 9


def test_rows_keep_their_identity_when_their_group_changes(run):
    run("import_config", PLAIN)
    key = Endpoint.objects.get(name="east").pk
    run("import_config", PLAIN.replace("model_group: gpt", "model_group: other"), "--prune")

    assert Endpoint.objects.get(pk=key).group.name == "other"
    assert not ModelGroup.objects.filter(name="gpt").exists()


def test_a_bad_file_names_line_and_column_and_changes_nothing(run):
    run("import_config", PLAIN)
    done = run("import_config", PLAIN.replace("model: m\n", "model: m\n        weight: -1\n").replace("gpt", "new"))

    assert done.code == 1
    assert done.err == f"{done.path}:6:17 model_groups[0].models[0].weight must be at least 0\n"
    assert (publish.current_revision(), list(ModelGroup.objects.values_list("name", flat=True))) == (1, ["gpt"])


def test_a_file_that_is_not_there_is_an_error_of_one_line(tmp_path):
    err = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("import_config", str(tmp_path / "none.yaml"), stderr=err)

    assert (ended.value.code, err.getvalue()) == (
        1,
        f"{tmp_path}/none.yaml:1:1 cannot be read: No such file or directory\n",
    )


def test_wrong_usage_is_told_apart_from_a_bad_file():
    with pytest.raises(CommandError):
        call_command("import_config")


def test_missing_references_are_named_together_and_sorted_and_only_warned_about(run):
    extra = "      - {name: b, model: m, params: {api_key: os.environ/Z, base_url: os.environ/A}}\n"
    done = run("import_config", PLAIN + extra)

    assert (done.code, done.err) == (
        0,
        "Warning: no usable value for os.environ/A, os.environ/Z\nWarning: out of service until they have one: b\n",
    )


def test_check_config_fails_for_missing_references(run):
    extra = "      - {name: b, model: m, params: {api_key: os.environ/Z, base_url: os.environ/A}}\n"
    done = run("check_config", PLAIN + extra)

    assert done.code == 1
    assert done.err.endswith(
        ": no value for os.environ/A, os.environ/Z: set the variables, or put the secret files there\n"
    )


def test_check_config_tells_why_a_value_cannot_be_used(run):
    done = run("check_config", PLAIN.replace("model: m\n", "model: m\n        weight: os.environ/EAST_KEY\n"))

    assert (done.code, done.err) == (1, f"{done.path}: os.environ/EAST_KEY: must be a whole number\n")


def test_check_config_names_all_problems(run):
    done = run("check_config", "model_groups:\n  - models: []\nwrong: 1\n")

    assert done.code == 1
    assert [line.removeprefix(f"{done.path}:").split()[0] for line in done.err.splitlines()] == ["2:5", "2:13", "3:1"]


def test_check_config_accepts_a_good_file(run):
    assert run("check_config", PLAIN).code == 0


def test_json_output_is_for_scripts(run):
    told = json.loads(run("import_config", PLAIN, "--json").out)

    assert (told["revision"], told["kept"], told["missing"]) == (1, [], [])
    assert told["changes"][0] == {"kind": "added", "what": "model group gpt", "key": "", "before": None, "after": {}}


def test_secrets_of_a_file_are_stored_encrypted_and_never_shown(run):
    done = run("import_config", WITH_SECRETS)
    everything = [
        done.out + done.err,
        exported(),
        repr(list(Revision.objects.values())),
        repr(list(Endpoint.objects.values())),
        repr(list(GeneralSettings.objects.values())),
        repr(list(StoredSecret.objects.values())),
        repr(load()),
    ]

    assert [secret for secret in SECRETS for text in everything if secret in text] == []
    assert "x-team: blue" in exported()


def test_workers_get_the_stored_secrets_back(run):
    run("import_config", WITH_SECRETS)
    resolution = publish.resolved(load().configuration)
    params = resolution.configuration.model_groups[0].models[0].params

    assert (params.api_key, params.default_headers["x-token"], params.default_query["key"]) == (
        "sk-literal",
        "t0ken",
        "qkey",
    )
    assert resolution.configuration.general_settings.redis_url == "redis://h:1/2?password=urlpass"
    assert resolution.all_missing == ()


def test_one_secret_is_stored_once(run):
    run("import_config", WITH_SECRETS)
    run("import_config", WITH_SECRETS)

    assert (StoredSecret.objects.count(), publish.current_revision()) == (len(SECRETS), 1)


def test_export_then_import_changes_nothing(run):
    run("import_config", WITH_SECRETS)
    text = exported()

    assert "stored:" in text
    assert run("import_config", text, "--prune").out == "Nothing to change; the revision is still 1.\n"
    assert exported() == text


def test_an_unknown_stored_key_is_refused_with_the_remedy(run):
    done = run("import_config", PLAIN.replace("os.environ/EAST_KEY", "stored:0123456789abcdef"))

    assert (done.code, publish.current_revision()) == (1, 0)
    assert done.err == (
        f"{done.path}:7:20 model_groups[0].models[0].params.api_key names a stored key that this database does not have: "
        "write the key itself or os.environ/NAME\n"
    )


def test_a_secret_that_cannot_be_decrypted_is_missing(run):
    run("import_config", WITH_SECRETS)
    StoredSecret.objects.update(ciphertext="gAAAAABnonsense")
    resolution = publish.resolved(load().configuration)

    assert set(resolution.missing) == {"east", "west"}
    assert resolution.configuration.model_groups[0].models[0].params.api_key is None


def test_secrets_survive_a_new_encryption_key_in_front(run, settings):
    run("import_config", WITH_SECRETS)
    before = exported()
    newer = "bmV3ZXIta2V5LW5ld2VyLWtleS1uZXdlci1rZXktMTI="
    keys = (newer, *settings.LLMPROXY.encryption_keys)
    settings.LLMPROXY = settings.LLMPROXY.model_copy(update={"encryption_keys": keys})
    done = run("import_config", WITH_SECRETS)

    assert (done.out, exported()) == ("Nothing to change; the revision is still 1.\n", before)


def test_export_writes_a_file_whole(run, tmp_path):
    run("import_config", PLAIN)
    target = tmp_path / "out.yaml"
    call_command("export_config", str(target), stdout=io.StringIO())

    assert target.read_text() == exported()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_export_into_a_file_changes_only_what_differs(run, settings):
    text = (settings.BASE_DIR / EXAMPLE).read_text(encoding="utf-8")
    path = run("import_config", text).path
    Endpoint.objects.filter(name="openai").update(weight=9)
    done = run_in(path, "export_config")

    assert (done.out, done.err) == (f"Wrote {path}\n", "")
    assert path.read_text(encoding="utf-8") == text.replace("weight: 3 ", "weight: 9 ")


def test_export_of_what_the_file_says_leaves_every_byte(run):
    text = PLAIN.replace("\n", "   # why\r\n") + "# the end, without a line break"
    path = run("import_config", text).path
    run_in(path, "export_config")

    assert path.read_bytes() == text.encode()


def test_export_replaces_a_key_that_stands_there_in_clear(run):
    path = run("import_config", WITH_SECRETS).path
    run_in(path, "export_config")

    assert [secret for secret in SECRETS if secret in path.read_text()] == []
    assert run("import_config", path.read_text()).out == "Nothing to change; the revision is still 1.\n"


@pytest.mark.parametrize("old", ["", "no: configuration\n", "model_groups: [\n", b"\xff\xfe"])
def test_export_into_a_file_that_is_no_configuration_writes_it_anew_and_says_so(run, old):
    path = run("import_config", PLAIN).path
    path.write_bytes(old if isinstance(old, bytes) else old.encode())
    done = run_in(path, "export_config")

    assert done.err.startswith(f"Written anew, without the comments and the order of the old file: {path}:")
    assert path.read_text() == exported()


def test_export_into_a_file_that_cannot_be_kept_writes_it_anew_and_says_so(run, monkeypatch):
    path = run("import_config", "# ours\n" + PLAIN).path
    monkeypatch.setattr(export_config, "updated", lambda *arguments: None)
    done = run_in(path, "export_config")

    assert done.err.endswith(": it is spelled in a way that cannot be kept\n")
    assert path.read_text() == exported()


def test_an_export_that_fails_leaves_the_old_file(run, monkeypatch):
    path = run("import_config", PLAIN).path
    Endpoint.objects.update(weight=5)

    def fail(draft, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(CommandError, match="cannot be written: No space left on device"):
        run_in(path, "export_config")

    assert (path.read_text(), [one.name for one in path.parent.iterdir()]) == (PLAIN, ["llmproxy.yaml"])


def test_export_into_a_missing_directory_is_an_error_of_one_line(tmp_path):
    with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
        call_command("export_config", str(tmp_path / "none" / "out.yaml"))


def test_workers_load_the_published_revision_not_later_rows(run):
    run("import_config", PLAIN)
    past_the_orm("UPDATE routing_endpoint SET weight = 9")
    loaded = load()

    assert (loaded.revision, loaded.configuration.model_groups[0].models[0].weight) == (1, 1)


def test_before_the_first_revision_workers_load_the_tables():
    write_configuration(yaml_file.parse(PLAIN.encode(), "f").configuration)
    Revision.objects.all().delete()
    loaded = load()

    assert (loaded.revision, [group.model_group for group in loaded.configuration.model_groups]) == (0, ["gpt"])


def test_rows_written_past_the_schema_cannot_be_published(run):
    run("import_config", PLAIN)
    past_the_orm("""UPDATE routing_modelgroup SET fallbacks = '["nobody"]'""")

    with pytest.raises(ConfigurationInvalid, match="nobody"):
        publish.publish(author="a", source="shell")


def test_an_import_with_prune_mends_broken_rows(run):
    run("import_config", PLAIN)
    past_the_orm("UPDATE routing_endpoint SET base_url = 'nonsense'")

    with pytest.raises(CommandError, match="--prune"):
        run("import_config", PLAIN)
    assert run("import_config", PLAIN, "--prune").code == 0
    assert read_configuration() == yaml_file.parse(PLAIN.encode(), "f").configuration


def test_a_revision_tells_who_and_from_where(run):
    run("import_config", PLAIN)
    revision = Revision.objects.get()

    assert (revision.source, bool(revision.author), len(revision.digest)) == ("import of llmproxy.yaml", True, 64)


def test_a_failure_in_the_middle_leaves_everything_as_it_was(run, monkeypatch):
    run("import_config", PLAIN)

    def fail(configuration):
        raise RuntimeError("power cut")

    monkeypatch.setattr(publish, "digest_of", fail)
    with pytest.raises(RuntimeError):
        run("import_config", WITH_SECRETS)

    assert (list(Endpoint.objects.values_list("name", "api_key")), StoredSecret.objects.count()) == (
        [("east", "os.environ/EAST_KEY")],
        0,
    )


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(configurations())
def test_the_tables_give_back_what_was_written(configuration):
    write_configuration(configuration)

    assert read_configuration() == stored_secrets.hide(configuration)


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(first=configurations(), second=configurations())
def test_any_import_after_any_other_exports_as_a_no_op(tmp_path, first, second):
    path = tmp_path / "f.yaml"
    for configuration in (first, second):
        path.write_text(yaml_file.dump(configuration), encoding="utf-8")
        yaml_import.import_file(path, author="a", source="test", prune=True)
    call_command("export_config", str(path), stdout=io.StringIO())

    assert yaml_import.import_file(path, author="a", source="test").changes == ()
    assert load().configuration == read_configuration() == stored_secrets.hide(second)


EXAMPLE = "llmproxy.yaml.example"


def test_the_example_is_good_when_its_variables_are_set(settings):
    settings.LLMPROXY_VARIABLES = lambda: {"OPENAI_API_KEY": "a", "AZURE_OPENAI_API_KEY": "b"}
    out = io.StringIO()
    call_command("check_config", str(settings.BASE_DIR / EXAMPLE), stdout=out)

    assert " is good. " in out.getvalue()


def test_the_example_imports_without_its_variables_and_warns(settings):
    settings.LLMPROXY_VARIABLES = dict
    err = io.StringIO()
    call_command("import_config", str(settings.BASE_DIR / EXAMPLE), stdout=io.StringIO(), stderr=err)

    assert "Warning: no usable value for os.environ/AZURE_OPENAI_API_KEY, os.environ/OPENAI_API_KEY\n" in err.getvalue()
    assert load().revision == 1


@pytest.mark.parametrize("section", [GroupConfig, EndpointConfig, Params, Settings, CacheParams])
def test_the_example_shows_every_key(section, settings):
    text = (settings.BASE_DIR / EXAMPLE).read_text()

    assert [key for key in section.model_fields if not re.search(rf"^[\s#-]*{key}:", text, re.MULTILINE)] == []
