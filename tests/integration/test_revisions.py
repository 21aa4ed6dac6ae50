"""Every way of changing the configuration by plain ORM code ends in one revision, or is refused whole."""

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import transaction
from django.db.models import F

from routing.config import stored_secrets
from routing.config.authorship import authored_by, system_user
from routing.config.publish import ChangeRefused, current_revision, publish, publishing, rollback
from routing.config.schema import Configuration
from routing.config.snapshot import load, read_configuration
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision, StoredSecret

pytestmark = pytest.mark.django_db
SECRET = "sk-typed-in-a-shell"
UNKNOWN = "stored:0123456789abcdef"


@pytest.fixture(autouse=True)
def group():
    """Revision 1: one group with two endpoints."""
    with transaction.atomic():
        group = ModelGroup.objects.create(name="gpt")
        Endpoint.objects.create(group=group, name="east", model="m")
        Endpoint.objects.create(group=group, name="west", model="m", position=1)
    return group


def endpoint(name="east"):
    return Endpoint.objects.get(name=name)


def saved(**values):
    row = endpoint()
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def bulk_updated():
    rows = list(Endpoint.objects.all())
    for row in rows:
        row.weight = 5
    Endpoint.objects.bulk_update(rows, ["weight"])


WAYS = {
    "save": lambda: saved(weight=5),
    "save of one field": lambda: Endpoint(pk=endpoint().pk, weight=5).save(update_fields=["weight"]),
    "create": lambda: Endpoint.objects.create(group=ModelGroup.objects.get(), name="new", model="m"),
    "delete": lambda: endpoint().delete(),
    "delete of a group": lambda: ModelGroup.objects.get().delete(),
    "update": lambda: Endpoint.objects.update(weight=F("weight") + 4),
    "update of some": lambda: Endpoint.objects.filter(name="east").update(weight=5),
    "delete of some": lambda: Endpoint.objects.filter(name="east").delete(),
    "bulk_create": lambda: Endpoint.objects.bulk_create(
        Endpoint(group=ModelGroup.objects.get(), name=f"new-{number}", model="m") for number in range(3)
    ),
    "bulk_create that updates": lambda: Endpoint.objects.bulk_create(
        [Endpoint(group=ModelGroup.objects.get(), name="east", model="other")],
        update_conflicts=True,
        update_fields=["model"],
        unique_fields=["name"],
    ),
    "bulk_update": bulk_updated,
    "get_or_create": lambda: Endpoint.objects.get_or_create(
        name="new", defaults={"group": ModelGroup.objects.get(), "model": "m"}
    ),
    "update_or_create": lambda: Endpoint.objects.update_or_create(name="east", defaults={"weight": 5}),
    "the group's endpoints": lambda: ModelGroup.objects.get().endpoints.update(weight=5),
    "the group's create": lambda: ModelGroup.objects.get().endpoints.create(name="new", model="m"),
    "settings": lambda: GeneralSettings.objects.update_or_create(pk=1, defaults={"num_retries": 9}),
    "settings for the first time": lambda: GeneralSettings.objects.create(num_retries=9),
    "the base manager": lambda: Endpoint._base_manager.filter(name="east").update(weight=5),
    "a fixture": lambda: [
        loaded.save()
        for loaded in serializers.deserialize(
            "json",
            f'[{{"model": "routing.endpoint", "pk": {endpoint().pk}, "fields": '
            f'{{"group": {ModelGroup.objects.get().pk}, "name": "east", "model": "other"}}}}]',
        )
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_writing_makes_one_revision(way):
    WAYS[way]()

    assert (current_revision(), Revision.objects.count()) == (2, 2)
    assert load().configuration == read_configuration()
    assert Revision.objects.first().changes != []


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_writing_takes_part_in_a_transaction(way):
    with transaction.atomic():
        saved(rpm=7)
        WAYS[way]()
        saved(tpm=7) if Endpoint.objects.filter(name="east").exists() else None

    assert (current_revision(), Revision.objects.count()) == (2, 2)
    assert load().configuration == read_configuration()


def test_a_row_moved_through_its_group_is_published():
    with transaction.atomic():
        other = ModelGroup.objects.create(name="other")
        other.endpoints.add(endpoint())

    assert [len(group.models) for group in load().configuration.model_groups] == [1, 1]
    assert current_revision() == 2


def test_async_code_publishes_too():
    async_to_sync(Endpoint.objects.filter(name="east").aupdate)(weight=5)

    assert (current_revision(), load().configuration == read_configuration()) == (2, True)


def test_saving_without_a_change_makes_no_revision():
    saved(weight=1)
    Endpoint.objects.update(enabled=True)
    Endpoint.objects.filter(name="nobody").delete()

    assert current_revision() == 1


def test_what_is_undone_in_the_same_transaction_makes_no_revision():
    with transaction.atomic():
        saved(weight=5)
        saved(weight=1)

    assert Revision.objects.count() == 1


def test_numbers_have_no_gap_after_a_rollback():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        saved(weight=5)
        raise ZeroDivisionError
    saved(weight=6)

    assert [revision.number for revision in Revision.objects.all()] == [2, 1]
    assert load().configuration.model_groups[0].models[0].weight == 6


def test_a_savepoint_that_is_rolled_back_takes_its_changes_out_of_the_revision():
    with transaction.atomic():
        saved(weight=5)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            saved(weight=6, rpm=9)
            raise ZeroDivisionError
        saved(tpm=3)
    model = load().configuration.model_groups[0].models[0]

    assert (model.weight, model.rpm, model.tpm, current_revision()) == (5, None, 3, 2)


def test_a_savepoint_that_made_the_revision_takes_it_along():
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            saved(weight=6)
            raise ZeroDivisionError
        assert current_revision() == 1
        saved(tpm=3)

    assert (current_revision(), load().configuration == read_configuration()) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: saved(base_url="nonsense"), "Endpoint east: params.base_url must be a URL that begins with http"),
        (lambda: Endpoint.objects.update(http_timeout=0), "Endpoint east: http_timeout must be greater than 0"),
        (lambda: ModelGroup.objects.update(fallbacks=["gpt"]), "Model group gpt: fallbacks[0] makes a loop"),
        (lambda: Endpoint.objects.all().delete(), "Model group gpt: models is empty"),
        (lambda: ModelGroup.objects.create(name="empty"), "Model group empty: models is empty"),
        (lambda: GeneralSettings.objects.create(redis_url="ftp://h"), "general_settings.redis_url must be a URL"),
        (lambda: saved(api_key=UNKNOWN), "Endpoint east: params.api_key names a stored key that this database does"),
        (
            lambda: Endpoint.objects.filter(name="west").update(default_headers={"x-token": UNKNOWN}),
            "Endpoint west: params.default_headers.x-token names a stored key that this database does not have",
        ),
        (
            lambda: GeneralSettings.objects.create(redis_password=UNKNOWN),
            "general_settings.redis_password names a stored key that this database does not have",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_saved(change, message):
    before = read_configuration()
    with pytest.raises(ChangeRefused) as refused:
        change()

    assert str(refused.value).startswith(f"Nothing was saved. {message}")
    assert "transaction.atomic()" in str(refused.value)
    assert (read_configuration(), current_revision()) == (before, 1)


def test_a_key_that_was_lost_after_its_publication_keeps_nobody_from_changing_the_rest():
    saved(api_key=SECRET)
    StoredSecret.objects.all().delete()
    saved(weight=5)

    assert (current_revision(), load().configuration == read_configuration()) == (3, True)


def test_rolling_back_to_a_lost_key_is_refused():
    saved(api_key=SECRET)
    saved(api_key="")
    StoredSecret.objects.all().delete()

    with pytest.raises(ChangeRefused, match=r"Endpoint east: params\.api_key names a stored key"):
        rollback(2, "ada")
    assert current_revision() == 3


def test_endpoints_without_a_name_get_the_names_that_yaml_gives_them():
    group = ModelGroup.objects.get()
    alike = [Endpoint(group=group, model="m", base_url="https://a.example", position=2 + number) for number in range(3)]
    alike[0].save()
    Endpoint.objects.bulk_create(alike[1:])
    Endpoint.objects.create(group=group, model="m", base_url="https://b.example", position=9)

    plain = read_configuration().plain()
    names = [one["name"] for one in plain["model_groups"][0]["models"]]
    for one in plain["model_groups"][0]["models"][2:]:
        del one["name"]
    assert Configuration.model_validate(plain).model_groups == read_configuration().model_groups
    assert names == list(Endpoint.objects.order_by("position").values_list("name", flat=True))


def test_a_refused_step_leaves_the_rest_of_its_transaction():
    with transaction.atomic():
        saved(weight=5)
        with pytest.raises(ChangeRefused):
            saved(base_url="nonsense")

    assert (current_revision(), endpoint().weight, endpoint().base_url) == (2, 5, "https://api.openai.com/v1")


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_ends_unusable_is_put_back():
    before = read_configuration()
    with pytest.raises(ChangeRefused, match="Model group other: models is empty"), transaction.atomic():
        saved(weight=5)
        ModelGroup.objects.create(name="other")

    assert (read_configuration(), current_revision()) == (before, 1)


@pytest.mark.django_db(transaction=True)
def test_steps_that_are_good_together_are_one_revision():
    with transaction.atomic():
        saved(weight=5)
        other = ModelGroup.objects.create(name="other")
        Endpoint.objects.create(group=other, name="new", model="m")

    assert (current_revision(), load().configuration == read_configuration()) == (2, True)


@pytest.mark.django_db(transaction=True)
def test_another_change_before_the_end_cannot_hide_an_unusable_one():
    with pytest.raises(ChangeRefused), transaction.atomic():
        ModelGroup.objects.create(name="other")
        saved(weight=5)

    assert (ModelGroup.objects.count(), endpoint().weight, current_revision()) == (1, 1, 1)


def test_a_key_from_a_shell_is_encrypted_before_it_is_written():
    row = endpoint()
    row.api_key = SECRET
    row.default_headers = {"x-token": "t0ken", "x-team": "blue"}
    row.save()
    Endpoint.objects.filter(name="west").update(api_key=SECRET)
    GeneralSettings.objects.create(redis_password="pass", redis_url="")

    everything = [*Endpoint.objects.values(), *GeneralSettings.objects.values(), *Revision.objects.values()]
    assert [secret for secret in (SECRET, "t0ken", "'pass'") if secret in repr(everything)] == []
    assert set(stored_secrets.reveal_all().values()) == {SECRET, "t0ken", "pass"}
    assert endpoint("west").api_key == endpoint().api_key == row.api_key
    assert endpoint().default_headers["x-team"] == "blue"


@pytest.mark.parametrize("write", ["bulk_create", "bulk_update"])
def test_keys_written_in_bulk_are_encrypted(write):
    row = Endpoint(group=ModelGroup.objects.get(), name="new", model="m", api_key=SECRET)
    if write == "bulk_update":
        row = endpoint()
        row.api_key = SECRET
    Endpoint.objects.bulk_create([row]) if write == "bulk_create" else Endpoint.objects.bulk_update([row], ["api_key"])

    assert Endpoint.objects.get(name=row.name).api_key.startswith("stored:")


def test_a_key_that_comes_by_an_expression_is_encrypted_too():
    saved(ca_file=SECRET)
    Endpoint.objects.filter(name="east").update(api_key=F("ca_file"), ca_file="")

    assert endpoint().api_key.startswith("stored:")
    assert SECRET not in repr(Revision.objects.get(number=3).snapshot)


def test_a_change_in_a_shell_is_told_by_the_user_of_the_process():
    assert (Revision.objects.get().author, Revision.objects.get().source) == (system_user(), "shell")


def test_authorship_is_told_by_the_revision():
    with authored_by("ada", "script", "more for the east"):
        saved(weight=5)
    revision = Revision.objects.first()

    assert (revision.author, revision.source, revision.message) == ("ada", "script", "more for the east")


def test_a_revision_tells_what_differs_from_the_one_before():
    saved(weight=5)

    assert Revision.objects.first().diff == "~ endpoint east weight: 1 -> 5"
    assert Revision.objects.last().diff.splitlines()[:2] == ["+ model group gpt", "+ endpoint east in gpt"]


def test_a_rewritten_revision_tells_the_whole_difference():
    with transaction.atomic():
        saved(weight=5)
        saved(rpm=9)

    assert Revision.objects.first().diff == "~ endpoint east weight: 1 -> 5\n~ endpoint east rpm: null -> 9"


def test_a_block_of_changes_is_checked_at_its_end():
    with publishing() as outcome:
        other = ModelGroup.objects.create(name="other")
        Endpoint.objects.create(group=other, name="new", model="m")

    assert (outcome.revision.number, outcome.complaints) == (2, ())


def test_what_was_unusable_before_is_mended_step_by_step(past_the_orm):
    past_the_orm("UPDATE routing_endpoint SET base_url = 'nonsense'")
    Endpoint.objects.filter(name="east").update(base_url="https://a.example")
    assert current_revision() == 1
    Endpoint.objects.filter(name="west").update(base_url="https://b.example")

    assert (current_revision(), load().configuration == read_configuration()) == (2, True)


def test_rows_written_past_the_orm_are_in_the_next_revision(past_the_orm):
    past_the_orm("UPDATE routing_endpoint SET weight = 9")
    saved(rpm=1)

    assert load().configuration == read_configuration()


def test_rollback_publishes_an_old_snapshot_again():
    first = read_configuration()
    Endpoint.objects.filter(name="east").delete()
    saved_key = endpoint("west").pk
    revision = rollback(1, "ada", "that was wrong")

    assert (revision.number, revision.author, revision.source) == (3, "ada", "rollback")
    assert revision.message == "that was wrong"
    assert load().configuration == read_configuration() == first
    assert endpoint("west").pk == saved_key


def test_rollback_to_what_is_in_effect_makes_no_revision():
    assert rollback(1, "ada") is None
    assert current_revision() == 1


def test_rollback_brings_a_stored_key_back():
    saved(api_key=SECRET)
    saved(api_key="")
    rollback(2, "ada")

    assert load().stored[endpoint().api_key.removeprefix("stored:")] == SECRET
    assert StoredSecret.objects.count() == 1


def test_rollback_to_a_revision_that_is_not_there_changes_nothing():
    with pytest.raises(Revision.DoesNotExist):
        rollback(7, "ada")
    assert current_revision() == 1


def test_publish_by_hand_makes_nothing_of_nothing():
    assert publish(author="ada", source="test") is None
