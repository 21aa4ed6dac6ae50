"""Empties the cache of model groups, for operators."""

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from routing.admin.operations import PERMISSION
from routing.admin.publishing import PublishingAdmin
from routing.admin.running import running_gateway
from routing.models import ModelGroup


class CachedGroups(PublishingAdmin):
    """A bulk action of the list of groups."""

    actions = ["empty_cache_selected"]

    def has_operate_permission(self, request: HttpRequest, obj: ModelGroup | None = None) -> bool:
        return request.user.has_perm(PERMISSION)

    @admin.action(description="Empty the cache", permissions=["operate"])
    def empty_cache_selected(self, request: HttpRequest, queryset: QuerySet[ModelGroup]) -> None:
        gateway = running_gateway(request)
        served = gateway.live.table.groups if gateway else {}
        for name in queryset.values_list("name", flat=True):
            if gateway is None or name not in served:
                self.message_user(request, f"{name}: this worker does not serve it yet.", messages.WARNING)
                continue
            try:
                deleted = async_to_sync(gateway.delete_kept)(served[name].key)
            except ConnectionError:
                self.message_user(request, f"{name}: the store did not answer; try again.", messages.ERROR)
            else:
                self.message_user(request, f"{name}: {deleted} kept answers deleted.", messages.SUCCESS)
