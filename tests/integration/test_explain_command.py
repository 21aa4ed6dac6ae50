"""manage.py explain: with what is published, an older revision, or a file."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from routing.config import stored_secrets
from routing.models import Endpoint, ModelGroup, Revision

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def two_revisions():
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        Endpoint.objects.create(group=group, name="east", model="m", api_key="sk-typed-in")
    Endpoint.objects.update(enabled=False)


def explained(*options):
    out = io.StringIO()
    call_command("explain", "gpt", "--json", *options, stdout=out, stderr=io.StringIO())
    told = json.loads(out.getvalue())
    return told["revision"], [(one["endpoint"], one["standing"], one["reason"]) for one in told["candidates"]]


def insert(number, snapshot):
    Revision.objects.create(number=number, author="a", source="sql", digest="by hand", snapshot=snapshot)


ALONE = ("east", "next", "1 of 1 first attempts (100 %)")


def test_without_an_option_it_is_what_is_published_last():
    assert explained() == (2, [("east", "out", "disabled")])


def test_an_older_revision():
    assert explained("--at", "1") == (1, [ALONE])


def test_an_older_revision_while_the_last_one_is_broken():
    insert(3, {"model_groups": "nonsense"})

    assert explained("--at", "1") == (1, [ALONE])


@pytest.mark.parametrize("options", [(), ("--at", "3")])
@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        ({"model_groups": "nonsense"}, "model_groups must be a list"),
        ({"model_groups": [{"model_group": "gpt"}]}, "a group needs at least one model or a fallback"),
    ],
)
def test_a_broken_revision_is_named_with_reason_and_remedy(options, snapshot, reason):
    insert(3, snapshot)
    with pytest.raises(CommandError) as refused:
        explained(*options)

    message = str(refused.value)
    assert message.startswith("Revision 3 cannot be served: ")
    assert reason in message
    assert "import_config" in message and "--at" in message


def test_a_revision_that_is_not_there():
    with pytest.raises(CommandError, match=r"There is no revision 9; the last one is 2\."):
        explained("--at", "9")


def test_a_file_that_was_exported_knows_the_stored_keys(tmp_path):
    file = tmp_path / "f.yaml"
    call_command("export_config", str(file), stdout=io.StringIO())
    text = file.read_text()
    assert "stored:" in text
    file.write_text(text.replace("enabled: false", "enabled: true"))

    assert explained("--config", str(file)) == (0, [ALONE])


def test_a_file_that_names_no_stored_key_asks_for_none(tmp_path, monkeypatch):
    monkeypatch.delattr(stored_secrets, "reveal_all")
    file = tmp_path / "f.yaml"
    file.write_text("model_groups: [{model_group: gpt, models: [{name: east, model: m}]}]\n")

    assert explained("--config", str(file)) == (0, [ALONE])


def test_a_lost_key_is_told(settings):
    Endpoint.objects.update(enabled=True)
    settings.LLMPROXY = settings.LLMPROXY.model_copy(
        update={"encryption_keys": ("bmV3ZXIta2V5LW5ld2VyLWtleS1uZXdlci1rZXktMTI=",)}
    )
    _, ((name, standing, reason),) = explained()

    assert (name, standing) == ("east", "out")
    assert reason.startswith("misconfigured: stored:") and "cannot be decrypted" in reason
