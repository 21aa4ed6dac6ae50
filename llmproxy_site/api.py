"""The operators' routes, described at /docs. Only `DELETE /cache` changes anything."""

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.openapi.docs import Swagger

from llmproxy_site import __version__
from llmproxy_site.gateway_parts import GatewayParts
from llmproxy_site.metrics_view import metrics_view
from llmproxy_site.operators_view import health_view, stats_view, utc
from routing.errors import NotFound, Refusal, StoreAway
from routing.openai.answers import error_body
from routing.openai.doorstep import is_loopback

api = NinjaAPI(title="LLMProxy", version=__version__, docs_url="/docs", docs=Swagger())


@api.exception_handler(Refusal)
def refused(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    """In the error shape of all routes."""
    answer = HttpResponse(error_body(refusal), status=refusal.status, content_type="application/json")
    answer["Content-Length"] = str(len(answer.content))
    if refusal.retry_after is not None:
        answer["Retry-After"] = str(refusal.retry_after)
    return answer


def parts_of(request: HttpRequest) -> GatewayParts:
    """The worker's collaborators, put into the scope by `llmproxy_site.asgi`."""
    parts: GatewayParts = request.scope["llmproxy"]  # type: ignore[attr-defined]
    return parts


@api.get("/health/live", summary="Whether the process answers", tags=["health"])
async def live(request: HttpRequest) -> dict[str, str]:
    """Touches nothing: no store, no database, no upstream."""
    return {"status": "alive"}


@api.get("/health/ready", summary="Whether the gateway takes requests", tags=["health"])
async def ready(request: HttpRequest) -> JsonResponse:
    """503 with no configuration, or while the worker drains."""
    parts = parts_of(request)
    reason = "draining" if parts.draining else "" if parts.live.table.groups else "no model group is configured"
    if reason:
        return JsonResponse({"status": "not ready", "reason": reason}, status=503)
    return JsonResponse({"status": "ready"})


@api.get("/health", summary="How the gateway is", tags=["health"])
async def health(request: HttpRequest) -> dict[str, Any]:
    """Always 200; `degraded` when the store is down or a group has no available endpoint."""
    return await health_view(parts_of(request))


@api.delete("/cache", summary="Deletes kept answers", tags=["cache"])
async def delete_cache(request: HttpRequest, model_group: str | None = None) -> JsonResponse:
    """For all workers; never health, counters or affinity. 503 when the store did not answer."""
    parts = parts_of(request)
    require_neighbour(request)
    if model_group is not None and model_group not in parts.live.table.groups:
        raise NotFound(f"The model group {model_group!r} does not exist.", param="model_group", code="model_not_found")
    key = parts.live.table.groups[model_group].key if model_group is not None else None
    try:
        deleted = await parts.delete_kept(key)
    except ConnectionError:
        raise StoreAway("The store did not answer: try again. What was deleted stays deleted.") from None
    return JsonResponse({"timestamp": utc(datetime.now(UTC)), "deleted_entries": deleted, "status": "success"})


def require_neighbour(request: HttpRequest) -> None:
    """What a web page of somebody else could send from an operator's browser is refused. Raises Forbidden."""
    scope: dict[str, Any] = request.scope  # type: ignore[attr-defined]
    if is_loopback(str((scope.get("server") or ("",))[0])):
        parts_of(request).entrance.neighbourhood.check(dict(scope["headers"]))


@api.get("/stats", summary="Counters of all workers", tags=["numbers"])
async def stats(request: HttpRequest) -> dict[str, Any]:
    """Endpoint counters count attempts; total = successful + failed + rejected + cancelled, always."""
    return await stats_view(parts_of(request))


_AS_TEXT = {"responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}}


@api.get("/metrics", summary="The same for Prometheus", tags=["numbers"], openapi_extra=_AS_TEXT)
async def metrics(request: HttpRequest) -> HttpResponse:
    """Counters of all workers. `llmproxy_store_up 0` while the store is away: then they lack what others count."""
    text, content_type = await metrics_view(parts_of(request), request.headers.get("accept", ""))
    return HttpResponse(text, content_type=content_type)
