"""Kept answers in the store, and which process asks for one now. Waits are bounded; trouble is a miss, never an error.

Keys are `{namespace}:{group}:{kind}:{key}`. Under an answer's key lies the answer, or the token of whoever asks for it
now. Every answer begins with the generation that it was asked for in. A deletion begins a new one, so nothing older is
read, whenever it arrives. Plain commands: a script costs the store 10 us more.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec
import structlog
from redis.exceptions import RedisError, ResponseError

from cache_app.commands import RENEW, REPLACE, set_for, set_if_nothing_lies_there
from cache_app.connections import Line, Link, Word
from cache_app.entry import Entry, decode, encode

log = structlog.get_logger(__name__)

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
# saves a miss a round trip; for a hit it costs the store more than to look only.
_MOSTLY = 0.5
# No generation begins like it: the version of a UUID stands where the colon is.
_TOKEN = b"asking:"
TOKEN_BYTES = len(_TOKEN) + 32 + 1 + 12  # the process, a colon, a number

_RENEWED_TOGETHER = 100


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an answer is kept. group, key: of a safe alphabet; digest: compared on read."""

    group: str
    key: bytes
    digest: bytes


class Right(msgspec.Struct, frozen=True, gc=False):
    """To keep an answer. generation: to begin its value with; empty where the store did not answer to the end."""

    generation: bytes = b""
    token: bytes = b""  # ours, under the answer's key; empty where nobody waits for us


class Look(msgspec.Struct, frozen=True, gc=False):
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
        self._ledger = ledger
        self._process = b"%b%b:" % (_TOKEN, uuid.uuid4().hex.encode())
        self._number = 0
        self._found_lately = _MOSTLY
        self._is_old = False
        self._leases: dict[bytes, bytes] = {}  # an answer's key -> our token
        self._words: dict[str, tuple[bytes, tuple[Word, ...]]] = {}  # of groups, see `_words_of`
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    # -- reading

    async def get(self, place: Place, unix_now: float) -> Look:
        """What is kept; nobody waits for us."""
        return (await self._read(place, self._key(place), unix_now))[1]

    async def look(self, place: Place, unix_now: float) -> Look:
        """What is kept, or the right to ask for it; waits while another process asks, as long as that lives."""
        if self._is_old:
            return await self.get(place, unix_now)
        self._number += 1
        token = b"%b%012d" % (self._process, self._number)
        key = self._key(place)
        look = Look()
        try:
            lies, look = await self._read(place, key, unix_now, token, peeks=self._found_lately >= _MOSTLY)
            if look.right.generation:
                self._found_lately += ((look.entry is not None) - self._found_lately) / 16
            if look.entry is None and lies is not None and lies != token:
                lies, look = await self._wait(place, token, (lies, look), unix_now)
            return self._leads(key, look, token) if lies == token else look
        except (ConnectionError, RedisError) as error:
            self._ledger.trouble("read", _reason(error))
            return look
        except asyncio.CancelledError:
            self._replace(key, token)  # it may lie there already
            raise

    async def _wait(
        self, place: Place, token: bytes, read: tuple[bytes | None, Look], unix_now: float
    ) -> tuple[bytes | None, Look]:
        """For whoever asks now. What then lies there: our token if we may ask."""
        key = self._key(place)
        lies, look = read
        leaders: set[bytes] = set()
        polls = 0
        while lies is not None and lies != token:
            if await self._takes_over(key, lies, token):
                return token, look
            leaders.add(lies)
            if len(lies) > LARGE or len(leaders) > _MOST_LEADERS:  # not ours, and too much to be compared; enough
                return lies, look
            await asyncio.sleep(_POLLS_S[polls] if polls < len(_POLLS_S) else 0.1)
            polls += 1
            before, (lies, look) = look, await self._read(place, key, unix_now, token, peeks=True)
            if not look.right.generation:
                return lies, before
            if look.entry is not None:
                break
        return lies, look

    async def _read(
        self, place: Place, key: bytes, unix_now: float, token: bytes | None = None, *, peeks: bool = True
    ) -> tuple[bytes | None, Look]:
        """What lies there, and what that means.

        token: to be put there if nothing does; then that is what lies there. Nothing, if the store takes no tokens and
        has no answer. peeks: looks first, since something is likely to lie there.
        """
        telling = self._line.ask_once(self._words_of(place.group)[1])
        try:
            lies: bytes | None = None
            if peeks:
                (lies,) = await self._line.ask("MGET", key)  # a value of another type is none
            if lies is None and token is not None:
                try:
                    lies = await self._line.ask_packed(set_if_nothing_lies_there(key, token, FIRST_LEASE_MS))
                    lies = token if lies is None else lies
                except ResponseError as error:  # full, or it takes no writes, which does not keep it from telling
                    (lies,) = await self._line.ask("MGET", key)
                    self._tell_refusal(error)
                    if lies is not None and lies.startswith(_TOKEN):
                        lies = None  # not waited for: the store would not take its answer either
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

    def _tell_refusal(self, error: ResponseError) -> None:
        self._ledger.trouble("read", _reason(error))
        if "syntax error" in str(error) and not self._is_old:
            self._is_old = True
            log.warning("the store does not know SET NX GET, so each worker asks for what another one asks for already",
                        remedy="use Redis 7 or later, or Valkey")  # fmt: skip

    async def _large(self, place: Place, generation: bytes, unix_now: float) -> Entry | None:
        """Raises ConnectionError: it may be there all the same."""
        (large,) = await self._link.run(("GET", self._large_key(place)), timeout_s=_LARGE_S)
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
        key, value = self._key(place), encode(entry, right.generation)
        ttl_ms = round((entry.expires_at - entry.made_at) * 1000) or 1
        keeping = _Keeping(self, len(value), key, right.token)
        if len(value) <= LARGE:
            self._line.ask_for(keeping, set_for(key, value, ttl_ms))
        else:
            large = ("SET", self._large_key(place), value, "PX", ttl_ms)
            writing = self._run(self._keep_large(large, ("SET", key, right.generation + _LARGE_MARK, "PX", ttl_ms)))
            writing.add_done_callback(keeping.ended)

    def abandon(self, place: Place, right: Right) -> None:
        """There is nothing to keep: another process may ask now."""
        if right.token:
            key = self._key(place)
            self._end_lease(key, right.token)
            self._replace(key, right.token)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    # -- details

    def _key(self, place: Place) -> bytes:
        return self._words_of(place.group)[0] + place.key

    def _large_key(self, place: Place) -> bytes:
        return f"{self._namespace}:{place.group}:".encode() + LARGE_ANSWER + b":" + place.key

    def _words_of(self, group: str) -> tuple[bytes, tuple[Word, ...]]:
        """How its answers' keys begin, and the command that reads its generations."""
        if (words := self._words.get(group)) is None:
            begin = f"{self._namespace}:{group}:".encode() + ANSWER + b":"
            generations = generation_key(self._namespace), generation_key(self._namespace, group)
            words = self._words[group] = begin, ("MGET", *generations)
        return words

    def _renew(self) -> None:
        self._timer = None
        leases = list(self._leases.items())
        for start in range(0, len(leases), _RENEWED_TOGETHER):
            keys, tokens = zip(*leases[start : start + _RENEWED_TOGETHER], strict=True)
            self._line.post("EVAL", RENEW, len(keys), *keys, LEASE_MS, *tokens)
        if leases:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    def _end_lease(self, key: bytes, token: bytes) -> None:
        if self._leases.get(key) == token:
            del self._leases[key]

    def _replace(self, key: bytes, token: bytes) -> None:
        self._line.post(*_replacing(key, token, b""))

    def kept(self, size: int, key: bytes, token: bytes) -> None:
        self._end_lease(key, token)
        self._ledger.written(size)

    def not_kept(self, error: Exception, key: bytes, token: bytes) -> None:
        self._end_lease(key, token)
        self._ledger.trouble("write", _reason(error))
        if token and isinstance(error, RedisError):
            self._replace(key, token)

    def _run(self, writing: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(writing)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _keep_large(self, large: tuple[Word, ...], mark: tuple[Word, ...]) -> None:
        """Raises what the store refuses, or ConnectionError."""
        for outcome in await self._link.run(large, mark, timeout_s=_LARGE_S):
            if isinstance(outcome, Exception):
                raise outcome


class _Keeping:
    """An answer on its way to the store: told how that ended."""

    __slots__ = ("_key", "_size", "_store", "_token")

    def __init__(self, store: AnswerStore, size: int, key: bytes, token: bytes) -> None:
        self._store = store
        self._size = size
        self._key = key
        self._token = token

    def done(self) -> bool:
        return False

    def set_result(self, _: Any, /) -> None:
        self._store.kept(self._size, self._key, self._token)

    def set_exception(self, error: Exception, /) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._store.not_kept, error, self._key, self._token)  # which may send something

    def exception(self) -> None:
        """Nobody need see it."""

    def ended(self, writing: "asyncio.Task[None]") -> None:
        """Of a large answer: however it ended, the lease must."""
        error = ConnectionError("cancelled") if writing.cancelled() else writing.exception()
        if isinstance(error, Exception):
            self.set_exception(error)
        else:
            self.set_result(None)


def _replacing(key: bytes, lies: bytes, by: bytes) -> tuple[Word, ...]:
    return "EVAL", REPLACE, 1, key, lies, by, LEASE_MS


def _reason(error: BaseException) -> str:
    """A class of trouble, fit for a metric's label: the store's own error code, such as OOM or READONLY."""
    if isinstance(error, RedisError):
        code = str(error).partition(" ")[0].rstrip(":")
        return code if code.isupper() and 3 <= len(code) <= 20 else type(error).__name__
    return "away"
