"""The general settings: one row, whose list is the row itself."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.shortcuts import redirect

from routing.admin.publishing import DEADLINES, PublishingAdmin, without_removals
from routing.models import GeneralSettings
from routing.section_form import SettingsForm


@admin.register(GeneralSettings)
class GeneralSettingsAdmin(PublishingAdmin):
    """Everything that is not about one group or endpoint."""

    form = SettingsForm
    fieldsets = [
        ("Server", {"fields": ("bind_address", "bind_port", "client_auth", "max_in_flight", "max_request_body_bytes")}),
        ("Failures", {"fields": ("num_retries", "allowed_fails", "cooldown_time")}),
        ("Upstream", {"fields": (*DEADLINES, "http_max_connections", "max_response_bytes", "response_affinity_ttl")}),
        (
            "Redis",
            {
                "fields": (
                    *("redis_url", "redis_host", "redis_port", "redis_password", "remove_redis_password"),
                    *("redis_ssl", "redis_ssl_cert_reqs"),
                )
            },
        ),
        (
            "Cache",
            {
                "fields": (
                    *("cache", "cache_type", "cache_ttl", "cache_namespace", "cache_max_entry_bytes", "cache_host"),
                    *("cache_port", "cache_password", "remove_cache_password"),
                )
            },
        ),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return without_removals(self.fieldsets, obj if self.has_change_permission(request, obj) else None)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        GeneralSettings.objects.get_or_create(pk=GeneralSettings.ONLY_ROW)
        return redirect("admin:routing_generalsettings_change", GeneralSettings.ONLY_ROW)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: GeneralSettings | None = None) -> bool:
        return False
