"""Typed-in keys: they go to the host that they were typed in for, and survive new encryption keys."""

import base64
import io
import json

import pytest
from django.core.management import call_command
from django.db import transaction

from routing.config import stored_secrets, yaml_file
from routing.config.publish import publishing, resolved, rollback
from routing.config.snapshot import load
from routing.config.yaml_file import FileInvalid
from routing.config.yaml_import import import_parsed
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision, StoredSecret

pytestmark = pytest.mark.django_db

SECRET = "sk-typed-in"
NEW_KEY = base64.urlsafe_b64encode(b"n" * 32).decode()


@pytest.fixture(autouse=True)
def group():
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        Endpoint.objects.create(
            group=group,
            name="east",
            model="m",
            api_key=SECRET,
            base_url="https://a.example/v1",
            default_headers={"x-token": "t0ken", "x-team": "blue"},
        )
    return group


def east():
    return Endpoint.objects.get(name="east")


def imported(text, **options):
    return import_parsed(yaml_file.parse(text.encode(), "f.yaml"), author="a", source="test", **options)


def exported():
    out = io.StringIO()
    call_command("export_config", stdout=out)
    return out.getvalue()


def test_another_host_takes_the_key_and_secret_headers_out():
    with publishing() as outcome:
        Endpoint.objects.update(base_url="https://b.example/v1")

    assert (east().api_key, east().default_headers) == ("", {"x-team": "blue"})
    assert outcome.blanked == ("endpoint east: params.api_key", "endpoint east: params.default_headers.x-token")
    assert load().configuration.model_groups[0].models[0].params.api_key is None


@pytest.mark.parametrize("url", ["http://a.example/v1", "https://a.example:8443/v1", "os.environ/URL"])
def test_another_scheme_port_or_a_reference_counts_as_another_host(url):
    Endpoint.objects.update(base_url=url)

    assert east().api_key == ""


@pytest.mark.parametrize("url", ["https://a.example", "https://A.example:443/v1/", "https://a.example./other"])
def test_another_path_on_the_same_host_keeps_the_key(url):
    Endpoint.objects.update(base_url=url)

    assert east().api_key.startswith("stored:")


def test_a_new_key_given_with_the_new_host_counts():
    row = east()
    row.base_url, row.api_key = "https://b.example/v1", "sk-other"
    row.save()

    assert stored_secrets.reveal_all()[east().api_key.removeprefix("stored:")] == "sk-other"


def test_the_same_key_typed_again_for_the_new_host_counts():
    Endpoint.objects.update(base_url="https://b.example/v1", api_key=SECRET)

    assert stored_secrets.reveal_all()[east().api_key.removeprefix("stored:")] == SECRET


def test_a_reference_stays_with_another_host():
    Endpoint.objects.update(api_key="os.environ/KEY")
    Endpoint.objects.update(base_url="https://b.example/v1")

    assert east().api_key == "os.environ/KEY"


def test_another_endpoint_cannot_send_the_key_elsewhere(group):
    group.endpoints.create(name="thief", model="m", base_url="https://c.example", api_key=east().api_key, position=1)

    assert Endpoint.objects.get(name="thief").api_key == ""


def test_the_settings_cannot_send_an_endpoints_key_elsewhere():
    GeneralSettings.objects.create(redis_host="evil.example", redis_password=east().api_key)

    assert GeneralSettings.objects.get().redis_password == ""


def test_rolling_back_to_the_old_host_brings_its_key_back():
    Endpoint.objects.update(base_url="https://b.example/v1")
    rollback(1, "ada")

    assert resolved(load().configuration).configuration.model_groups[0].models[0].params.api_key == SECRET


def test_a_file_that_names_a_stored_key_for_another_host_is_an_error():
    text = exported().replace("a.example", "b.example")
    with pytest.raises(FileInvalid) as refused:
        imported(text)

    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("f.yaml:7:20 model_groups[0].models[0].")
    assert lines[0].endswith(
        "params.api_key names a key that was stored for another host: write the key itself or os.environ/NAME"
    )
    assert (east().base_url, Revision.objects.count()) == ("https://a.example/v1", 1)


def test_a_file_with_another_host_and_no_key_takes_the_key_out():
    text = "model_groups: [{model_group: gpt, models: [{name: east, model: m, params: {base_url: 'https://%s'}}]}]\n"
    imported(text % "a.example/v1")
    assert east().api_key.startswith("stored:")
    result = imported(text % "b.example/v1")

    assert result.blanked[0] == "endpoint east: params.api_key"
    assert ("params.api_key", None) in [(change.key, change.after) for change in result.changes]
    assert east().api_key == ""


def test_a_key_in_a_file_is_for_the_host_in_the_file():
    imported(exported().replace("a.example", "b.example").replace(east().api_key, "sk-new").replace("stored:", "x"))

    assert stored_secrets.reveal_all()[east().api_key.removeprefix("stored:")] == "sk-new"


def with_keys(settings, *keys):
    settings.LLMPROXY = settings.LLMPROXY.model_copy(update={"encryption_keys": keys})


def rotate(*options):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command("rotate_keys", *options, stdout=out, stderr=err)
    except SystemExit as ended:
        code = ended.code
    return code, out.getvalue(), err.getvalue()


def test_after_a_rotation_the_old_key_is_not_needed(settings):
    before = exported()
    with_keys(settings, NEW_KEY, *settings.LLMPROXY.encryption_keys)
    code, out, err = rotate()
    with_keys(settings, NEW_KEY)

    assert (code, out.splitlines()[0], err) == (
        0,
        "Encrypted anew: 2 of 2 stored secrets. The others needed nothing.",
        "",
    )
    assert set(stored_secrets.reveal_all().values()) == {SECRET, "t0ken"}
    assert resolved(load().configuration).missing == {}
    assert exported() == before
    assert imported(before).changes == ()
    Endpoint.objects.update(api_key=SECRET)
    assert exported() == before


def test_a_second_rotation_has_nothing_to_do(settings):
    with_keys(settings, NEW_KEY, *settings.LLMPROXY.encryption_keys)
    rotate()

    assert json.loads(rotate("--json")[1]) == {"rotated": 0, "stored": 2, "undecryptable": []}


def test_a_rotation_names_what_no_key_opens_and_rotates_the_rest(settings):
    lost = east().default_headers["x-token"].removeprefix("stored:")
    StoredSecret.objects.filter(fingerprint=lost).update(ciphertext="gAAAAABnonsense")
    with_keys(settings, NEW_KEY, *settings.LLMPROXY.encryption_keys)
    code, out, err = rotate()

    assert (code, lost in err, "1 of 2" in out) == (1, True, True)
    with_keys(settings, NEW_KEY)
    assert list(stored_secrets.reveal_all().values()) == [SECRET]


def test_a_key_that_cannot_be_decrypted_puts_its_endpoint_out_with_the_reason(settings):
    with_keys(settings, NEW_KEY)
    resolution = resolved(load().configuration)

    assert resolution.missing["east"] == tuple(sorted({east().api_key, east().default_headers["x-token"]}))
    assert resolution.invalid[east().api_key].startswith("cannot be decrypted: LLMPROXY_ENCRYPTION_KEYS lacks")
    assert resolution.configuration.model_groups[0].models[0].params.api_key is None


def test_the_lost_key_typed_again_serves_again(settings):
    with_keys(settings, NEW_KEY)
    Endpoint.objects.update(api_key=SECRET, default_headers={})

    assert resolved(load().configuration).missing == {}


def test_what_is_sealed_comes_back_and_nothing_else(settings):
    sealed = stored_secrets.seal("a file")

    assert ("a file" in sealed, stored_secrets.unseal(sealed), stored_secrets.unseal("x" + sealed)) == (
        False,
        "a file",
        None,
    )
