"""What an operator does to endpoints: enable, disable, drain, end a cooldown, test. Each asks for the permission.

An endpoint that is disabled always drains: it gets no new request, and those that run finish.
"""

from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path

from routing.admin.live_state import live_state
from routing.admin.publishing import PublishingAdmin
from routing.admin.running import RunningGateway, running_gateway
from routing.config.table import Endpoint as ServedEndpoint
from routing.models import Endpoint
from routing.trial import Trial, try_all

PERMISSION = "routing.operate_endpoint"
_NOT_SERVED = "this worker does not serve it yet"


class OperatedEndpoints(PublishingAdmin):
    """Bulk actions, and the same as buttons on an endpoint's page."""

    actions = ["enable_selected", "disable_selected", "drain_selected", "reset_selected", "test_selected"]

    def has_operate_permission(self, request: HttpRequest, obj: Endpoint | None = None) -> bool:
        return request.user.has_perm(PERMISSION)

    def get_urls(self) -> list[URLPattern]:
        operate = self.admin_site.admin_view(self.operate_view)
        return [path("<int:pk>/<slug:operation>/now/", operate, name="routing_operate"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        chosen = request.POST.get("action") in self.actions and "_save" not in request.POST
        if request.method == "POST" and chosen:
            # Each publishes what it changes itself: a test must not hold a transaction while it waits.
            return super(PublishingAdmin, self).changelist_view(request, extra_context)
        return super().changelist_view(request, extra_context)

    # -- buttons

    def operate_view(self, request: HttpRequest, pk: int, operation: str) -> HttpResponseBase:
        """POST only, so that no link and no other site can do it."""
        operations: dict[str, Callable[[HttpRequest, list[Endpoint]], Any]] = {
            "enable": lambda request, rows: self._switch(request, rows, enabled=True),
            "disable": lambda request, rows: self._switch(request, rows, enabled=False),
            "drain": self._drain,
            "reset": self._end_cooldowns,
            "test": self._tell_tests,
        }
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if operation not in operations:
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        endpoint = get_object_or_404(Endpoint, pk=pk)
        if operation == "test" and "application/json" in request.headers.get("accept", ""):
            return JsonResponse(self._tests(request, [endpoint])[0].as_json())
        operations[operation](request, [endpoint])
        return redirect("admin:routing_endpoint_change", pk)

    # -- bulk actions

    @admin.action(description="Enable", permissions=["operate"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._switch(request, list(queryset), enabled=True)

    @admin.action(description="Disable: no new requests, running ones finish", permissions=["operate"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._switch(request, list(queryset), enabled=False)

    @admin.action(description="Drain: disable, and tell how many requests still run", permissions=["operate"])
    def drain_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._drain(request, list(queryset))

    @admin.action(description="End the cooldown", permissions=["operate"])
    def reset_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._end_cooldowns(request, list(queryset))

    @admin.action(description="Test: one real call each", permissions=["operate"])
    def test_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._tell_tests(request, list(queryset))

    # -- what they do

    def _switch(self, request: HttpRequest, endpoints: list[Endpoint], *, enabled: bool) -> bool:
        """False: it was refused, and the user has been told why."""
        names = ", ".join(endpoint.name for endpoint in endpoints)
        done = f"{'Enabled' if enabled else 'Disabled'} {names}"

        def switched() -> bool:
            for endpoint in endpoints:
                endpoint.enabled = enabled
                endpoint.references.pop("enabled", None)  # what the operator says takes the place of a reference
                endpoint.save()
            return True

        if not self.changed(request, switched, done):
            return False
        self.message_user(request, f"{done}.", messages.SUCCESS)
        return True

    def _drain(self, request: HttpRequest, endpoints: list[Endpoint]) -> None:
        if not self._switch(request, endpoints, enabled=False):
            return
        served = live_state(request).get("endpoints", {})
        for endpoint in endpoints:
            self.message_user(request, _drains(endpoint.name, served.get(endpoint.name)), messages.INFO)

    def _end_cooldowns(self, request: HttpRequest, endpoints: Iterable[Endpoint]) -> None:
        gateway = running_gateway(request)
        served = _served(gateway, endpoints)
        if gateway is None or not served:
            self.message_user(request, f"No cooldown was ended: {_NOT_SERVED}.", messages.WARNING)
            return
        names = ", ".join(endpoint.name for endpoint in served)
        try:
            async_to_sync(gateway.end_cooldowns)([endpoint.id for endpoint in served])
        except ConnectionError:
            self.message_user(
                request, f"The cooldown ended in this worker only; the store is away. {names}", messages.WARNING
            )
            return
        self.message_user(request, f"Cooldown ended: {names}.", messages.SUCCESS)

    def _tell_tests(self, request: HttpRequest, endpoints: list[Endpoint]) -> None:
        for trial in self._tests(request, endpoints):
            level = messages.SUCCESS if trial.ok else messages.ERROR
            self.message_user(request, _told(trial), level)

    def _tests(self, request: HttpRequest, endpoints: list[Endpoint]) -> list[Trial]:
        gateway = running_gateway(request)
        served = {endpoint.name: endpoint for endpoint in _served(gateway, endpoints)}
        tried = {} if gateway is None else async_to_sync(_try_all)(gateway, list(served.values()))
        return [tried.get(row.name) or Trial(row.name, "", None, 0.0, "", _NOT_SERVED) for row in endpoints]


def _served(gateway: RunningGateway | None, rows: Iterable[Endpoint]) -> list[ServedEndpoint]:
    """Those that the worker knows, by name."""
    if gateway is None:
        return []
    wanted = {row.name for row in rows}
    return [endpoint for endpoint in gateway.live.table.endpoints.values() if endpoint.name in wanted]


async def _try_all(gateway: RunningGateway, endpoints: list[ServedEndpoint]) -> dict[str, Trial]:
    trials = await try_all(endpoints, gateway.upstream_of, gateway.live.table)
    return {trial.endpoint: trial for trial in trials}


def _drains(name: str, served: dict[str, Any] | None) -> str:
    """What still runs there; the page goes on counting."""
    if served is None:
        return f"{name}: {_NOT_SERVED}."
    running = served["in_flight"]
    if not running:
        return f"{name}: no request runs."
    requests = "1 request still runs" if running == 1 else f"{running} requests still run"
    return f"{name} drains: {requests}. It shows as disabled when the last one has ended."


def _told(trial: Trial) -> str:
    """One line."""
    answered = "" if trial.status is None else f"status {trial.status} after {trial.latency_ms:g} ms"
    model = f"model {trial.model}" if trial.model else ""
    error = "" if trial.error == f"status {trial.status}" else trial.error
    return f"{trial.endpoint}: " + ", ".join(part for part in (answered, model, error) if part)
