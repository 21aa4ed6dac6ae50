"""Real processes on one real database file: killed in the middle of an import, and writing all at once."""

import base64
import json
import signal
import subprocess
import sys

import pytest

from llmproxy_site.environment import PROJECT, with_changes

OLD = "model_groups: [{model_group: old, models: [{name: old, model: m}]}]\n"
NEW = (
    "model_groups:\n"
    + "".join(
        f"  - {{model_group: g{number}, models: [{{name: e{number}, model: m, params: {{api_key: sk-{number}}}}}]}}\n"
        for number in range(5)
    )
    + "general_settings: {num_retries: 9}\n"
)
# Ends the process by SIGKILL before its nth writing statement.
KILLED = """
import os, signal
from django.db import connection
from django.core.management import call_command
left = {nth}
def count(execute, sql, params, many, context):
    global left
    if sql.split()[0] in ("INSERT", "UPDATE", "DELETE", "RELEASE", "COMMIT"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return execute(sql, params, many, context)
with connection.execute_wrapper(count):
    call_command("import_config", {file!r}, "--prune")
print("writes", {nth} - left)
"""
KILLED_AT = (1, 12, 20, 27)
TOLD = """
import json
from routing.config.snapshot import load, read_configuration
from routing.models import ImportedFile, Revision, StoredSecret
print(json.dumps([
    [group.model_group for group in load().configuration.model_groups],
    load().configuration == read_configuration(),
    list(Revision.objects.values_list("number", flat=True)),
    StoredSecret.objects.count(),
    ImportedFile.objects.get().name,
]))
"""
WRITES = """
from django.db import transaction
from routing.models import Endpoint, GeneralSettings
for number in range(1, 7):
    Endpoint.objects.filter(name="e{me}").update(rpm=number)
    with transaction.atomic():
        Endpoint.objects.filter(name="e{me}").update(tpm=number)
        Endpoint.objects.filter(name="e{me}").update(weight=number)
"""


@pytest.fixture
def manage(tmp_path):
    """Starts `manage.py` on a database of its own."""
    environment = with_changes(
        LLMPROXY_DATA_DIR=str(tmp_path),
        DATABASE_URL="",
        LLMPROXY_ENCRYPTION_KEYS=base64.urlsafe_b64encode(b"k" * 32).decode(),
        LLMPROXY_SECRET_KEY="k" * 50,
        DJANGO_SETTINGS_MODULE="llmproxy_site.settings",
    )
    started = []

    def manage(*arguments):
        command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield manage
    for process in started:
        process.kill()
        process.communicate()


def output(process, code=0):
    text, _ = process.communicate(timeout=60)
    assert process.returncode == code, text
    return text


def shell(manage, code):
    return manage("shell", "--verbosity", "0", "-c", code)


@pytest.fixture
def imported(manage, tmp_path):
    """The old configuration as revision 1, the new one in a file."""
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)
    output(manage("migrate", "--verbosity", "0"))
    output(manage("import_config", str(tmp_path / "old.yaml")))
    return str(tmp_path / "new.yaml")


def test_an_import_killed_anywhere_leaves_the_old_configuration(manage, imported):
    for nth in KILLED_AT:
        output(shell(manage, KILLED.format(nth=nth, file=imported)), -signal.SIGKILL)
        groups, published, numbers, secrets, file = json.loads(output(shell(manage, TOLD)))

        assert (groups, published, numbers, secrets) == (["old"], True, [1], 0)
        assert file.endswith("old.yaml")

    unharmed = output(shell(manage, KILLED.format(nth=10_000, file=imported)))
    assert int(unharmed.split()[-1]) > KILLED_AT[-1]
    assert json.loads(output(shell(manage, TOLD)))[:4] == [[f"g{number}" for number in range(5)], True, [2, 1], 5]


def test_processes_that_write_at_once_make_revisions_without_gaps(manage, imported):
    output(manage("import_config", imported, "--prune"))
    writers = [shell(manage, WRITES.format(me=me)) for me in range(3)]
    for writer in writers:
        output(writer)
    _, published, numbers, *_ = json.loads(output(shell(manage, TOLD)))

    assert (published, numbers) == (True, list(range(2 + 3 * 12, 0, -1)))
