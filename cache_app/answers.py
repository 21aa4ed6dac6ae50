"""The story of a cacheable request: kept in this process? asked for already? kept in the store? Else ask, and keep.

It knows answers only as what was sent: how to ask, and what of an answer may be kept, is told by whoever wants it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec
import structlog

from cache_app.entry import Entry
from cache_app.flight import Flights, Presence
from cache_app.process_tier import ProcessTier
from cache_app.shared_stream import MOST_LAG, Budget, SharedStream, StreamReader
from cache_app.store import AnswerStore, Place, Right

log = structlog.get_logger(__name__)

HELD_BY_STREAMS = 32 << 20  # bytes of a worker's streams under way; what goes beyond is passed on, and not kept
_MOST_LEADERS = 2  # that fail while a request waits for them; then it asks on its own


class Answer(Protocol):
    """What asking brings. Only streams are read here."""

    @property
    def is_stream(self) -> bool: ...

    @property
    def complete(self) -> bool: ...

    async def piece(self) -> bytes | None: ...

    def close(self) -> None: ...


A = TypeVar("A", bound=Answer)


class Wanted(Protocol[A]):
    """One cacheable request."""

    place: Place
    presence: Presence
    most_bytes: int  # of an entry; more of a stream is not held for others

    async def ask(self) -> A:
        """Asks an upstream. Raises what it likes."""
        ...

    def fails_for_all(self, error: Exception) -> bool:
        """Who waited has waited long enough: nobody need ask again."""
        ...

    def was_too_large(self) -> None:
        """A stream was, to be kept."""
        ...

    def entry(self, answer: A, body: bytes | None) -> Entry | None:
        """What others may get of the answer; None: nothing. body: a stream's whole; None: the answer has its own.

        An entry that has expired when it is made is for those who wait for it now, and not kept.
        """
        ...


class Found(msgspec.Struct, frozen=True, gc=False):
    """An answer that nobody had to be asked for. where: `process`, `store`, or `flight` for one that was waited for."""

    entry: Entry
    where: str


class Shared(NamedTuple, Generic[A]):
    """A place in a stream that comes now. leads: the answer was asked for by this very request."""

    reader: StreamReader
    answer: A
    leads: bool


class _Opened(NamedTuple, Generic[A]):
    stream: SharedStream
    answer: A


class AnswerCache(Generic[A]):
    """One worker's. Answers to streams are asked for at most once at a time in a worker, others over all workers."""

    def __init__(self, store: AnswerStore, clock: Callable[[], float] = time.time, most_lag: int = MOST_LAG) -> None:
        """most_lag: as of `SharedStream`."""
        self._most_lag = most_lag
        self.tier = ProcessTier()
        self._store = store
        self._clock = clock
        self._flights: Flights[Entry] = Flights()
        self._stream_flights: Flights[Entry | _Opened[A]] = Flights()
        self._streams: dict[bytes, _Opened[A]] = {}
        self._held = Budget(HELD_BY_STREAMS)

    async def find(self, place: Place) -> Found | None:
        """Only what is kept."""
        now = self._clock()
        if (entry := self.tier.get(place.key, now)) is not None:
            return Found(entry, "process")
        epoch = self.tier.epoch
        entry = (await self._store.get(place, now)).entry
        return self._found(place, entry, epoch) if entry is not None else None

    async def answer(self, wanted: Wanted[A]) -> Found | A:
        """For answers that come whole."""
        key = wanted.place.key
        for _ in range(_MOST_LEADERS):
            if (entry := self.tier.get(key, self._clock())) is not None:
                return Found(entry, "process")
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(wanted)
            if (entry := await flight.wait()) is not None:
                return Found(entry, "flight")
        return await wanted.ask()

    async def stream(self, wanted: Wanted[A]) -> Found | Shared[A] | A:
        """For streams; those that cannot be shared come back as they are."""
        key = wanted.place.key
        for _ in range(_MOST_LEADERS):
            if (entry := self.tier.get(key, self._clock())) is not None:
                return Found(entry, "process")
            result: Entry | _Opened[A] | None = self._streams.get(key)
            if result is None:
                flight = self._stream_flights.get(key)
                if flight is None:
                    return await self._lead_stream(wanted)
                result = await flight.wait()
            if isinstance(result, Entry):
                return Found(result, "flight")
            if result is not None and result.stream.joinable:
                return Shared(result.stream.join(wanted.presence), result.answer, leads=False)
        return await wanted.ask()

    def idle(self) -> bool:
        """Nothing is asked for now, and no stream under way."""
        return not (self._flights or self._stream_flights or self._streams)

    # -- leading

    async def _lead(self, wanted: Wanted[A]) -> Found | A:
        place, epoch = wanted.place, self.tier.epoch
        self._flights.begin(place.key, wanted.presence)
        entry: Entry | None = None
        failure: Exception | None = None
        try:
            look = await self._store.look(place, self._clock())
            if look.entry is not None:
                entry = look.entry
                return self._found(place, entry, epoch)
            try:
                answer = await wanted.ask()
            except BaseException:
                self._store.abandon(place, look.right)
                raise
            entry = self._keep_whole(wanted, answer, epoch, look.right)
            return answer
        except Exception as error:
            failure = error if wanted.fails_for_all(error) else None
            raise
        finally:
            self._flights.land(place.key, entry, failure)

    async def _lead_stream(self, wanted: Wanted[A]) -> Found | Shared[A] | A:
        place, epoch = wanted.place, self.tier.epoch
        self._stream_flights.begin(place.key, wanted.presence)
        kept: Entry | None = None
        opened: _Opened[A] | None = None
        failure: Exception | None = None
        waited = False
        try:
            look = await self._store.get(place, self._clock())
            if (kept := look.entry) is not None:
                return self._found(place, kept, epoch)
            answer = await wanted.ask()
            if not answer.is_stream:
                return answer
            opened = self._open(wanted, answer, epoch, look.right)
            reader = opened.stream.join(wanted.presence)
        except Exception as error:
            failure = error if wanted.fails_for_all(error) else None
            raise
        finally:
            waited = self._stream_flights.land(place.key, kept or opened, failure)
        if waited:
            await _leaving_on_error(reader)
        return Shared(reader, answer, leads=True)

    def _open(self, wanted: Wanted[A], answer: A, epoch: int, right: Right) -> _Opened[A]:
        place = wanted.place

        def ended(stream: SharedStream) -> None:
            if self._streams.get(place.key) is opened:
                del self._streams[place.key]
            if stream.too_large:
                wanted.was_too_large()
            body = stream.whole()
            if body is not None and (entry := wanted.entry(answer, body)) is not None:
                self._keep(place, entry, epoch, right)

        opened = _Opened(SharedStream(answer, wanted.most_bytes, self._held, ended, self._most_lag), answer)
        self._streams[place.key] = opened
        return opened

    # -- keeping

    def _keep_whole(self, wanted: Wanted[A], answer: A, epoch: int, right: Right) -> Entry | None:
        """What others may get of it. A fault of ours does not spoil the answer."""
        try:
            entry = wanted.entry(answer, None)
            if entry is not None:
                self._keep(wanted.place, entry, epoch, right)
                return entry
        except Exception:
            log.exception("an answer could not be kept")
        self._store.abandon(wanted.place, right)
        return None

    def _keep(self, place: Place, entry: Entry, epoch: int, right: Right) -> None:
        """Not what was asked for before a deletion, nor what is only for those who wait for it now."""
        if epoch != self.tier.epoch or entry.expires_at <= entry.made_at:
            self._store.abandon(place, right)
            return
        self.tier.put(place.key, entry)
        self._store.keep(place, entry, right)

    def _found(self, place: Place, entry: Entry, epoch: int) -> Found:
        if epoch == self.tier.epoch:
            self.tier.put(place.key, entry)
        return Found(entry, "store")


async def _leaving_on_error(reader: StreamReader) -> None:
    """Those who waited join in the loop's next turn; only then may the leader leave the stream."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        reader.leave()
        raise
