"""Which spans come of a record, and to which trace they belong."""

from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llmproxy_site import traces, traces_names, traces_spans
from llmproxy_site.log_redaction import KnownSecrets
from llmproxy_site.traces import find_traces, wanted
from llmproxy_site.traces_spans import Traces
from stats.record import AttemptRecord, RequestRecord
from tests.docs_pages import named
from tests.unit.tables import endpoints_of, model, table_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CLIENTS = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode(), b"tracestate": b"vendor=1"}
EAST, WEST = endpoints_of(1, 1)
FAILED = AttemptRecord(EAST.name, EAST.id, "failure", "status 503", 503, 1.0, 20.0)
ANSWERED = AttemptRecord(WEST.name, WEST.id, "success", "", 200, 25.0, 70.0)


def record(**changes) -> RequestRecord:
    usual = {
        "request_id": "r-1", "at": 1_780_000_000.0, "duration_ms": 100.0, "operation": "chat/completions",
        "outcome": "success", "status": 200, "model_group": "m", "endpoint": WEST.name, "endpoint_id": WEST.id,
        "attempts": [FAILED, ANSWERED], "revision": 7, "input_tokens": 12, "output_tokens": 340, "cached_tokens": 4,
        "cost_nano_usd": 2_100_000, "cache": "miss",
    }  # fmt: skip
    return RequestRecord(**usual | changes)


class Scene:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        known = {EAST.id: EAST, WEST.id: WEST}
        self.traces = Traces(SimpleSpanProcessor(self.exporter), known.get)

    async def spans(self, headers=None, one: RequestRecord | None = None):
        """What is exported of the request, by kind: [the request's own], [its attempts']."""
        span = self.traces.begin(dict(headers or {}))
        assert span is not None
        span.ended(one or record())
        await self.traces.stop()
        done = self.exporter.get_finished_spans()
        return [s for s in done if s.kind is SpanKind.SERVER], [s for s in done if s.kind is SpanKind.CLIENT]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scene]:
    """Built with these standard variables."""

    def build(**variables: str) -> Scene:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Scene()

    return build


async def test_a_span_for_the_request_and_one_for_each_attempt(scene):
    (request,), attempts = await scene().spans()
    assert [one.name for one in attempts] == [f"chat {EAST.model}", f"chat {WEST.model}"]
    assert request.name == "chat m"
    assert all(one.parent.span_id == request.context.span_id for one in attempts)
    assert {one.context.trace_id for one in attempts} == {request.context.trace_id}
    assert len({one.context.span_id for one in [request, *attempts]}) == 3


async def test_spans_lie_where_the_record_says(scene):
    (request,), (first, second) = await scene().spans()
    assert request.end_time - request.start_time == 100_000_000
    assert request.start_time == 1_780_000_000 * 10**9
    assert [first.start_time - request.start_time, first.end_time - first.start_time] == [1_000_000, 20_000_000]
    assert [second.start_time - request.start_time, second.end_time - second.start_time] == [25_000_000, 70_000_000]


async def test_the_request_tells_what_the_conventions_name(scene):
    (request,), _ = await scene().spans(one=record(stream=True, ttft_ms=50.0))
    assert dict(request.attributes) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m",
        "gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": 0.05,
        "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 340,
        "gen_ai.usage.cache_read.input_tokens": 4, "http.response.status_code": 200, "llmproxy.request_id": "r-1",
        "llmproxy.endpoint": WEST.name, "llmproxy.outcome": "success", "llmproxy.cache": "miss",
        "llmproxy.attempts": 2, "llmproxy.cost_usd": 0.0021, "llmproxy.revision": 7,
    }  # fmt: skip


async def test_an_attempt_tells_where_it_went_and_why_it_failed(scene):
    _, (failed, answered) = await scene().spans()
    assert failed.attributes["error.type"] == "status 503"
    assert failed.attributes["http.response.status_code"] == 503
    assert failed.attributes["gen_ai.request.model"] == EAST.model
    assert failed.attributes["server.address"] == EAST.provider.origin.host
    assert (failed.status.status_code, answered.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert "error.type" not in answered.attributes


async def test_an_endpoint_that_is_no_longer_configured_still_has_its_span(scene):
    gone = AttemptRecord("gone", "id-gone", "success", "", 200, 0.0, 1.0)
    _, (attempt,) = await scene().spans(one=record(attempts=[gone], endpoint_id="id-gone"))
    assert attempt.name == "chat"
    assert attempt.attributes["llmproxy.endpoint"] == "gone"


async def test_azure_is_named_as_the_conventions_do(monkeypatch):
    params = {"base_url": "https://x.openai.azure.com", "api_version": "2024-10-21"}
    table = table_of({"model_group": "m", "models": [model("a", params=params)]})
    (azure,) = table.endpoints.values()
    exporter = InMemorySpanExporter()
    tracing = Traces(SimpleSpanProcessor(exporter), table.endpoints.get)
    tracing.begin({}).ended(record(endpoint_id=azure.id, attempts=[]))
    await tracing.stop()
    assert exporter.get_finished_spans()[0].attributes["gen_ai.provider.name"] == "azure.ai.openai"


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("responses", "chat"),
        ("completions", "text_completion"),
        ("embeddings", "embeddings"),
        ("moderations", "moderations"),
    ],
)
async def test_operations_have_the_names_of_the_conventions(scene, operation, name):
    (request,), _ = await scene().spans(one=record(operation=operation))
    assert request.attributes["gen_ai.operation.name"] == name


async def test_a_failed_request_is_an_error_and_a_refused_one_is_none(scene):
    (failed,), _ = await scene().spans(one=record(outcome="failure", status=502, error="upstream_error"))
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "upstream_error"
    (refused,), _ = await scene().spans(one=record(outcome="rejected", status=404, attempts=[]))
    assert refused.status.status_code is StatusCode.UNSET


async def test_a_hit_used_no_tokens(scene):
    (request,), _ = await scene().spans(one=record(cache="hit", attempts=[], cost_nano_usd=0))
    assert not [name for name in request.attributes if name.startswith("gen_ai.usage")]


async def test_an_unknown_cost_is_not_told(scene):
    (request,), _ = await scene().spans(one=record(cost_nano_usd=None))
    assert "llmproxy.cost_usd" not in request.attributes


async def test_the_clients_trace_goes_on(scene):
    (request,), _ = await scene().spans(CLIENTS)
    assert request.context.trace_id == int(TRACE, 16)
    assert request.parent.span_id == int(SPAN, 16)


async def test_the_upstream_is_told_our_span_in_the_same_trace(scene):
    here, headers = scene(), dict(CLIENTS)
    span = here.traces.begin(headers)
    assert headers == {b"traceparent": b"00-%b-%016x-01" % (TRACE.encode(), span.span_id), b"tracestate": b"vendor=1"}


@pytest.mark.parametrize("given", [{}, {b"traceparent": b"nonsense", b"tracestate": b"vendor=1"}])
async def test_without_a_trace_of_the_client_one_begins(scene, given):
    headers = dict(given)
    span = scene().traces.begin(headers)
    assert headers == {b"traceparent": b"00-%032x-%016x-01" % (span.trace_id, span.span_id)}
    assert span.parent is None


async def test_what_the_client_does_not_sample_goes_on_unchanged(scene):
    headers = {b"traceparent": f"00-{TRACE}-{SPAN}-00".encode(), b"tracestate": b"vendor=1"}
    before = dict(headers)
    assert scene().traces.begin(headers) is None
    assert headers == before


async def test_the_standard_sampler_is_obeyed(scene):
    here = scene(OTEL_TRACES_SAMPLER="always_off")
    assert here.traces.begin(dict(CLIENTS)) is None


@pytest.mark.parametrize(("variables", "name"), [({}, "llmproxy"), ({"OTEL_SERVICE_NAME": "mine"}, "mine")])
async def test_the_service_has_a_name(scene, variables, name):
    (request,), _ = await scene(**variables).spans()
    assert request.resource.attributes["service.name"] == name


async def test_a_request_id_that_holds_a_key_is_struck_out(scene):
    (request,), _ = await scene().spans(one=record(request_id="sk-0123456789abcdef"))
    assert request.attributes["llmproxy.request_id"] == "[redacted]"


async def test_more_than_can_be_kept_is_dropped(scene, monkeypatch):
    monkeypatch.setattr(traces_spans, "MOST_WAITING", 2)
    here = scene()
    for _ in range(5):
        here.traces.begin({}).ended(record(attempts=[]))
    await here.traces.stop()
    assert len(here.exporter.get_finished_spans()) == 2


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (COLLECTOR, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/x"}, True),
        (COLLECTOR | {"OTEL_SDK_DISABLED": "true"}, False),
        (COLLECTOR | {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_switch_it_on(variables, answer):
    assert wanted(variables) is answer


def test_without_a_collector_there_are_no_traces():
    assert find_traces({}, {}.get) is None


def test_without_the_packages_there_are_none_and_a_line_says_so(monkeypatch):
    lines = []
    monkeypatch.setitem(__import__("sys").modules, "llmproxy_site.traces_spans", None)
    monkeypatch.setattr(traces.log, "warning", lambda line, **_: lines.append(line))
    assert find_traces(COLLECTOR, {}.get) is None
    assert "pip install opentelemetry-sdk" in lines[0]


def test_a_variable_that_the_sdk_refuses_keeps_nobody_from_serving(monkeypatch):
    lines = []
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999")  # more than its queue takes
    monkeypatch.setattr(traces.log, "warning", lambda line, **told: lines.append((line, told)))
    assert find_traces(COLLECTOR, {}.get) is None
    [(line, told)] = lines
    assert "no traces" in line and "max_export_batch_size" in told["reason"]


@pytest.mark.parametrize("headers", ["x-api-key=of-the-collector", "x=1,authorization=Bearer%20of-the-collector",
                                     "x-api-key: of-the-collector"])  # fmt: skip
def test_no_line_tells_the_collectors_key(headers, monkeypatch):
    monkeypatch.setattr(traces, "known_secrets", known := KnownSecrets())
    monkeypatch.setattr(traces_spans, "traces_to_collector", lambda _: None)
    find_traces(COLLECTOR | {"OTEL_EXPORTER_OTLP_HEADERS": headers}, {}.get)
    assert "of-the-collector" not in known.known_struck_out(f"not understood: {headers}")


def test_every_attribute_is_documented():
    names = {
        value
        for name, value in vars(traces_names).items()
        if name.isupper() and not name.startswith("_") and "." in value
    }
    assert set(named("numbers.md", "Traces")) == names
