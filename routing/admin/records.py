"""What happened to requests: a list to search, the trail of each, and all of it as CSV. Read only."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponseBadRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from routing.admin.pages import page
from routing.admin.record_csv import MOST_ROWS, csv_lines
from routing.admin.record_filters import RecordFilters
from routing.admin.record_texts import cache_told, dollars, duration, not_asked, status_tone, timeline, tokens
from routing.models import Revision
from stats.models import RecordedRequest
from stats.record_search import Found, Place, RecordSearch, Search

PER_PAGE = 50
_PLACE = "after"
QUICK: tuple[tuple[str, dict[str, str]], ...] = (
    ("All", {}),
    ("Failed or rescued", {"outcome": "troubled"}),
    ("Slow (10 s)", {"slower": "10"}),
    ("Expensive (1 cent)", {"dearer": "0.01"}),
    ("From the cache", {"cache": "hit"}),
)


@admin.register(RecordedRequest)
class RecordAdmin(ModelAdmin):
    """Pages of our own: Django's list counts the rows, and skips to a page by reading those before it."""

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="stats_requests_export"), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: RecordedRequest | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RecordedRequest | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if refused := self._refused(request):
            return refused
        records = RecordSearch()
        filters = RecordFilters(request.GET, records.names())
        found = Found([], None, None)
        if filters.is_valid():
            after = Place.parse(request.GET.get(_PLACE, ""))
            found = records.find(filters.search(), PER_PAGE, after)
        asked = {name: value for name, value in request.GET.items() if name in filters.fields and value}
        older = urlencode({**asked, _PLACE: str(found.older)}) if found.older else ""
        return page(
            self,
            request,
            "routing/records.html",
            title="Requests",
            filters=filters,
            rows=[_shown(row) for row in found.rows],
            older=older,
            newest=urlencode(asked) if _PLACE in request.GET else None,
            looked_back_to=_moment(found.looked_back_to),
            export=urlencode(asked),
            most_rows=MOST_ROWS,
            quick=[(title, urlencode(query), query == asked) for title, query in QUICK],
        )

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        if refused := self._refused(request):
            return refused
        records = RecordSearch()
        filters = RecordFilters(request.GET, records.names())
        if not filters.is_valid():
            return HttpResponseBadRequest(f"Not a search: {', '.join(filters.errors)}.", content_type="text/plain")
        return _download(records, filters.search())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        if refused := self._refused(request):
            return refused
        row = _row(object_id)
        shown = _shown(row)
        return page(
            self,
            request,
            "routing/record.html",
            title="Request",
            shown=shown,
            row=row,
            timeline=timeline(row),
            not_asked=[] if row.cache == "hit" else not_asked(row, Revision.objects.all(), RecordSearch()),
            revision=Revision.objects.filter(number=row.revision).first(),
            cache_told=cache_told(row),
        )

    def _refused(self, request: HttpRequest) -> HttpResponseBase | None:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return None if request.method in ("GET", "HEAD") else HttpResponseNotAllowed(["GET"])


def _download(records: RecordSearch, search: Search) -> StreamingHttpResponse:
    name = f"requests-{datetime.now(UTC):%Y%m%d-%H%M%S}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingHttpResponse(csv_lines(records, search), content_type="text/csv; charset=utf-8", headers=headers)


def _row(number: str) -> RecordedRequest:
    try:
        return RecordedRequest.objects.get(pk=int(number))
    except (ValueError, OverflowError, RecordedRequest.DoesNotExist):
        raise Http404("There is no such request, or it is not kept any more.") from None


def _moment(at_ms: int | None) -> str:
    return "" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _shown(row: RecordedRequest) -> dict[str, Any]:
    """What both pages show of a record."""
    at = row.at
    return {
        "pk": row.pk,
        "row": row,
        "day": f"{at:%Y-%m-%d}",
        "time": f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}",
        "status": row.status or "left",
        "tone": status_tone(row),
        "duration": duration(row.duration_ms),
        "ttft": duration(row.ttft_ms),
        "overhead": duration(row.overhead_ms),
        "input": tokens(row, row.input_tokens),
        "output": tokens(row, row.output_tokens),
        "attempts": len(row.trail),
        "cost": dollars(row.cost_nano_usd),
        "saved": dollars(row.saved_nano_usd),
    }
