"""The door: lean channels consumers for the OpenAI routes, and the only place where an error becomes an HTTP answer.

Each skips channels' dispatch tasks, layers and database hook (measured: 108 us a request with them, 30 without), reads
a bounded body, and passes on what the gateway answers.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import structlog
from channels.generic.http import AsyncHttpConsumer

from routing.answer import Answer
from routing.errors import MethodNotAllowed, NotFound, Refusal
from routing.openai.answers import JSON, NO_RETRY, cost_header, error_body, error_headers
from routing.openai.body import ClientLeft, read_body, too_large
from routing.openai.doorstep import for_upstream, is_loopback, request_id, require_json
from routing.openai.entrance import Entrance, Span
from routing.openai.request import NO_SCOPE, LLMRequest, parse_request
from routing.openai.routes import Match, find
from routing.openai.time_limits import TimeOver
from routing.redaction import strike_out
from routing.trail import Trail, record_of
from routing.upstream.classify import Outcome
from routing.upstream.transport import Headers

# An answer may depend on them, which is not worth the knowledge of it where answers are looked for by the body alone.
_ABOUT_CACHING = (b"cache-control", b"openai-beta")

log = structlog.get_logger(__name__)


class OpenAIDoor(AsyncHttpConsumer):
    """One request of an OpenAI route."""

    def __init__(self, entrance: Entrance) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # channels
        self._entrance = entrance
        self._trail = Trail()
        self._started = False  # the head of the answer is sent: nothing can replace it any more
        self._id: bytes = b""
        self._streams = False  # what is asked for
        self._ended_at = 0.0  # of the monotonic clock; 0: now
        self._status = 0  # sent; 0: nothing yet
        self._error = ""  # code of our own error
        self._hit = False
        self._span: Span | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        # The stock __call__ starts a task per source of messages, opens a channel layer and looks for a method.
        self.scope, self.base_send = scope, send
        headers = dict(scope["headers"])
        self._id = request_id(headers)
        match: Match | None = None
        outcome = Outcome.CANCELLED
        try:
            match = self._match(scope)
            outcome = await self._serve(match, headers, receive)
            if not self._entrance.in_flight and not self._hit:  # nobody waits: the answer leaves before it is counted
                self._ended_at = time.monotonic()
                await asyncio.sleep(0)
        except Refusal as refusal:
            outcome = Outcome.REJECTED if refusal.status < 500 else Outcome.FAILURE
            await self._refuse(refusal)
        except ClientLeft:
            outcome = Outcome.CANCELLED
        except TimeOver:  # the client does not read its answer
            raise  # the server cuts the connection
        except Exception:
            # A mistake of ours. The client still gets the error shape, never a stack; the log has the rest.
            outcome = Outcome.FAILURE
            log.exception("the request could not be answered", request_id=self._id.decode("ascii"))
            if self._started:
                raise  # the server cuts the connection, so that nothing looks complete
            await self._refuse(
                Refusal("The gateway made a mistake. Tell its operator the request id.", code="internal_error")
            )
        finally:
            if match is not None and match.route.kind != "models":
                self._ended(match, outcome)

    def _ended(self, match: Match, outcome: Outcome) -> None:
        """Counts the request and hands over its record."""
        entrance, trail = self._entrance, self._trail
        how = outcome._value_  # `value` is a property, which costs 0.3 us
        entrance.recorder.request_ended(how, hit=self._hit)
        trail.revision = trail.revision or entrance.live.table.revision  # as in the answer to what was refused here
        record = record_of(
            trail,
            self._id.decode("ascii"),
            (self._ended_at or time.monotonic()) - trail.began,
            match.route.operation,
            (how, self._status, self._error),
            self._streams,
        )
        entrance.records.add(record)
        if self._span is not None:
            self._span.ended(record)

    def _match(self, scope: Mapping[str, Any]) -> Match:
        methods = find(scope["path"])
        if methods is None:
            raise NotFound(f"There is no route {scope['path']!r} here.", code="unknown_route")
        match = methods.get(scope["method"])
        if match is None:
            raise MethodNotAllowed(scope["method"], tuple(sorted(methods)))
        return match

    async def _serve(self, match: Match, headers: dict[bytes, bytes], receive: Any) -> Outcome:
        entrance = self._entrance
        if entrance.tracing is not None:
            self._span = entrance.tracing.begin(headers)
        server = self.scope.get("server")
        if server and is_loopback(str(server[0])):
            entrance.neighbourhood.check(headers)
        if match.route.kind == "models":
            await self._send_models(match)
            return Outcome.SUCCESS
        generates = match.route.kind == "generate"
        if generates:
            require_json(headers)
        body = await self._read_body(headers, receive)
        if generates and headers.keys().isdisjoint(_ABOUT_CACHING):
            kept = entrance.gateway.at_hand(match.route, NO_SCOPE, body, self._trail)
            if kept is not None:
                self._hit = True
                with entrance.limits.within(kept.patience_s):
                    await self._send_whole(kept)
                return Outcome.SUCCESS
        request = self._request_of(match, headers, body)
        self._streams = request.stream
        with entrance:  # not while a body is read: a few slow uploads would lock everybody out
            return await self._answer(request, receive)

    # -- the request

    def _request_of(self, match: Match, headers: Mapping[bytes, bytes], body: bytes) -> LLMRequest:
        upstream_headers = for_upstream(headers)
        if match.route.kind == "item":
            query = quote(self.scope["query_string"], safe="%/:?@!$&'()*+,;=-._~")
            return _item_request(match, self.scope["method"], body, query, upstream_headers, self._trail)
        control = headers.get(b"cache-control", b"")
        return parse_request(match.route, body, trail=self._trail, headers=upstream_headers, cache_control=control)

    async def _read_body(self, headers: Mapping[bytes, bytes], receive: Any) -> bytes:
        entrance = self._entrance
        limit = entrance.live.table.settings.max_request_body_bytes
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise too_large(limit)
        return await read_body(receive, limit, entrance.limits, entrance.require_place)

    # -- the answer

    async def _answer(self, request: LLMRequest, receive: Any) -> Outcome:
        entrance = self._entrance
        watched = entrance.watch.add(receive)
        if request.stream:
            watched.look()
        answer: Answer | None = None
        try:
            with (
                await entrance.gateway.answer(request, watched) as answer,
                entrance.limits.within(answer.patience_s, watched.task),
            ):
                if watched.gone:  # others waited for the same answer
                    return Outcome.CANCELLED
                if answer.is_stream:
                    await self._send_stream(answer)
                else:
                    await self._send_whole(answer)
        except asyncio.CancelledError:
            if not watched.gone:  # somebody else cancelled us: a shutdown
                raise
        finally:
            entrance.watch.remove(watched)
        self._hit = answer is not None and answer.is_hit
        # Leaving the answer has settled it: a client that goes when it has read [DONE] got its whole answer.
        return answer.outcome if answer else Outcome.CANCELLED

    async def _send_whole(self, answer: Answer) -> None:
        body = answer.body
        headers = self._headers(answer)
        if answer.status >= 400:
            body = strike_out(body, answer.table)
            if answer.hopeless:
                headers.append(NO_RETRY)
        trail = self._trail
        trail.overhead_s = overhead = time.monotonic() - trail.began - answer.upstream_s
        headers.append((b"x-llmproxy-overhead-ms", b"%.2f" % (overhead * 1000)))
        if trail.cost is not None:
            headers.append(cost_header(trail.cost))
        await self._send(answer.status, headers, body)

    async def _send_stream(self, answer: Answer) -> None:
        self._started, self._status = True, 200
        await self.base_send({"type": "http.response.start", "status": 200, "headers": self._headers(answer)})
        if (piece := await answer.piece()) is not None:
            self._trail.first_event_s = time.monotonic() - self._trail.began
        while piece is not None:
            await self.base_send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await answer.piece()
        await self.base_send({"type": "http.response.body", "body": b"", "more_body": False})

    def _headers(self, answer: Answer) -> Headers:
        revision = b"%d" % answer.table.revision
        return [(b"x-request-id", self._id), (b"x-llmproxy-revision", revision), *answer.head()]

    async def _send(self, status: int, headers: Headers, body: bytes) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        self._started, self._status = True, status
        await self.base_send({"type": "http.response.start", "status": status, "headers": headers})
        await self.base_send({"type": "http.response.body", "body": body})

    async def _refuse(self, refusal: Refusal) -> None:
        self._error = refusal.code or ""
        headers = [
            *error_headers(refusal),
            (b"x-request-id", self._id),
            (b"x-llmproxy-revision", b"%d" % self._entrance.live.table.revision),
        ]
        if refusal.closes:
            headers.append((b"connection", b"close"))
        await self._send(refusal.status, headers, error_body(refusal))

    async def _send_models(self, match: Match) -> None:
        body = self._entrance.models_body(match.item)
        headers = [JSON, (b"x-request-id", self._id)]
        headers.append((b"x-llmproxy-revision", b"%d" % self._entrance.live.table.revision))
        await self._send(200, headers, body)


def _item_request(
    match: Match, method: str, body: bytes, query: str, headers: Headers | None, trail: Trail
) -> LLMRequest:
    item = quote(match.item, safe="-._~")
    return LLMRequest(
        route=match.route,
        method=method,
        body=body,
        stream=method == "GET" and match.route.events != "none" and "stream=true" in query.lower().split("&"),
        pins=(match.item,),
        operation=match.route.operation.replace("{id}", item),
        query=query,
        headers=headers,
        trail=trail,
    )
