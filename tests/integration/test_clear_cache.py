"""manage.py clear_cache: what it deletes, what it says, and how it fails."""

import asyncio
import io
import json
import time

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from cache_app.entry import Entry
from cache_app.store import AnswerStore, Place
from llmproxy_site import store as stores
from llmproxy_site.offline import compiled
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_line import store_line
from llmproxy_site.store_link import StoreLink
from routing.config.snapshot import load
from routing.models import Endpoint, GeneralSettings, ModelGroup, Revision
from tests.fakes.valkey import Valkey

pytestmark = pytest.mark.django_db
NAMESPACE = "llmproxy.cache"


@pytest.fixture
def store(valkey: Valkey, settings) -> StoreAddress:
    """A real store with nothing in it, which the environment names."""
    asyncio.run(valkey.empty())
    settings.LLMPROXY = settings.LLMPROXY.model_copy(update={"redis_url": valkey.address.url})
    return valkey.address


@pytest.fixture(autouse=True)
def groups():
    with transaction.atomic():
        for name in ("gpt-4o", "gpt-4o-mini"):
            group = ModelGroup.objects.create(name=name)
            Endpoint.objects.create(group=group, name=f"east-{name}", model="m")


def keep(address: StoreAddress, group: str, count: int, namespace: str = NAMESPACE) -> None:
    """So many answers of the group."""
    key = compiled(load()).groups[group].key
    asyncio.run(_keep(address, [Place(key, b"%032x" % number, bytes(32)) for number in range(count)], namespace))


async def _keep(address: StoreAddress, places: list[Place], namespace: str) -> None:
    line, link = store_line(address, reply_timeout_s=10), StoreLink(address, reply_timeout_s=10)
    answers, now = AnswerStore(line, link, namespace, Silent()), time.time()
    for place in places:
        entry = Entry(bytes(32), now, now + 3600, b"application/json", (), "e", b"e", (), (0, 0), None, b"{}")
        answers.keep(place, entry, (await answers.get(place, now)).right)
    await answers.aclose()
    await line.aclose()
    await link.aclose()


class Silent:
    """A ledger that nobody reads."""

    def written(self, size: int) -> None:
        """Nothing."""

    def trouble(self, what: str, reason: str) -> None:
        """Nothing."""


def keys(address: StoreAddress) -> set[bytes]:
    async def read() -> set[bytes]:
        link = StoreLink(address, reply_timeout_s=10)
        (found,) = await link.run(("KEYS", "*"))
        await link.aclose()
        return set(found)

    return asyncio.run(read())


def cleared(*options: str) -> str:
    out = io.StringIO()
    call_command("clear_cache", *options, stdout=out)
    return out.getvalue().strip()


def test_all_answers_are_deleted_and_counted(store):
    keep(store, "gpt-4o", 3)
    keep(store, "gpt-4o-mini", 2)
    assert cleared() == "Deleted 5 kept answers."
    assert cleared() == "Deleted 0 kept answers."


def test_one_is_not_several(store):
    keep(store, "gpt-4o", 1)
    assert cleared() == "Deleted 1 kept answer."


def test_one_groups_answers_are_deleted_alone(store):
    keep(store, "gpt-4o", 3)
    keep(store, "gpt-4o-mini", 2)
    assert json.loads(cleared("--json", "--model-group", "gpt-4o")) == {"deleted_entries": 3}
    assert json.loads(cleared("--json")) == {"deleted_entries": 2}


def test_nothing_else_is_deleted(store):
    keep(store, "gpt-4o", 1)
    keep(store, "gpt-4o", 1, namespace="another.cache")
    before = keys(store)
    cleared()
    assert {key for key in before if not key.startswith(NAMESPACE.encode())} < keys(store)


def test_the_configured_namespace_is_the_one_that_is_cleared(store):
    with transaction.atomic():
        GeneralSettings.objects.update_or_create(
            pk=GeneralSettings.ONLY_ROW, defaults={"cache_namespace": "our*answers"}
        )
    keep(store, "gpt-4o", 2, namespace="our*answers")
    keep(store, "gpt-4o", 2)
    assert cleared() == "Deleted 2 kept answers."


def test_an_unknown_group_is_named_with_the_one_that_may_be_meant(store):
    with pytest.raises(CommandError) as refused:
        cleared("--model-group", "gpt-4o-mimi")
    assert str(refused.value) == 'There is no model group "gpt-4o-mimi", did you mean "gpt-4o-mini"?'
    assert refused.value.returncode == 1


def test_an_unknown_group_that_is_like_no_other_is_told_with_all_there_are(store):
    with pytest.raises(CommandError, match=r'no model group "llama"\. There are: gpt-4o, gpt-4o-mini\.'):
        cleared("--model-group", "llama")


def test_a_store_that_is_away_is_told(settings, tmp_path):
    settings.LLMPROXY = settings.LLMPROXY.model_copy(update={"redis_url": f"unix://{tmp_path}/nobody"})
    with pytest.raises(CommandError) as refused:
        cleared()
    assert str(refused.value).startswith(f"The store (unix:{tmp_path}/nobody) does not answer.")
    assert "Is the gateway running?" in str(refused.value)
    assert refused.value.returncode == 1


def test_where_each_process_has_a_store_of_its_own_the_gateway_must_be_asked(monkeypatch):
    monkeypatch.setattr(stores, "embedded_binary", lambda: None)
    with pytest.raises(CommandError, match="DELETE /cache"):
        cleared()


def test_a_configuration_that_cannot_be_served_is_told(store):
    Revision.objects.create(number=99, author="a", source="sql", digest="d", snapshot={"model_groups": "nonsense"})
    with pytest.raises(CommandError, match="published configuration is not valid"):
        cleared()
