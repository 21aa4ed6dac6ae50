"""What a worker takes over from the database, and what it refuses."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import OperationalError, connection, connections, transaction

from routing.config.live import LiveTable
from routing.config.references import resolve
from routing.config.schema import Configuration
from routing.config.snapshot import LoadedConfiguration, RevisionUnusable, load, load_last_good
from routing.config.table import compile_table
from routing.config.watch import RevisionWatch
from routing.models import Endpoint, ModelGroup, Revision

pytestmark = pytest.mark.django_db(transaction=True)


def compiled(loaded: LoadedConfiguration):
    return compile_table(resolve(loaded.configuration, {}, Path("none"), loaded.stored), loaded.revision)


def weighted(weight):
    """One more revision."""
    with transaction.atomic():
        group, _ = ModelGroup.objects.get_or_create(name="gpt")
        Endpoint.objects.update_or_create(group=group, name="east", defaults={"model": "m", "weight": weight})


def insert(number, snapshot, digest="by hand"):
    """Past the ORM and its checks."""
    Revision.objects.bulk_create([Revision(number=number, author="a", source="sql", digest=digest, snapshot=snapshot)])


def remove(number):
    Revision.objects.filter(number=number).delete()


class Worker:
    """A watch whose thread is also the test's way to the database."""

    def __init__(self, thread):
        self._thread = thread
        self.compile = compiled
        self.live = LiveTable(compiled(LoadedConfiguration(0, Configuration(), {})))
        self.watch = RevisionWatch(self.live, lambda loaded: self.compile(loaded), store=None)

    def does(self, work, *arguments, **named):
        return self._thread.submit(work, *arguments, **named).result()

    async def looks(self):
        """What it serves then: revision and weight; and what it refuses."""
        await self.watch.look(self._thread)
        table = self.live.table
        refused = self.watch.refused
        return table.revision, [one.weight for one in table.endpoints.values()], refused and refused.revision


@pytest.fixture
def worker():
    with ThreadPoolExecutor(1) as thread:
        worker = Worker(thread)
        worker.does(weighted, 1)
        yield worker
        worker.does(connections.close_all)


BROKEN = {"model_groups": "nonsense"}
EMPTY_GROUP = {"model_groups": [{"model_group": "gpt", "models": []}]}


async def test_a_new_revision_is_served(worker):
    assert await worker.looks() == (1, [1], None)
    worker.does(weighted, 2)

    assert await worker.looks() == (2, [2], None)


@pytest.mark.parametrize(
    "snapshot",
    [
        BROKEN,
        {"model_groups": [{"model_group": "gpt", "fallbacks": ["nobody"], "models": [{"name": "a", "model": "m"}]}]},
        EMPTY_GROUP,
        {"model_groups": [{"model_group": "gpt", "models": [{"name": name, "model": "m"}]} for name in "ab"]},
    ],
    ids=["no configuration", "unknown fallback", "group without endpoint", "the same group twice"],
)
async def test_a_revision_that_cannot_be_used_is_refused_and_the_last_good_one_stays(worker, snapshot):
    await worker.looks()
    worker.does(insert, 2, snapshot)

    assert await worker.looks() == (1, [1], 2)
    assert "model_groups" in worker.watch.refused.reason


async def test_a_revision_that_cannot_be_compiled_is_refused(worker):
    def fail(loaded):
        raise RuntimeError("cannot")

    await worker.looks()
    worker.compile = fail
    worker.does(weighted, 2)

    assert await worker.looks() == (1, [1], 2)


async def test_a_refused_revision_is_not_tried_again(worker):
    await worker.looks()
    worker.does(insert, 2, BROKEN)
    await worker.looks()
    before = worker.watch.refused
    await worker.looks()

    assert worker.watch.refused is before


async def test_a_good_revision_with_the_number_of_a_refused_one_is_served(worker):
    await worker.looks()
    worker.does(insert, 2, BROKEN)
    await worker.looks()
    worker.does(remove, 2)
    worker.does(weighted, 5)

    assert await worker.looks() == (2, [5], None)


async def test_a_refused_revision_that_is_gone_is_forgotten(worker):
    await worker.looks()
    worker.does(insert, 2, BROKEN)
    await worker.looks()
    worker.does(remove, 2)

    assert await worker.looks() == (1, [1], None)


async def test_another_content_under_the_served_number_is_served(worker):
    worker.does(weighted, 2)
    await worker.looks()
    worker.does(remove, 2)
    worker.does(weighted, 7)

    assert await worker.looks() == (2, [7], None)


async def test_what_was_served_at_the_start_is_not_loaded_again(worker):
    worker.live.swap(compiled(worker.does(load)))
    before = worker.live.table
    await worker.looks()

    assert worker.live.table is before


async def test_a_start_serves_the_last_good_revision_and_tells_of_the_bad_one(worker):
    worker.does(weighted, 2)
    worker.does(insert, 3, EMPTY_GROUP)
    worker.does(insert, 4, BROKEN)
    worker.live.swap(compiled(worker.does(load_last_good)))

    assert await worker.looks() == (2, [2], 4)


async def test_a_start_without_any_good_revision_says_why_the_last_one_is_none(worker):
    worker.does(remove, 1)
    worker.does(insert, 1, BROKEN)
    worker.does(insert, 2, EMPTY_GROUP)

    with pytest.raises(RevisionUnusable, match="a group needs at least one model") as unusable:
        worker.does(load_last_good)
    assert unusable.value.number == 2


async def test_with_the_database_away_serving_goes_on(worker):
    await worker.looks()

    def away(execute, *call):
        raise OperationalError("gone")

    worker.does(lambda: connection.execute_wrappers.append(away))
    assert await worker.looks() == (1, [1], None)
    worker.does(lambda: connection.execute_wrappers.clear())
    worker.does(weighted, 3)

    assert await worker.looks() == (2, [3], None)
