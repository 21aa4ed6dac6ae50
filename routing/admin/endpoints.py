"""Endpoints: a list with what they do now, and a page for everything about one."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from routing.admin.live_state import live_state
from routing.admin.operations import OperatedEndpoints
from routing.admin.publishing import DEADLINES, position_after, without_removals
from routing.models import Endpoint
from routing.section_form import EndpointForm


class ListedEndpointForm(EndpointForm):
    """What is edited in the list itself."""

    remove_api_key = None  # type: ignore[assignment]


@admin.register(Endpoint)
class EndpointAdmin(OperatedEndpoints):
    """One endpoint, whole."""

    form = EndpointForm
    list_display = ("name", "group", "state", "weight", "enabled", "in_flight", "success", "latency", "model")
    list_editable = ("weight", "enabled")
    list_filter = ("group", "enabled")
    list_select_related = ("group",)
    search_fields = ("name", "model", "base_url")
    ordering = ("group__position", "position", "pk")
    change_form_outer_before_template: Any = "routing/endpoint_now.html"
    fieldsets = [
        (None, {"fields": ("group", "name", "model", "weight", "enabled")}),
        ("Upstream", {"fields": ("base_url", "api_key", "remove_api_key", "provider", "api_version")}),
        ("Limits", {"classes": ["collapse"], "fields": ("rpm", "tpm", "max_parallel")}),
        ("Price", {"classes": ["collapse"], "fields": ("price_input", "price_output", "price_cached_input")}),
        (
            "Requests",
            {
                "classes": ["collapse"],
                "fields": ("default_query", "default_headers", "ask_usage", "ca_file", "transport"),
            },
        ),
        ("Deadlines", {"classes": ["collapse"], "fields": DEADLINES}),
    ]

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, form=ListedEndpointForm, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        live = self.admin_site.admin_view(self.live_view)
        return [path("live/", live, name="routing_live"), *super().get_urls()]

    def live_view(self, request: HttpRequest) -> JsonResponse:
        """What the pages ask every two seconds."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return JsonResponse(live_state(request), headers={"cache-control": "no-store"})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return without_removals(self.fieldsets, obj if self.has_change_permission(request, obj) else None)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        may_operate = self.has_operate_permission(request)
        context = {"may_operate": may_operate, **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    @admin.display(description="Now")
    def state(self, endpoint: Endpoint) -> SafeString:
        return _live(endpoint, "state")

    @admin.display(description="In flight")
    def in_flight(self, endpoint: Endpoint) -> SafeString:
        return _live(endpoint, "in_flight")

    @admin.display(description="Success")
    def success(self, endpoint: Endpoint) -> SafeString:
        return _live(endpoint, "success")

    @admin.display(description="p50 / p95")
    def latency(self, endpoint: Endpoint) -> SafeString:
        return _live(endpoint, "latency")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.position = position_after(obj.group.endpoints.all())
        super().save_model(request, obj, form, change)


def _live(endpoint: Endpoint, part: str) -> SafeString:
    """Filled and refreshed by live.js."""
    return format_html('<span class="lp-live" data-live="{}" data-part="{}">-</span>', endpoint.name, part)
