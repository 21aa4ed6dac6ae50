"""Passes an upstream's event stream on: whole events, bytes unchanged, never held back, and an honest end.

A stream that breaks after its first event ends with an event that says so, and without [DONE].
"""

import asyncio
from collections.abc import Iterable
from itertools import chain

from routing.openai.sse import Cut, EventCutter, EventTooLarge, until, without
from routing.openai.stream_end import Seen, interruption, watch_for
from routing.upstream import classify
from routing.upstream.answer_facts import Usage
from routing.upstream.classify import Cause, Outcome, Verdict
from routing.upstream.errors import UpstreamError
from routing.upstream.transport import Reply

_DRAIN_S = 0.1  # for the end of a body whose last event has come; most often it came with it
_AFTER_COMPLETE_S = 1.0  # for what may still follow a whole answer: a usage chunk, [DONE]
_LAST_EVENT = b"data: [DONE]\n\n"
_LARGEST_EVENT = 1 << 26  # bytes; images come as base64 of some MB
_LONGEST_PRELUDE = 1 << 20  # bytes of comments held before the first event


class StreamRelay:
    """One stream. `verdict` is set once the answer has ended, one way or another."""

    __slots__ = ("_cutter", "_drops_lf", "_drops_usage", "_ended_in_cr", "_ended_in_words", "_events", "_ready",
                 "_reply", "_watch", "verdict")  # fmt: skip

    def __init__(self, reply: Reply, events: str, choices: int, limit: int, *, drops_usage: bool = False) -> None:
        """events: the route's kind of stream; choices: how many it must finish (chat); limit: bytes of one event;
        drops_usage: a chunk with nothing but the usage is not passed on, as the client has not asked for it.
        """
        self._reply = reply
        self._events = events
        self._cutter = EventCutter(min(limit, _LARGEST_EVENT))
        self._watch = watch_for(events, choices)
        self._ready: list[bytes] = []  # to be passed on before anything is read
        self._ended_in_cr = False  # the last event: a LF may belong to its end
        self._ended_in_words = events == "responses"
        self._drops_usage = drops_usage
        self._drops_lf = False  # what was not passed on ended in a CR: a LF that follows belongs to it
        self.verdict: Verdict | None = None

    @property
    def usage(self) -> Usage | None:
        return self._watch.usage

    @property
    def response_id(self) -> str | None:
        return self._watch.response_id

    @property
    def goes_on(self) -> bool:
        """More events are to come, as far as those seen tell."""
        return self.verdict is None and not (self._events == "responses" and self._watch.complete())

    @property
    def ended_whole(self) -> bool:
        """The end came in words: [DONE] behind a `finish_reason` for each choice, or the responses' own last event."""
        return self._ended_in_words and self._watch.complete()

    @property
    def complete(self) -> bool:
        """A whole answer, and all of it passed on: only the end of the body may be missing."""
        return self.verdict is classify.SUCCESS and not self._ready and not self._ended_in_cr

    async def open(self) -> Verdict | None:
        """Reads up to the first data event. Returns what makes the stream unusable, None if it can be passed on.

        Comments before that event are held: they commit nothing, so another endpoint may still be asked.
        """
        held = 0
        while (read := await self._reply.piece()) is not None:
            try:
                cut = self._cutter.feed(read)
            except EventTooLarge:
                return classify.unusable("event too large")
            if cut.payloads:
                return self._begin(cut)
            held += len(cut.whole)
            if held > _LONGEST_PRELUDE:
                return classify.unusable("stream without a data event")
            self._ready.append(cut.whole)
        return classify.unusable("stream without a data event")

    def _begin(self, cut: Cut) -> Verdict | None:
        first = self._watch.see(cut.payloads[0])
        if first is Seen.ERROR:
            return classify.unusable("error event")
        if first is Seen.MALFORMED:
            return classify.unusable("malformed event")
        if first is Seen.DONE:
            return classify.unusable("stream without a data event")
        self._ready.append(self._take(cut, chain((first,), map(self._watch.see, cut.payloads[1:]))))
        return None

    async def piece(self) -> bytes | None:
        """The next whole events, None at the end."""
        if self._ready:
            ready, self._ready = b"".join(self._ready), []
            if ready:
                return ready
        while self.verdict is None:
            try:
                read = await self._reply.piece()
            except UpstreamError as error:
                return self._broke(classify.of_error(error))
            if read is None:
                return self._broke(classify.unusable("stream cut short"))
            try:
                cut = self._cutter.feed(read)
            except EventTooLarge:
                return self._broke(classify.unusable("event too large"))
            if out := self._take(cut, map(self._watch.see, cut.payloads)):
                return out
        return await self._line_feed()

    async def _line_feed(self) -> bytes | None:
        """Of the CR LF that ends the last event, where a read ended between the two."""
        if not self._ended_in_cr:
            return None
        self._ended_in_cr = False
        self._reply.deadline = asyncio.get_running_loop().time() + _DRAIN_S
        try:
            read = await self._reply.piece()
        except UpstreamError:
            return None
        return b"\n" if read is not None and read.startswith(b"\n") else None

    async def gather(self) -> Verdict:
        """Reads the whole stream before any of it is passed on, so that a failure can still go elsewhere."""
        pieces = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        self._ready = pieces
        await self.drain()
        if self.verdict is not None and self.verdict.outcome is Outcome.SUCCESS:
            return self.verdict
        return classify.unusable(self.verdict.error if self.verdict else "stream cut short")

    async def drain(self) -> None:
        """Waits a moment for the end of the body, so that the connection can be used again."""
        if self.verdict is None or self.verdict.outcome is not Outcome.SUCCESS:
            return
        self._reply.deadline = asyncio.get_running_loop().time() + _DRAIN_S
        try:
            while await self._reply.piece() is not None:
                pass
        except UpstreamError:
            self._reply.close()

    def _take(self, cut: Cut, meanings: Iterable[Seen]) -> bytes:
        """What of `cut` may be passed on. meanings: of its payloads; taken as far as the stream goes."""
        out = cut.whole
        usage: tuple[int, ...] = ()
        for index, meaning in enumerate(meanings):
            if meaning is Seen.MORE:
                continue
            if meaning is not Seen.USAGE:
                out = self._end(cut, index, meaning)
                break
            usage = (*usage, index + 1)
        if self._events == "responses" and self.verdict is None and self._watch.complete():
            give_up_at = asyncio.get_running_loop().time() + _AFTER_COMPLETE_S
            self._reply.deadline = min(self._reply.deadline, give_up_at)
        return self._clipped(out, usage) if self._drops_usage else out

    def _clipped(self, out: bytes, usage: tuple[int, ...]) -> bytes:
        """Without the events of these numbers, and without the rest of one before them."""
        clipped, end_is_cut = without(out, usage) if usage else (out, False)
        if self._drops_lf and out:
            self._drops_lf = False
            clipped = clipped.removeprefix(b"\n")
        if end_is_cut:
            self._drops_lf = out.endswith(b"\r")
        return clipped

    def _end(self, cut: Cut, index: int, meaning: Seen) -> bytes:
        # Of chat streams [DONE] is the end; responses end with an event of their own, and SDKs take [DONE] for quiet.
        if meaning is Seen.DONE and (self._events != "responses" or self._watch.complete()):
            self.verdict = classify.SUCCESS
            self._ended_in_words = True
            ends_so = index + 1 == len(cut.payloads) and cut.whole.endswith(_LAST_EVENT)
            out = cut.whole if ends_so else until(cut.whole, index + 1)
            self._ended_in_cr = out == cut.whole and out.endswith(b"\r")
            return out
        if meaning is Seen.ERROR:
            self.verdict = _broken("error event")
            return until(cut.whole, index + 1)
        self.verdict = _broken("malformed event" if meaning is Seen.MALFORMED else "stream cut short")
        return until(cut.whole, index) + interruption(self._events)

    def _broke(self, verdict: Verdict) -> bytes | None:
        """Nothing more comes. A whole answer of which only the [DONE] is missing is a success."""
        if self._watch.complete():
            self.verdict = classify.SUCCESS
            return None
        self.verdict = _broken(verdict.error)
        return interruption(self._events)


def _broken(error: str) -> Verdict:
    """Something was passed on already: no other endpoint can take over."""
    return Verdict(Outcome.FAILURE, retry=False, cause=Cause.STATUS, error=f"stream interrupted: {error}")
