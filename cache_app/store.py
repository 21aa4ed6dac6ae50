"""Kept answers in the store, and which process asks for one now. Waits are bounded; trouble is a miss, never an error.

Keys are `{namespace}:{group}:{kind}:{key}`. Every value begins with the generation that it was asked for in. A deletion
begins a new one, so nothing older is read, whenever it arrives. Plain commands: a script costs the store 10 us more.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol

from redis.exceptions import RedisError

from cache_app.entry import Entry, decode, encode

Word = str | bytes | int | float

ANSWER = b"a"
FLIGHT = b"f"  # the token of whoever asks for the answer now, or did so a moment ago
LARGE_ANSWER = b"l"  # one that would hold up the connection that all requests share

LEASE_MS = 2000  # how long others wait for a process that has died
FIRST_LEASE_MS = 750  # and for one that did not hear that it may ask: the store was frozen
RENEW_S = 0.25
LARGE = 256 << 10  # bytes of a value
GENERATION_BYTES = 16
_FIRST = bytes(GENERATION_BYTES)  # the generation before the first deletion
_LARGE_MARK = b"large"
_LARGE_S = 1.0
_POLLS_S = (0.01, 0.02, 0.04, 0.08)  # then 0.1
_MOST_LEADERS = 2  # that failed while we waited; then we ask on our own
# The share of look-ups that find something from which on the flight is not begun before it is known to be needed. To
# begin it at once saves a miss a round trip (12 us of CPU); to end it again costs a hit as much.
_MOSTLY = 0.5

# KEYS: flight. ARGV: a token, the one to put in its place or '', lease in ms. Replies with 1 if it was that token.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""


class Line(Protocol):
    """The connection that all requests share. What is sent is carried out in this order."""

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """One command's reply, soon: else ConnectionError. A refusal of the store is a RedisError."""
        ...

    def ask_without_hurry(self, *words: Word) -> "asyncio.Future[Any]":
        """The same, a moment later, where that saves a write."""
        ...

    def post(self, *words: Word) -> bool:
        """One command whose reply nobody waits for."""
        ...


class Link(Protocol):
    """Connections of one's own, for large values and long lists. Raises ConnectionError."""

    async def run(self, *commands: tuple[Word, ...], timeout_s: float | None = None) -> list[Any]: ...


class Place(NamedTuple):
    """Where an answer is kept. group, key: of a safe alphabet; digest: compared on read."""

    group: str
    key: bytes
    digest: bytes


class Right(NamedTuple):
    """To keep an answer. generation: to begin its value with; empty where the store told us nothing."""

    generation: bytes = b""
    token: bytes = b""  # of our flight; empty where nobody waits for us


class Look(NamedTuple):
    """What was found, and what we may do with an answer of our own."""

    entry: Entry | None = None
    right: Right = Right()


class Ledger(Protocol):
    """Told what the store did and did not do."""

    def written(self, size: int) -> None:
        """One entry, of so many bytes."""
        ...

    def trouble(self, what: str, reason: str) -> None:
        """what: `read` or `write`. reason: a class such as `OOM` or `away`."""
        ...


def generation_key(namespace: str, group: str | None = None) -> bytes:
    """Of all answers, or of a group's."""
    return f"{namespace}:{group}:generation".encode() if group else f"{namespace}:generation".encode()


class AnswerStore:
    """One worker's access to the kept answers of all."""

    def __init__(self, line: Line, link: Link, namespace: str, ledger: Ledger) -> None:
        self._line = line
        self._link = link
        self._namespace = namespace
        self._prefix = namespace.encode()
        self._generation = generation_key(namespace)
        self._ledger = ledger
        self._process = uuid.uuid4().hex.encode()
        self._number = 0
        self._found_lately = _MOSTLY
        self._leases: dict[bytes, bytes] = {}  # flight key -> token
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    # -- reading

    async def get(self, place: Place, unix_now: float) -> Look:
        """What is kept; nobody waits for us."""
        return await self._looked(self._line.ask("MGET", *self._answer_keys(place)), place, unix_now)

    async def look(self, place: Place, unix_now: float) -> Look:
        """What is kept, or the right to ask for it; waits while another process asks, as long as that lives."""
        self._number += 1
        token = b"%b:%d" % (self._process, self._number)
        flight = self._key(place, FLIGHT)
        looking = self._line.ask("MGET", *self._answer_keys(place))
        beginning = self._begin(flight, token) if self._found_lately < _MOSTLY else None
        try:
            look = await self._looked(looking, place, unix_now)
            self._found_lately += ((look.entry is not None) - self._found_lately) / 16
            if look.entry is None and look.right.generation:
                return await self._lead_or_wait(place, look, token, beginning or self._begin(flight, token), unix_now)
            if beginning is not None:
                beginning.add_done_callback(_outcome)
                self._replace(flight, token)
            return look
        except (ConnectionError, RedisError) as error:
            self._ledger.trouble("read", _reason(error))
            return look
        except asyncio.CancelledError:
            self._replace(flight, token)  # it may be ours already
            raise

    def _begin(self, flight: bytes, token: bytes) -> "asyncio.Future[Any]":
        return self._line.ask("SET", flight, token, "NX", "PX", FIRST_LEASE_MS)

    async def _looked(self, looking: "asyncio.Future[Any]", place: Place, unix_now: float) -> Look:
        try:
            kept, *generations = await looking
        except (ConnectionError, RedisError) as error:
            self._ledger.trouble("read", _reason(error))
            return Look()
        return await self._seen(kept, generations, place, unix_now)

    async def _lead_or_wait(
        self, place: Place, look: Look, token: bytes, beginning: "asyncio.Future[Any]", unix_now: float
    ) -> Look:
        flight = self._key(place, FLIGHT)
        leaders: set[bytes] = set()
        polls = 0
        # A flight outlives its landing. So none that began before we looked has landed since if we can begin one.
        while await beginning is None:
            kept, *generations, leads = await self._line.ask("MGET", *self._answer_keys(place), flight)
            look = await self._seen(kept, generations, place, unix_now)
            if look.entry is not None:
                return look
            if self._is_unused(flight, leads) and await self._line.ask(*_replacing(flight, leads, token)):
                break
            leaders.add(leads or b"%d" % polls)  # none: it has just ended, or what lies there is not ours
            if len(leaders) > _MOST_LEADERS:
                return look
            await asyncio.sleep(_POLLS_S[polls] if polls < len(_POLLS_S) else 0.1)
            polls += 1
            beginning = self._begin(flight, token)
        self._lease(flight, token)
        return Look(None, Right(look.right.generation, token))

    async def _seen(self, kept: bytes | None, generations: list[bytes | None], place: Place, unix_now: float) -> Look:
        generation = b"".join([one or _FIRST for one in generations])
        if kept is None or not kept.startswith(generation):
            return Look(None, Right(generation))
        entry = memoryview(kept)[len(generation) :]
        if entry != _LARGE_MARK:
            return Look(decode(entry, place.digest, unix_now), Right(generation))
        try:
            (large,) = await self._link.run(("GET", self._key(place, LARGE_ANSWER)), timeout_s=_LARGE_S)
        except ConnectionError as error:
            self._ledger.trouble("read", _reason(error))
            return Look(None, Right(generation))
        if not isinstance(large, bytes) or not large.startswith(generation):
            return Look(None, Right(generation))
        return Look(decode(memoryview(large)[len(generation) :], place.digest, unix_now), Right(generation))

    def _is_unused(self, flight: bytes, token: bytes | None) -> bool:
        """It is of this process, and over: the store refused to keep the answer, or we were not told of its begin."""
        return token is not None and token.startswith(self._process) and self._leases.get(flight) != token

    # -- writing

    def keep(self, place: Place, entry: Entry, right: Right) -> None:
        """Returns at once."""
        if not right.generation:
            return
        value = right.generation + encode(entry)
        ttl_ms = max(round((entry.expires_at - entry.made_at) * 1000), 1)
        landed = partial(self._landed, len(value), self._key(place, FLIGHT), right.token, ttl_ms)
        if len(value) > LARGE:
            mark = right.generation + _LARGE_MARK
            large = ("SET", self._key(place, LARGE_ANSWER), value, "PX", ttl_ms)
            self._run(self._keep_large(large, ("SET", self._key(place, ANSWER), mark, "PX", ttl_ms), landed))
            return
        writing = self._line.ask_without_hurry("SET", self._key(place, ANSWER), value, "PX", ttl_ms)
        writing.add_done_callback(lambda reply: landed(_outcome(reply)))

    def abandon(self, place: Place, right: Right) -> None:
        """There is nothing to keep: another process may ask now."""
        if right.token:
            flight = self._key(place, FLIGHT)
            self._end_lease(flight, right.token)
            self._replace(flight, right.token)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    # -- details

    def _key(self, place: Place, kind: bytes) -> bytes:
        return b"%b:%b:%b:%b" % (self._prefix, place.group.encode(), kind, place.key)

    def _answer_keys(self, place: Place) -> tuple[bytes, bytes, bytes]:
        return self._key(place, ANSWER), self._generation, generation_key(self._namespace, place.group)

    def _lease(self, flight: bytes, token: bytes) -> None:
        self._leases[flight] = token
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    def _renew(self) -> None:
        """Another's flight that took the place of ours may be renewed too: our answer will do for both."""
        self._timer = None
        for flight in self._leases:
            self._line.post("PEXPIRE", flight, LEASE_MS)
        if self._leases:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    def _end_lease(self, flight: bytes, token: bytes) -> None:
        if self._leases.get(flight) == token:
            del self._leases[flight]

    def _replace(self, flight: bytes, token: bytes) -> None:
        self._line.post(*_replacing(flight, token, b""))

    def _landed(self, size: int, flight: bytes, token: bytes, ttl_ms: int, outcome: Any) -> None:
        self._end_lease(flight, token)
        if isinstance(outcome, Exception):
            self._ledger.trouble("write", _reason(outcome))
        else:
            self._ledger.written(size)
        if token and isinstance(outcome, RedisError):
            self._replace(flight, token)
        elif token and ttl_ms <= LEASE_MS:
            self._line.post("PEXPIRE", flight, ttl_ms)  # not longer than the answer; else it ends by itself

    def _run(self, writing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(writing)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _keep_large(self, large: tuple[Word, ...], mark: tuple[Word, ...], landed: Callable[[Any], None]) -> None:
        try:
            outcomes = await self._link.run(large, mark, timeout_s=_LARGE_S)
        except ConnectionError as error:
            outcomes = [error]
        landed(next((one for one in outcomes if isinstance(one, Exception)), None))


def _replacing(flight: bytes, token: bytes, by: bytes) -> tuple[Word, ...]:
    return "EVAL", _REPLACE, 1, flight, token, by, LEASE_MS


def _outcome(reply: "asyncio.Future[Any]") -> Any:
    """The reply, or the error instead of it."""
    if reply.cancelled():
        return ConnectionError("cancelled")
    return reply.exception() or reply.result()


def _reason(error: BaseException) -> str:
    """A class of trouble, fit for a metric's label: the store's own error code, such as OOM or READONLY."""
    if isinstance(error, RedisError):
        code = str(error).partition(" ")[0].rstrip(":")
        return code if code.isupper() and 3 <= len(code) <= 20 else type(error).__name__
    return "away"
