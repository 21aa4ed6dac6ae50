"""Where a request would go, and why nowhere else: as this worker sees it now."""

from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from routing.admin.pages import page
from routing.admin.running import running_gateway
from routing.errors import NotFound
from routing.explain import Explained, explain


def explain_page(owner: "ModelAdmin[Any]", request: HttpRequest) -> HttpResponseBase:
    """`?model=NAME&stream=on`."""
    if not owner.has_view_permission(request):
        raise PermissionDenied
    gateway = running_gateway(request)
    names = sorted(gateway.live.table.groups) if gateway else []
    model = request.GET.get("model") or next(iter(names), "")
    stream = "stream" in request.GET
    candidates: list[Explained] = []
    trouble = "" if gateway else "No gateway runs in this process."
    if gateway and model:
        try:
            candidates = explain(gateway.live.table, model, gateway.board.of, gateway.board.clock(), stream=stream)
        except NotFound as error:
            trouble = str(error)
    return page(
        owner,
        request,
        "routing/explain.html",
        title="Explain",
        names=names,
        model=model,
        stream=stream,
        candidates=candidates,
        trouble=trouble,
        revision=gateway.live.table.revision if gateway else None,
    )
