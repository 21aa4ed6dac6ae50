"""One leads, the others wait: what they get, who takes over, and how long a leader goes on that has left."""

import asyncio
import gc

from cache_app.flight import Flight, Flights
from tests.unit.cache_app.clients import Client, settle
from tests.unit.virtual_time import run

KEY = b"key"


def waiting(flight: Flight[str], count: int) -> list[Client]:
    clients = [Client() for _ in range(count)]
    for client in clients:
        client.begin(flight.wait())
    return clients


def leading(flights: Flights[str], seconds: float = 10.0) -> Client:
    """A client whose request works for so long."""

    async def work() -> None:
        flights.begin(KEY, leader)
        try:
            await asyncio.sleep(seconds)
        finally:
            flights.land(KEY, "landed")

    leader = Client()
    leader.begin(work())
    return leader


def test_those_who_wait_get_what_the_leader_brought():
    async def story():
        flights: Flights[str] = Flights()
        followers = waiting(flights.begin(KEY, Client()), 3)
        await settle()
        assert flights.land(KEY, "brought") is True
        assert await asyncio.gather(*(one.task for one in followers)) == ["brought"] * 3

    run(story())


def test_a_flight_that_nobody_waited_for_says_so():
    async def story():
        flights: Flights[str] = Flights()
        flights.begin(KEY, Client())
        assert flights.land(KEY, "brought") is False

    run(story())


def test_a_flight_that_has_landed_is_forgotten():
    async def story():
        flights: Flights[str] = Flights()
        flights.begin(KEY, Client())
        assert flights.get(KEY) is not None
        flights.land(KEY, None)
        assert flights.get(KEY) is None
        assert not flights

    run(story())


def test_those_who_wait_wake_in_their_order():
    async def story():
        flights: Flights[str] = Flights()
        flight, woken = flights.begin(KEY, Client()), []

        async def wait(number: int) -> None:
            await flight.wait()
            woken.append(number)

        tasks = [asyncio.get_running_loop().create_task(wait(number)) for number in range(5)]
        await settle()
        flights.land(KEY, None)
        await asyncio.gather(*tasks)
        assert woken == [0, 1, 2, 3, 4]

    run(story())


def test_a_leader_that_leaves_goes_on_while_others_wait():
    async def story():
        flights: Flights[str] = Flights()
        leader = leading(flights)
        await settle()
        (follower,) = waiting(flights.get(KEY), 1)
        await settle()
        leader.leave()
        assert await follower.task == "landed"

    run(story())


def test_a_leader_that_has_left_stops_when_the_last_who_waits_leaves():
    async def story():
        flights: Flights[str] = Flights()
        leader = leading(flights)
        await settle()
        first, last = waiting(flights.get(KEY), 2)
        await settle()
        leader.leave()
        first.leave()
        await settle()
        assert not leader.task.done()
        last.leave()
        await settle()
        assert leader.task.cancelled()

    run(story())


def test_a_leader_stops_at_once_when_nobody_waits():
    async def story():
        leader = leading(Flights())
        await settle()
        leader.leave()
        await settle()
        assert leader.task.cancelled()

    run(story())


def test_a_leader_that_stays_goes_on_when_those_who_wait_leave():
    async def story():
        flights: Flights[str] = Flights()
        leader = leading(flights)
        await settle()
        (follower,) = waiting(flights.get(KEY), 1)
        await settle()
        follower.leave()
        await leader.task
        assert follower.task.cancelled()

    run(story())


def test_nothing_is_held_of_a_leader_that_has_landed():
    async def story():
        flights: Flights[str] = Flights()
        leader = leading(flights, seconds=1)
        await leader.task
        assert leader.holder is None

    run(story())


def test_one_who_leaves_as_the_answer_comes_does_not_keep_it_from_the_others():
    async def story():
        flights: Flights[str] = Flights()
        leaves, stays = waiting(flights.begin(KEY, Client()), 2)
        await settle()
        flights.land(KEY, "brought")
        leaves.leave()
        assert await stays.task == "brought"
        assert leaves.task.cancelled()

    run(story())


def test_the_next_takes_over_when_the_first_leaves_as_the_leader_fails():
    async def story():
        flights: Flights[str] = Flights()
        flight, led = flights.begin(KEY, Client()), []

        async def wait_or_lead(number: int) -> None:
            await flight.wait()
            if flights.get(KEY) is None:
                flights.begin(KEY, Client())
                led.append(number)

        clients = [Client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.begin(wait_or_lead(number))
        await settle()
        flights.land(KEY, None)
        clients[0].leave()
        await asyncio.gather(*(client.task for client in clients), return_exceptions=True)
        assert led == [1]

    run(story())


def test_a_failure_of_all_is_raised_by_all_who_wait():
    async def story():
        flights: Flights[str] = Flights()
        followers = waiting(flights.begin(KEY, Client()), 3)
        await settle()
        failure = RuntimeError("for all")
        assert flights.land(KEY, None, failure) is True
        results = await asyncio.gather(*(one.task for one in followers), return_exceptions=True)
        assert results == [failure] * 3

    run(story())


def test_a_failure_that_a_leaving_client_does_not_hear_of_is_no_trouble():
    async def story():
        flights: Flights[str] = Flights()
        (follower,) = waiting(flights.begin(KEY, Client()), 1)
        await settle()
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        flights.land(KEY, None, RuntimeError("for all"))
        follower.leave()
        await settle()
        assert follower.task.cancelled()
        gc.collect()
        assert told == []

    run(story())
