"""One attempt at one endpoint, from the lease to the last byte. However it ends, it is settled exactly once.

`open` reads until it is known whether the answer can be passed on: a whole JSON body, or a stream's first event. What
comes after the first event is passed on as it comes (`stream_relay`), and can no longer go elsewhere.
"""

from collections.abc import Callable
from typing import Self

from routing.balancing.board import HealthBoard, Lease
from routing.balancing.health import Reason
from routing.balancing.rotation import Pick
from routing.config.table import RoutingTable
from routing.course import Course
from routing.openai.answers import BYPASS, STREAM_HEADERS, content_type, passed_on
from routing.redaction import strike_out
from routing.stream_relay import StreamRelay
from routing.upstream import classify
from routing.upstream.answer_facts import AnswerFacts, Usage, read_answer, read_error
from routing.upstream.classify import Cause, Outcome, Verdict
from routing.upstream.errors import UpstreamError
from routing.upstream.transport import Headers, Limits, Reply, Upstream
from stats.record import AttemptRecord
from stats.recorder import Recorder

_LARGEST_ERROR = 1 << 20  # bytes; it is searched for secrets, and no provider's is larger


class Attempt:
    """Use it with `with`: leaving settles it as cancelled if nothing else has settled it."""

    is_hit = False
    __slots__ = ("_asks_usage", "_board", "_lease", "_recorder", "_reply", "_shown", "_upstream", "body", "cache",
                 "cost", "course", "endpoint", "facts", "first_event_s", "headers", "observe", "pick", "relay",
                 "status", "verdict")  # fmt: skip

    def __init__(self, pick: Pick, course: Course, upstream: Upstream, board: HealthBoard, recorder: Recorder) -> None:
        self.pick = pick
        self.endpoint = pick.endpoint
        self.course = course
        self.verdict: Verdict | None = None  # None: not settled
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.cache = BYPASS  # the header line that says what the cache had to do with it
        self.facts: AnswerFacts | None = None
        self.relay: StreamRelay | None = None  # of a stream whose first event has come
        self.first_event_s: float | None = None
        self.observe: Callable[[bytes], None] | None = None  # shown every piece of a stream
        self.cost: int | None = None  # once settled: billionths of a US dollar; None: unknown
        self._board = board
        self._upstream = upstream
        self._recorder = recorder
        self._reply: Reply | None = None
        self._shown: Headers | None = None
        self._asks_usage = course.request.stream and board.asks_usage(pick.endpoint)  # whether or not the client does
        self._lease = Lease(board.of(pick.endpoint), board.clock(), probe=pick.probe)
        self._lease.__enter__()  # ended by _settle, which every way out of this object passes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent. Frees everything."""
        if self.verdict is None:
            self._settle(classify.CANCELLED)

    # -- what the door passes on (`routing.answer.Answer`)

    @property
    def is_stream(self) -> bool:
        return self.relay is not None

    @property
    def complete(self) -> bool:
        """Of a stream: all of it has been passed on, but for the end of the body."""
        return self.relay is not None and self.relay.complete

    @property
    def table(self) -> RoutingTable:
        return self.course.table

    @property
    def patience_s(self) -> float:
        """As long as the upstream may take for it, but counted from when it is passed on."""
        times = self.endpoint.timeouts
        return times.http_s if self.relay is None else times.stream_s

    @property
    def upstream_s(self) -> float:
        return self.course.upstream_s

    @property
    def hopeless(self) -> bool:
        return self.status >= 400 and (self.verdict is None or self.verdict.retry)

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome if self.verdict else Outcome.CANCELLED

    def head(self, cache: tuple[bytes, bytes] | None = None, attempts: int | None = None) -> Headers:
        """Where it was got from, and what the upstream says about it. Given values: of a stream that others get too."""
        count = self.course.attempts if attempts is None else attempts
        kind = STREAM_HEADERS if self.relay is not None else (content_type(self.headers),)
        told = (b"x-llmproxy-attempts", b"%d" % count)
        return [*kind, self.endpoint.name_header, told, cache or self.cache, *self.shown()]

    def shown(self) -> Headers:
        """The upstream's headers that clients see."""
        if self._shown is None:
            self._shown = passed_on(self.headers)
        return self._shown

    @property
    def usage(self) -> Usage | None:
        """Tokens as far as the upstream has told them."""
        stored = self.course.request.route.kind == "item"  # what such a response used was counted when it was made
        if self.relay is not None:
            return None if stored else self.relay.usage
        if self.facts is None or (stored and not self.facts.in_background):
            return None
        return self.facts.usage

    # -- until it is known whether the answer can be passed on

    async def open(self) -> None:
        """Returns when the answer can be passed on, or the attempt is settled (`verdict` says how)."""
        try:
            verdict = await self._open()
        except UpstreamError as error:
            verdict = classify.of_error(error)
        except BaseException:
            self._settle(classify.CANCELLED)
            raise
        if verdict is not None:
            self._settle(verdict)

    async def _open(self) -> Verdict | None:
        """None: a stream goes on."""
        request, endpoint = self.course.request, self.endpoint
        operation = request.operation
        target = endpoint.target(request.method, operation, request.query)
        body = request.asking_usage(endpoint.model_json) if self._asks_usage else None
        if body is None:
            self._asks_usage = False
            body = request.body_for(endpoint.model_json)
        self._reply = reply = await self._upstream.send(
            target, body, self._limits(), request.headers, fresh=request.once_only
        )
        self.status, self.headers = reply.status, reply.headers
        if not 200 <= reply.status < 300:
            verdict = await self._refused(reply)
            if self._asks_usage and classify.refuses_usage(reply.status, self.body):
                return await self._open_without_usage(reply)
            return verdict
        if request.stream:
            return await self._open_stream(reply)
        self._answered()
        self.body = await reply.read()
        return self._read_json()

    async def _open_without_usage(self, reply: Reply) -> Verdict | None:
        """Once more, without what the client never asked for. It is the same attempt."""
        reply.close()
        self._reply, self._asks_usage = None, False
        self.status, self.headers, self.body = 0, [], b""
        verdict = await self._open()
        if 200 <= self.status < 300:
            self._board.refused_usage(self.endpoint)
        return verdict

    def _limits(self) -> Limits:
        endpoint, began, course = self.endpoint, self._lease.began, self.course
        times = endpoint.timeouts
        if not course.request.stream:
            deadline = min(began + times.http_s, course.deadline)
        elif course.cuts_first_event(began):
            deadline = began + times.first_event_s
        else:
            deadline = began + times.stream_s
        return Limits(times.connect_s, deadline, endpoint.max_connections, endpoint.max_answer_bytes)

    async def _refused(self, reply: Reply) -> Verdict:
        # Of a stream too: an error is a JSON answer, and must not be awaited for as long as a stream may last.
        reply.deadline = min(reply.deadline, self._lease.began + self.endpoint.timeouts.http_s)
        try:
            self.body = await _error_body(reply)
        except UpstreamError:
            self.body = b""  # the status says enough
        verdict = classify.of_status(reply.status, reply.headers, self.body)
        request = self.course.request
        if (
            verdict.outcome is Outcome.REJECTED
            and reply.status == 404
            and (request.pins or request.route.kind == "item")
        ):
            # OpenAI's 404 for a stored response has no code of its own.
            return Verdict(Outcome.REJECTED, retry=False, cause=Cause.UNKNOWN_ID, error=verdict.error)
        return verdict

    def _read_json(self) -> Verdict:
        if not self.body and self.course.request.method == "DELETE":
            return classify.SUCCESS
        self.facts = read_answer(self.body)
        if self.facts is None:
            return classify.unusable("invalid JSON" if self.body else "empty answer")
        if self.facts.is_error:
            error = read_error(self.body)
            return classify.unusable("error in a 200 answer" if error else "error")
        return classify.SUCCESS

    async def _open_stream(self, reply: Reply) -> Verdict | None:
        kind = next((value for name, value in reply.headers if name == b"content-type"), b"")
        if not kind.lower().startswith(b"text/event-stream"):
            return classify.unusable("not an event stream")
        request = self.course.request
        reply.idle_timeout_s = self.endpoint.timeouts.idle_s
        limit = self.endpoint.max_answer_bytes
        relay = StreamRelay(reply, request.route.events, request.choices, limit, drops_usage=self._asks_usage)
        if (trouble := await relay.open()) is not None:
            return trouble
        self.relay = relay
        self._answered()
        if relay.goes_on:
            reply.deadline = self._lease.began + self.endpoint.timeouts.stream_s
        group = self.course.group
        if group is not None and group.stream_recovery == "buffer":
            return await relay.gather()
        return None

    def _answered(self) -> None:
        """The head of the answer, or a stream's first event: the endpoint lives."""
        now = self._board.clock()
        self.first_event_s = now - self._lease.began
        self._board.of(self.endpoint).observe_latency(self.first_event_s, now)
        self._board.answered(self.endpoint, self._lease.began)
        self._lease.answered()

    # -- the rest of a stream

    async def piece(self) -> bytes | None:
        """Whole events as they come, None at the end. A stream that breaks ends with an event that says so."""
        relay = self.relay
        if relay is None:
            return None
        piece = await relay.piece()
        if self.verdict is None and relay.verdict is not None:
            if piece is None:
                await relay.drain()
                self._settle(relay.verdict)
            elif relay.verdict.outcome is not Outcome.SUCCESS:
                self._settle(relay.verdict)
                piece = strike_out(piece, self.course.table)  # the upstream's own error event, perhaps
        if piece is not None and self.observe is not None:
            self.observe(piece)
        return piece

    # -- the end

    def _settle(self, verdict: Verdict) -> None:
        """Frees the connection, ends the lease, counts the outcome, tells health and the request's course."""
        if verdict is classify.CANCELLED and self.relay is not None and self.relay.verdict is not None:
            verdict = self.relay.verdict  # the answer had ended before the client left
        self.verdict = verdict
        now = self._board.clock()
        duration = now - self._lease.began
        if self._reply is not None:
            self._reply.close()
        self._lease.__exit__()
        self.course.upstream_s += duration
        self._tell_health(verdict, now)
        self.course.note(self.pick, verdict, self.status)
        if verdict.outcome is not Outcome.UNCOUNTED:
            self._record(verdict, duration)

    def _record(self, verdict: Verdict, duration: float) -> None:
        endpoint, outcome, usage, trail = self.endpoint, verdict.outcome._value_, self.usage, self.course.request.trail
        began_ms = (self._lease.began - trail.began) * 1000
        attempt = AttemptRecord(
            endpoint.name, endpoint.id, outcome, verdict.error, self.status, began_ms, duration * 1000
        )
        trail.ended(attempt)
        if usage is None:
            self._recorder.attempt_ended(attempt)
        else:
            self._recorder.attempt_ended(attempt, usage.input, usage.output)
            trail.usage = usage
        trail.endpoint, trail.endpoint_id = endpoint.name, endpoint.id
        trail.partial = verdict.outcome is Outcome.CANCELLED and self.relay is not None
        self.cost = self._cost(verdict)
        trail.spend(self.cost)

    def _cost(self, verdict: Verdict) -> int | None:
        """Billionths of a US dollar. None: it has worked, and nobody knows for how much."""
        usage, price = self.usage, self._recorder.prices.get(self.endpoint.id)
        if usage is not None:
            return price.cost_nano_usd(usage.input, usage.output, usage.cached) if price else None
        worked = self.first_event_s is not None and self.course.request.route.kind != "item"
        return None if worked and not (price and price.is_free) else 0

    def _tell_health(self, verdict: Verdict, now: float) -> None:
        endpoint, board, course = self.endpoint, self._board, self.course
        if verdict.outcome is Outcome.SUCCESS:
            board.succeeded(endpoint, self._lease.began)
        elif verdict.cause is Cause.RATE_LIMIT:
            board.cool(endpoint, verdict.cools_s or endpoint.cooldown_s, Reason.RATE_LIMIT)
            course.note_cooldown(endpoint, verdict)
        elif verdict.outcome is Outcome.FAILURE:
            if board.failed(endpoint, self._lease.began, course.threshold(self.pick, verdict, now)):
                course.note_cooldown(endpoint, verdict)
        elif verdict.outcome is Outcome.REJECTED and self.pick.probe:
            board.succeeded(endpoint, self._lease.began)  # it refused this request, so it lives


async def _error_body(reply: Reply) -> bytes:
    """The body of an answer that is no success; nothing, if it is larger than an error has reason to be."""
    pieces: list[bytes] = []
    size = 0
    while (piece := await reply.piece()) is not None:
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST_ERROR:
            return b""
    return b"".join(pieces)
