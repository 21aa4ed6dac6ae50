"""Whether requests are traced. OpenTelemetry is imported by nobody who has not asked for it."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

from llmproxy_site.log_redaction import known_secrets
from routing.config.table import Endpoint

if TYPE_CHECKING:
    from llmproxy_site.traces_spans import Traces

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"

log = structlog.get_logger(__name__)


def wanted(variables: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's standard variables name a collector."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if variables.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(variables.get(name) for name in _ENDPOINTS)


def find_traces(variables: Mapping[str, str], endpoint_of: Callable[[str], Endpoint | None]) -> "Traces | None":
    """None: requests are not traced. endpoint_of: by its id."""
    if not wanted(variables):
        return None
    try:
        from llmproxy_site.traces_spans import traces_to_collector
    except ModuleNotFoundError as error:
        log.warning(f"no traces: OTEL_EXPORTER_OTLP_ENDPOINT needs `pip install {_PACKAGES}`", missing=error.name)
        return None
    known_secrets.learn(_values_of_headers(variables))
    try:
        return traces_to_collector(endpoint_of)
    except ValueError as error:  # most bad values it passes over; for these it must not keep the gateway from serving
        log.warning("no traces: a variable of OpenTelemetry has no usable value", reason=str(error))
        return None


def _values_of_headers(variables: Mapping[str, str]) -> Iterator[str]:
    for name in _HEADERS:
        for pair in variables.get(name, "").split(","):
            name, sign, value = pair.partition("=")
            value = unquote(value if sign else name).strip()  # without a sign the SDK complains of it, and quotes it
            if value:
                yield value.split()[-1]  # without the scheme
