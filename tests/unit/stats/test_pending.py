"""Records are dropped when there are too many; sums are not."""

import pytest

from stats import pending
from stats.pending import Pending
from stats.record import RequestRecord
from stats.rollups import total


def record(outcome: str = "success", number: int = 0) -> RequestRecord:
    return RequestRecord(request_id=f"r-{number}", at=1000.0, duration_ms=1.0, operation="x", outcome=outcome)


@pytest.fixture(autouse=True)
def room_for_three_and_two_more_of_failures(monkeypatch):
    monkeypatch.setattr(pending, "MOST_RECORDS", 3)
    monkeypatch.setattr(pending, "MOST_TROUBLED", 5)


def filled(*outcomes: str) -> Pending:
    made = Pending()
    for number, outcome in enumerate(outcomes):
        made.add(record(outcome, number))
    return made


def test_records_beyond_the_bound_are_dropped_and_counted():
    made = filled(*["success"] * 5)
    batch = made.take()
    assert ([one.request_id for one in batch.records], made.dropped) == (["r-0", "r-1", "r-2"], 2)
    assert (total(batch.cells.values()).success, total(batch.cells.values()).unrecorded) == (5, 2)


def test_failures_still_have_room_when_successes_have_none():
    made = filled(*["success"] * 4, *["failure"] * 3)
    assert [one.outcome for one in made.take().records] == ["success"] * 3 + ["failure"] * 2
    assert made.dropped == 2


def test_taking_makes_room():
    made = filled(*["success"] * 3)
    made.take()
    made.add(record())
    assert (len(made.take().records), made.dropped) == (1, 0)


def test_batches_are_numbered_in_their_order():
    made = filled("success")
    first = made.take().number
    made.add(record())
    assert made.take().number == first + 1


def test_nothing_is_no_batch():
    made = filled()
    assert (made.waits, made.take()) == (False, None)


def test_what_waits_is_told():
    made = filled("success")
    assert made.waits
    made.take()
    assert not made.waits
