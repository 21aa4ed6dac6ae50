"""Traces through a whole gateway: from a client's `traceparent` to what a collector gets over OTLP/HTTP."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from llmproxy_site.environment import variables
from llmproxy_site.traces import find_traces
from tests.fakes import behaviours as b
from tests.integration.conftest import StartGateway, StartUpstreams
from tests.integration.records_database import record

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CLIENTS = f"00-{TRACE}-{SPAN}-01"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str | None, ExportTraceServiceRequest]] = []
        super().__init__(("127.0.0.1", 0), _Take)

    @property
    def spans(self):
        return [
            span
            for _, _, export in self.got
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, self.headers["x-token"], ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The standard variables name it."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret-of-the-collector")
        yield server
        server.shutdown()
        thread.join()


async def test_a_collector_gets_the_request_and_its_attempts(
    collector: Collector, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    first, second = await upstreams(2)
    first.always = b.status(503)
    proxy = await gateway(first, second)
    traces = find_traces(variables(), proxy.parts.endpoint)
    assert traces is not None
    proxy.parts.trace(traces)
    got = await proxy.ask(headers={"traceparent": CLIENTS, "tracestate": "vendor=1"})
    assert got.status == 200
    await traces.stop(within_s=10)
    assert {(path, token) for path, token, _ in collector.got} == {("/v1/traces", "secret-of-the-collector")}
    (request,) = [span for span in collector.spans if span.name == "chat m"]
    attempts = [span for span in collector.spans if span is not request]
    assert request.parent_span_id.hex() == SPAN
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert {span.parent_span_id for span in attempts} == {request.span_id}
    assert [span.name for span in attempts] == ["chat upstream-model-a", "chat upstream-model-b"]
    sent = f"00-{TRACE}-{request.span_id.hex()}-01"
    assert [one.header("traceparent") for one in (*first.requests, *second.requests)] == [sent, sent]
    assert second.requests[0].header("tracestate") == "vendor=1"


async def test_without_a_collector_the_clients_trace_is_passed_on_as_it_is(
    upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    (upstream,) = await upstreams(1)
    await (await gateway(upstream)).ask(headers={"traceparent": CLIENTS, "tracestate": "vendor=1"})
    assert upstream.requests[0].header("traceparent") == CLIENTS
    assert upstream.requests[0].header("tracestate") == "vendor=1"


async def test_a_refused_request_has_a_span_too(
    collector: Collector, upstreams: StartUpstreams, gateway: StartGateway
) -> None:
    proxy = await gateway(*await upstreams(1))
    traces = find_traces(variables(), proxy.parts.endpoint)
    assert traces is not None
    proxy.parts.trace(traces)
    assert (await proxy.ask(model="unknown")).status == 404
    await traces.stop(within_s=10)
    (span,) = collector.spans
    assert {one.key: one.value.int_value for one in span.attributes}["http.response.status_code"] == 404


async def test_the_end_does_not_wait_for_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    traces = find_traces(variables(), {}.get)
    assert traces is not None
    span = traces.begin({})
    assert span is not None
    span.ended(record(attempts=[]))
    async with asyncio.timeout(10):
        await traces.stop(within_s=0.05)
