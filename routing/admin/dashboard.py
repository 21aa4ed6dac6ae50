"""The first page: what is configured. The numbers come over the websocket."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.timesince import timesince

from routing.admin.live_state import live_state
from routing.config.publish import current_revision
from routing.models import Endpoint, ModelGroup, Revision


def cards(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Called by the admin's first page. Nothing for those who may not see the configuration."""
    if not request.user.has_perm("routing.view_endpoint"):
        return context
    return context | {
        "may_see": True,
        "live": live_state(request),
        "groups": ModelGroup.objects.count(),
        "endpoints": Endpoint.objects.count(),
        "published": current_revision(),
        "latest": [(revision, _ago(revision)) for revision in Revision.objects.all()[:5]],
        "groups_listed": ModelGroup.objects.prefetch_related("endpoints"),
        "records": _records_page(request),
        "root": request.build_absolute_uri("/v1"),
    }


def _records_page(request: HttpRequest) -> str:
    """Nothing for those who may not open it."""
    may = request.user.has_perm("stats.view_recordedrequest")
    return reverse("admin:stats_recordedrequest_changelist") if may else ""


def _ago(revision: Revision) -> str:
    ago = timesince(revision.created_at)
    return "just now" if ago.startswith("0") else f"{ago} ago"
