"""Kept answers in the store, and which process asks for one now. Waits are bounded; trouble is a miss, never an error.

Keys are `{namespace}:{group}:{kind}:{key}`. Under an answer's key lies the answer, or the token of whoever asks for it
now. Every answer begins with the generation that it was asked for in. A deletion begins a new one, so nothing older is
read, whenever it arrives. Plain commands: a script costs the store 10 us more.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol

from redis.exceptions import RedisError

from cache_app.entry import Entry, decode, encode

Word = str | bytes | int | float

ANSWER = b"a"
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
# The share of look-ups that find something from which on nobody begins to ask before it has looked. To begin at once
# saves a miss a round trip, and costs a hit a command.
_MOSTLY = 0.5
# No generation begins like it: the version of a UUID stands where the colon is.
_TOKEN = b"asking:"
TOKEN_BYTES = len(_TOKEN) + 32 + 1 + 12  # the process, a colon, a number

# KEYS: an answer's. ARGV: what lies there, a token to put in its place or '', lease in ms. Replies with 1 if it did.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""

# KEYS: of answers. ARGV: lease in ms, the token of each key. What has taken a token's place is left alone.
_RENEW = """
for number, key in ipairs(KEYS) do
    if redis.pcall('GET', key) == ARGV[number + 1] then redis.call('PEXPIRE', key, ARGV[1]) end
end
"""
_RENEWED_TOGETHER = 100


class Line(Protocol):
    """The connection that all requests share. What is sent is carried out in this order."""

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """One command's reply, soon: else ConnectionError. A refusal of the store is a RedisError."""
        ...

    def ask_once(self, words: tuple[Word, ...]) -> "asyncio.Future[Any]":
        """The same, for all who ask it before it is sent. Not to be cancelled."""
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
    token: bytes = b""  # ours, under the answer's key; empty where nobody waits for us


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
        self._ledger = ledger
        self._process = b"%b%b:" % (_TOKEN, uuid.uuid4().hex.encode())
        self._number = 0
        self._found_lately = _MOSTLY
        self._leases: dict[bytes, bytes] = {}  # an answer's key -> our token
        self._commands: dict[str, tuple[Word, ...]] = {}  # of groups
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    # -- reading

    async def get(self, place: Place, unix_now: float) -> Look:
        """What is kept; nobody waits for us."""
        return (await self._read(place, self._key(place, ANSWER), unix_now))[1]

    async def look(self, place: Place, unix_now: float) -> Look:
        """What is kept, or the right to ask for it; waits while another process asks, as long as that lives."""
        self._number += 1
        token = b"%b%012d" % (self._process, self._number)
        key = self._key(place, ANSWER)
        beginning = self._begin(key, token) if self._found_lately < _MOSTLY else None
        look = Look()
        try:
            lies, look = await self._read(place, key, unix_now)
            if not look.right.generation:
                return look
            self._found_lately += ((look.entry is not None) - self._found_lately) / 16
            if look.entry is not None:
                return look
            if lies == token:
                return self._leads(key, look, token)
            return await self._lead_or_wait(place, token, (lies, look), beginning, unix_now)
        except (ConnectionError, RedisError) as error:
            self._ledger.trouble("read", _reason(error))
            return look
        except asyncio.CancelledError:
            self._replace(key, token)  # it may lie there already
            raise

    async def _lead_or_wait(
        self,
        place: Place,
        token: bytes,
        read: tuple[bytes | None, Look],
        beginning: "asyncio.Future[Any] | None",
        unix_now: float,
    ) -> Look:
        key = self._key(place, ANSWER)
        lies, look = read
        leaders: set[bytes] = set()
        polls = 0
        while not (lies == token or await self._takes_over(key, lies, token)):
            if lies is not None and len(lies) > LARGE:  # not ours, and too much to be compared
                return look
            if lies is None and beginning is None:
                beginning = self._begin(key, token)
            else:
                if beginning is not None:
                    await beginning  # it says why, if it was refused
                    beginning = None
                leaders.add(lies or b"%d" % polls)  # none: it has just ended, or what lies there is not ours
                if len(leaders) > _MOST_LEADERS:
                    return look
                await asyncio.sleep(_POLLS_S[polls] if polls < len(_POLLS_S) else 0.1)
                polls += 1
            before, (lies, look) = look, await self._read(place, key, unix_now)
            if not look.right.generation:
                return before
            if look.entry is not None:
                return look
        return self._leads(key, look, token)

    def _begin(self, key: bytes, token: bytes) -> "asyncio.Future[Any]":
        return self._line.ask("SET", key, token, "NX", "PX", FIRST_LEASE_MS)

    async def _read(self, place: Place, key: bytes, unix_now: float) -> tuple[bytes | None, Look]:
        """What lies there, and what that means."""
        telling = self._line.ask_once(self._generations(place.group))
        try:
            (lies,) = await self._line.ask("MGET", key)  # a value of another type is none
            # It was asked first, so it has been answered: who is cancelled here cannot take it from the others.
            generation = b"".join([one or _FIRST for one in await telling])
            if lies is None or not lies.startswith(generation):
                return lies, Look(None, Right(generation))
            kept = memoryview(lies)[len(generation) :]
            if kept == _LARGE_MARK:
                return lies, Look(await self._large(place, generation, unix_now), Right(generation))
        except (ConnectionError, RedisError) as error:
            self._ledger.trouble("read", _reason(error))
            return None, Look()
        return lies, Look(decode(kept, place.digest, unix_now), Right(generation))

    async def _large(self, place: Place, generation: bytes, unix_now: float) -> Entry | None:
        """Raises ConnectionError: it may be there all the same."""
        (large,) = await self._link.run(("GET", self._key(place, LARGE_ANSWER)), timeout_s=_LARGE_S)
        if not isinstance(large, bytes) or not large.startswith(generation):
            return None
        return decode(memoryview(large)[len(generation) :], place.digest, unix_now)

    async def _takes_over(self, key: bytes, lies: bytes | None, token: bytes) -> bool:
        """From what is no use: of another generation, unreadable, or a token of this process's that has served.

        Such a token stays where the store was not heard to take it, or refused to keep the answer.
        """
        if lies is None or len(lies) > LARGE or (lies.startswith(_TOKEN) and not self._has_served(key, lies)):
            return False
        return bool(await self._line.ask(*_replacing(key, lies, token)))

    def _has_served(self, key: bytes, token: bytes) -> bool:
        return token.startswith(self._process) and self._leases.get(key) != token

    def _leads(self, key: bytes, look: Look, token: bytes) -> Look:
        self._leases[key] = token
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)
        return Look(None, Right(look.right.generation, token))

    # -- writing

    def keep(self, place: Place, entry: Entry, right: Right) -> None:
        """Returns at once."""
        if not right.generation:
            return
        key, value = self._key(place, ANSWER), right.generation + encode(entry)
        ttl_ms = max(round((entry.expires_at - entry.made_at) * 1000), 1)
        if len(value) <= LARGE:
            writing = self._line.ask("SET", key, value, "PX", ttl_ms)
        else:
            large = ("SET", self._key(place, LARGE_ANSWER), value, "PX", ttl_ms)
            writing = self._run(self._keep_large(large, ("SET", key, right.generation + _LARGE_MARK, "PX", ttl_ms)))
        writing.add_done_callback(partial(self._written, len(value), key, right.token))

    def abandon(self, place: Place, right: Right) -> None:
        """There is nothing to keep: another process may ask now."""
        if right.token:
            key = self._key(place, ANSWER)
            self._end_lease(key, right.token)
            self._replace(key, right.token)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    # -- details

    def _key(self, place: Place, kind: bytes) -> bytes:
        return b"%b:%b:%b:%b" % (self._prefix, place.group.encode(), kind, place.key)

    def _generations(self, group: str) -> tuple[Word, ...]:
        """The command that reads them."""
        if (command := self._commands.get(group)) is None:
            keys = generation_key(self._namespace), generation_key(self._namespace, group)
            command = self._commands[group] = ("MGET", *keys)
        return command

    def _renew(self) -> None:
        self._timer = None
        leases = list(self._leases.items())
        for start in range(0, len(leases), _RENEWED_TOGETHER):
            keys, tokens = zip(*leases[start : start + _RENEWED_TOGETHER], strict=True)
            self._line.post("EVAL", _RENEW, len(keys), *keys, LEASE_MS, *tokens)
        if leases:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    def _end_lease(self, key: bytes, token: bytes) -> None:
        if self._leases.get(key) == token:
            del self._leases[key]

    def _replace(self, key: bytes, token: bytes) -> None:
        self._line.post(*_replacing(key, token, b""))

    def _written(self, size: int, key: bytes, token: bytes, writing: "asyncio.Future[Any]") -> None:
        self._end_lease(key, token)
        outcome = _outcome(writing)
        if not isinstance(outcome, Exception):
            self._ledger.written(size)
            return
        self._ledger.trouble("write", _reason(outcome))
        if token and isinstance(outcome, RedisError):
            self._replace(key, token)

    def _run(self, writing: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(writing)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _keep_large(self, large: tuple[Word, ...], mark: tuple[Word, ...]) -> None:
        """Raises what the store refuses, or ConnectionError."""
        for outcome in await self._link.run(large, mark, timeout_s=_LARGE_S):
            if isinstance(outcome, Exception):
                raise outcome


def _replacing(key: bytes, lies: bytes, by: bytes) -> tuple[Word, ...]:
    return "EVAL", _REPLACE, 1, key, lies, by, LEASE_MS


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
