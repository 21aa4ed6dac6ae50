"""Traces: a span for each request and one for each of its attempts, made of its record when it has ended.

The SDK's batch processor exports them on a thread of its own. Spans are put together here, because the SDK's tracer
takes several times the CPU for things that we do not need: clocks, locks, a context that follows the code.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from llmproxy_site import traces_names as names
from llmproxy_site.log_redaction import known_secrets
from routing.config.table import Endpoint
from routing.openai.trace_context import TraceParent, parent_of, traceparent
from stats.record import AttemptRecord, RequestRecord

EVERY_S = 0.2
MOST_WAITING = 10_000
STOP_WITHIN_S = 3.0
_SLICE = 50  # requests whose spans are made while others wait
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NANO = 1_000_000_000
_NANO_PER_MS = 1_000_000
_OK, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)

log = structlog.get_logger(__name__)


class OpenSpan:
    """A request under way."""

    __slots__ = ("_traces", "parent", "span_id", "trace_id")

    def __init__(self, traces: "Traces", parent: TraceParent | None, trace_id: int) -> None:
        self._traces = traces
        self.parent = parent
        self.trace_id = trace_id
        self.span_id = random.getrandbits(64) or 1

    def ended(self, record: RequestRecord) -> None:
        self._traces.add(self, record)


class Traces:
    """The spans of one worker. All but the export happens on the event loop's thread."""

    def __init__(self, processor: SpanProcessor, endpoint_of: Callable[[str], Endpoint | None]) -> None:
        self._processor = processor
        self._endpoint_of = endpoint_of
        provider = TracerProvider(shutdown_on_exit=False)  # for what the standard variables say
        self._sampler = provider.sampler
        self._resource = _named(provider.resource)
        self._scope = InstrumentationScope(names.SCOPE)
        self._waiting: list[tuple[OpenSpan, RequestRecord]] = []
        self._dropped = 0

    def begin(self, headers: dict[bytes, bytes]) -> OpenSpan | None:
        """Names our span in the headers as the upstream's parent. None: this request is not traced."""
        parent = parent_of(headers)
        trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
        if not self._sampled(parent, trace_id):
            return None  # what the client said goes on as it is
        span = OpenSpan(self, parent, trace_id)
        if parent is None:
            headers.pop(b"tracestate", None)
        headers[b"traceparent"] = traceparent(TraceParent(trace_id, span.span_id, TraceFlags.SAMPLED))
        return span

    def _sampled(self, parent: TraceParent | None, trace_id: int) -> bool:
        context = set_span_in_context(NonRecordingSpan(_context(parent))) if parent else None
        return (
            self._sampler.should_sample(context, trace_id, names.SCOPE, SpanKind.SERVER).decision is not Decision.DROP
        )

    def add(self, span: OpenSpan, record: RequestRecord) -> None:
        """A request has ended."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((span, record))
        else:
            self._dropped += 1

    async def run(self) -> None:
        """Hands spans over until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self._hand_over()

    async def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Exports what is left, if the collector takes it in time."""
        await self._hand_over()
        ending = threading.Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        try:
            async with asyncio.timeout(within_s):
                while ending.is_alive():  # noqa: ASYNC110 - what ends it happens on a thread
                    await asyncio.sleep(0.005)
        except TimeoutError:
            log.warning("the collector did not take the last spans of this worker")

    async def _hand_over(self) -> None:
        for _ in range(0, len(self._waiting), _SLICE):
            some = self._waiting[:_SLICE]
            del self._waiting[:_SLICE]
            for span, record in some:
                for made in self._spans(span, record):
                    self._processor.on_end(made)
            await asyncio.sleep(0)
        if self._dropped:
            log.warning("requests without spans: there were too many", dropped=self._dropped)
            self._dropped = 0

    def _spans(self, span: OpenSpan, record: RequestRecord) -> Iterator[ReadableSpan]:
        own = SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED)
        began = int(record.at * _NANO)
        operation = names.operation_name(record.operation)
        for attempt in record.attempts:
            yield self._attempt(own, attempt, operation, began)
        yield ReadableSpan(
            f"{operation} {record.model_group}".strip(),
            context=own,
            parent=_context(span.parent) if span.parent else None,
            resource=self._resource,
            attributes=_told_of(record, self._provider(record.endpoint_id)),
            kind=SpanKind.SERVER,
            status=_ERROR if record.outcome == "failure" else _OK,
            start_time=began,
            end_time=began + int(record.duration_ms * _NANO_PER_MS),
            instrumentation_scope=self._scope,
        )

    def _attempt(
        self, request: SpanContext, attempt: AttemptRecord, operation: str, request_began: int
    ) -> ReadableSpan:
        began = request_began + int(attempt.began_ms * _NANO_PER_MS)
        endpoint = self._endpoint_of(attempt.endpoint_id)
        operation = names.operation_name(operation)
        return ReadableSpan(
            f"{operation} {endpoint.model}" if endpoint else operation,
            context=SpanContext(request.trace_id, random.getrandbits(64) or 1, is_remote=False, trace_flags=_SAMPLED),
            parent=request,
            resource=self._resource,
            attributes=_told_of_attempt(attempt, operation, endpoint),
            kind=SpanKind.CLIENT,
            status=_ERROR if attempt.outcome in ("failure", "rejected") else _OK,
            start_time=began,
            end_time=began + int(attempt.duration_ms * _NANO_PER_MS),
            instrumentation_scope=self._scope,
        )

    def _provider(self, endpoint_id: str) -> str:
        endpoint = self._endpoint_of(endpoint_id)
        return names.provider_name(endpoint.provider.kind if endpoint and endpoint.provider else "openai")


def traces_to_collector(endpoint_of: Callable[[str], Endpoint | None]) -> Traces:
    """Where to is what OpenTelemetry's standard variables say."""
    return Traces(BatchSpanProcessor(OTLPSpanExporter()), endpoint_of)


def _named(resource: Resource) -> Resource:
    """With our name, where the standard variables give none."""
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": names.SCOPE}))
    return resource


def _error_type(record: RequestRecord) -> str | None:
    if record.outcome != "failure":
        return None
    return record.error or str(record.status or record.outcome)


def _context(parent: TraceParent) -> SpanContext:
    return SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags))


def _told_of(record: RequestRecord, provider: str) -> dict[str, Any]:
    hit = record.cache == "hit"  # its tokens were not used again
    cost = record.cost_nano_usd
    told = {
        names.OPERATION: names.operation_name(record.operation),
        names.PROVIDER: provider,
        names.REQUEST_MODEL: record.model_group or None,
        names.REQUEST_STREAM: record.stream,
        names.FIRST_CHUNK_S: None if record.ttft_ms is None else record.ttft_ms / 1000,
        names.INPUT_TOKENS: None if hit else record.input_tokens,
        names.OUTPUT_TOKENS: None if hit else record.output_tokens,
        names.CACHED_TOKENS: None if hit else record.cached_tokens,
        names.REASONING_TOKENS: None if hit else record.reasoning_tokens,
        names.STATUS_CODE: record.status or None,
        names.ERROR_TYPE: _error_type(record),
        names.REQUEST_ID: known_secrets.struck_out(record.request_id),  # a client may call it whatever it likes
        names.KEY: record.key or None,
        names.ENDPOINT: record.endpoint or None,
        names.OUTCOME: record.outcome,
        names.CACHE: record.cache,
        names.ATTEMPTS: len(record.attempts),
        names.COST_USD: None if cost is None else cost / _NANO,
        names.REVISION: record.revision,
    }
    return {name: value for name, value in told.items() if value is not None}


def _told_of_attempt(attempt: AttemptRecord, operation: str, endpoint: Endpoint | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        names.OPERATION: operation,
        names.ENDPOINT: attempt.endpoint,
        names.OUTCOME: attempt.outcome,
        names.STATUS_CODE: attempt.status or None,
        names.ERROR_TYPE: attempt.cause or None,
    }
    if endpoint is not None:
        told[names.REQUEST_MODEL] = endpoint.model
        if endpoint.provider is not None:
            told[names.PROVIDER] = names.provider_name(endpoint.provider.kind)
            told[names.SERVER_ADDRESS] = endpoint.provider.origin.host
            told[names.SERVER_PORT] = endpoint.provider.origin.port
    return {name: value for name, value in told.items() if value is not None}
