"""Gives Django's answers what every answer of the gateway has: a request id, the revision, errors in OpenAI's shape."""

from collections.abc import Awaitable, Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import async_only_middleware

from routing.errors import Forbidden, MethodNotAllowed, NotFound, Refusal
from routing.openai.answers import error_body
from routing.openai.doorstep import request_id

_FOR_PEOPLE = ("/admin/", "/static/")

Answer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def gateway_headers(answer: Answer) -> Answer:
    """For operators' routes; pages for people keep Django's own errors."""

    async def answer_with_headers(request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith("/health"):
            request.META["HTTP_HOST"] = "localhost"  # probes come by any address, and health is no secret
        try:
            request.get_host()
            response = await answer(request)
        except DisallowedHost:
            host = request.META.get("HTTP_HOST", "")[:100]
            response = _error(
                Forbidden(f"The Host {host!r} is not ours. Add it to LLMPROXY_ALLOWED_HOSTS if it is yours.")
            )
        if request.path.startswith(_FOR_PEOPLE):
            return response
        if response.status_code == 404 and response.get("Content-Type") != "application/json":
            response = _error(NotFound(f"There is no route {request.path!r} here.", code="unknown_route"))
        elif response.status_code == 405:
            allowed = tuple(part.strip() for part in response.get("Allow", "GET").split(","))
            response = _error(MethodNotAllowed(request.method or "", allowed))
            response["Allow"] = ", ".join(allowed)
        given = request.headers.get("x-request-id", "").encode("latin-1", "replace")
        response["x-request-id"] = request_id({b"x-request-id": given}).decode("ascii")
        parts = request.scope.get("llmproxy")  # type: ignore[attr-defined]
        if parts is not None:
            response["x-llmproxy-revision"] = str(parts.live.table.revision)
        return response

    return answer_with_headers


def _error(refusal: Refusal) -> HttpResponse:
    body = error_body(refusal)
    headers = {"Content-Length": str(len(body))}
    return HttpResponse(body, status=refusal.status, content_type="application/json", headers=headers)
