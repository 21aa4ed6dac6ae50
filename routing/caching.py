"""Between a request and the cache: where its answer is kept, how to ask for it, and what of an answer may be kept.

The rules are the cache's (`cache_app.policy`, `.content`); here they meet requests, groups and attempts.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import msgspec

from cache_app.answers import AnswerCache, Found, Shared
from cache_app.content import SaysSomething, says_something
from cache_app.entry import Entry
from cache_app.fingerprint import Asked, canonical, key
from cache_app.flight import Presence
from cache_app.policy import CacheUse, bypass, decide
from cache_app.store import Place
from routing.answer import Answer, Joined, Kept
from routing.attempt import Attempt
from routing.config.table import Group, RoutingTable
from routing.errors import Refusal, UpstreamTimedOut
from routing.openai.answers import MISS, content_type, replayed
from routing.openai.request import LLMRequest, encrypted_pins
from routing.openai.routes import Route
from routing.openai.sse import EventCutter
from routing.recall import Recall, Recalled
from routing.trail import Trail
from routing.upstream.answer_facts import Usage
from routing.upstream.classify import Outcome
from stats.recorder import Recorder

Ask = Callable[[], Coroutine[Any, Any, Attempt]]


class Caching:
    """One worker's. Collaborators: the cache, and who counts."""

    def __init__(self, cache: AnswerCache[Attempt], recorder: Recorder) -> None:
        self._cache = cache
        self._recorder = recorder
        self._recall = Recall()
        self._served: RoutingTable | None = None  # now, as far as requests have told

    def at_hand(self, route: Route, scope: str, body: bytes, table: RoutingTable, trail: Trail) -> Kept | None:
        """What this worker holds in its memory for a body that it was asked for before; nobody is asked for it."""
        self._served = table
        recalled = self._recall.find(route, scope, body)
        if recalled is None or recalled.table is not table:
            return None
        now = time.time()
        entry = self._cache.tier.get(recalled.place.key, now)
        if entry is None:
            return None
        trail.group, trail.revision = recalled.group.name, table.revision
        self._hit(trail, entry, "process")
        return Kept(entry, table, stream=False, unix_now=now)

    def forget(self) -> None:
        """What this worker has in memory."""
        self._served = None
        self._recall.clear()
        self._cache.tier.clear()

    def bypassed(self, request: LLMRequest, reason: str) -> None:
        """By a request that has nothing to do with the cache."""
        request.trail.cache_detail = reason
        self._recorder.bypassed(reason)

    def answer(
        self, request: LLMRequest, group: Group, table: RoutingTable, presence: Presence, ask: Ask
    ) -> Coroutine[Any, Any, Answer]:
        """ask: makes the attempts; called at most once, and not at all for a hit. Raises what it raises."""
        use, place = self._use(request, group)
        if place is None:
            self.bypassed(request, use.reason)
            return ask()
        request.trail.cache = "miss"
        wanted = _Wanted(request, group, place, use.ttl_s, group.cache.max_entry_bytes, presence, ask, self._recorder)
        return self._answer(wanted, use, table)

    async def _answer(self, wanted: "_Wanted", use: CacheUse, table: RoutingTable) -> Answer:
        result: Found | Shared[Attempt] | Attempt
        try:
            if not use.write:
                result = await self._cache.find(wanted.place) or await wanted.ask()
            elif wanted.request.stream:
                result = await self._cache.stream(wanted)
            else:
                result = await self._cache.answer(wanted)
        except BaseException as error:
            self._recorder.missed()
            if isinstance(error, Refusal):
                error.cache = MISS
            raise
        if isinstance(result, Found) and result.where == "process":
            self._remember(wanted.request, Recalled(table, wanted.group, wanted.place))
        return self._told(result, wanted.request, table)

    def _use(self, request: LLMRequest, group: Group) -> tuple[CacheUse, Place | None]:
        """Without a place the cache is left alone."""
        use = decide(request.operation, request.values, request.directives, group.cache)
        if not use.read:
            return use, None
        body = canonical(request.body)
        if body is None:
            return bypass("ambiguous"), None
        scope = "" if group.cache.shared else request.scope
        asked = Asked(
            request.operation,
            group.name,
            group.upstreams,
            scope,
            _beta(request),
            "stream" if request.stream else "json",
        )
        made = key(asked, body)
        return use, Place(group.key, made.name, made.digest)

    def _told(self, result: Found | Shared[Attempt] | Attempt, request: LLMRequest, table: RoutingTable) -> Answer:
        if isinstance(result, Found):
            self._hit(request.trail, result.entry, result.where)
            return Kept(result.entry, table, stream=request.stream, unix_now=time.time())
        if isinstance(result, Shared):
            if result.leads:
                self._recorder.missed()
            else:
                request.trail.cache, request.trail.cache_detail = "hit", "flight"
                self._recorder.hit("flight")
            return Joined(result, request.trail)
        self._recorder.missed()
        result.cache = MISS
        return result

    def _remember(self, request: LLMRequest, recalled: Recalled) -> None:
        if recalled.table is not self._served:  # a request that began before a revision must not keep the old table
            return
        if not request.stream and request.directives is None and not _beta(request):
            self._recall.keep(request.route, request.scope, request.body, recalled)

    def _hit(self, trail: Trail, entry: Entry, where: str) -> None:
        trail.cache, trail.cache_detail = "hit", where
        trail.endpoint, trail.endpoint_id = unquote(entry.endpoint_header.decode("ascii")), entry.endpoint_id
        trail.saved = entry.cost
        if entry.tokens is not None:
            trail.usage = Usage(*entry.tokens)
        self._recorder.hit(where, *(entry.tokens or (0, 0)), entry.cost)


class _Wanted(msgspec.Struct, eq=False):
    """One cacheable request, as the cache sees it."""

    request: LLMRequest
    group: Group
    place: Place
    ttl_s: int
    most_bytes: int
    presence: Presence
    ask: Ask
    recorder: Recorder

    def fails_for_all(self, error: Exception) -> bool:
        return isinstance(error, UpstreamTimedOut)

    def was_too_large(self) -> None:
        self.recorder.not_kept("too_large")

    def entry(self, answer: Attempt, body: bytes | None) -> Entry | None:
        if answer.status != 200 or answer.outcome is not Outcome.SUCCESS:
            return None
        why_not = self._why_not(answer, body)
        if why_not:
            self.recorder.not_kept(why_not)
            return None
        return self._entry(answer, answer.body if body is None else body)

    def _why_not(self, answer: Attempt, body: bytes | None) -> str:
        relay = answer.relay
        if len(answer.body if body is None else body) > self.most_bytes:
            return "too_large"
        if body is None:
            return "" if says_something(self.request.operation, answer.body) else "empty"
        if relay is None or not relay.ended_whole:
            return "incomplete"
        return "" if _stream_says_something(self.request, body) else "empty"

    def _entry(self, answer: Attempt, body: bytes) -> Entry:
        now = time.time()
        lasts = answer.endpoint.group == self.group.name  # not what a fallback gave
        usage = answer.usage
        return Entry(  # in the order of its fields, which is quicker
            self.place.digest,
            now,
            now + self.ttl_s if lasts else now,
            content_type(answer.headers)[1],
            replayed(answer.shown()),
            answer.endpoint.id,
            answer.endpoint.name_header[1],
            _pins(answer, body) if self.request.route.events == "responses" else (),
            (usage.input, usage.output) if usage else None,
            answer.cost,
            body,
        )


def _beta(request: LLMRequest) -> bytes:
    if not request.headers:
        return b""
    return b",".join([value for name, value in request.headers if name == b"openai-beta"])


def _pins(answer: Attempt, body: bytes) -> tuple[str, ...]:
    """What later requests may refer to."""
    made = answer.relay.response_id if answer.relay else answer.facts and answer.facts.id
    return (*([made] if made else []), *encrypted_pins(body))


def _stream_says_something(request: LLMRequest, body: bytes) -> bool:
    seen = SaysSomething(request.operation, request.choices)
    for payload in EventCutter(len(body)).feed(body).payloads:
        seen.see(payload)
    return seen.yes
