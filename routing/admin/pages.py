"""What pages of our own share: the frame of the admin around them, and changes as rows for a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest
from django.template.response import TemplateResponse

from routing.config.change_text import value_of
from routing.config.differences import Change

_ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One value on both sides, as text."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What came of one group or endpoint, or the settings."""

    kind: str
    what: str
    rows: tuple[Row, ...]


def page(owner: "ModelAdmin[Any]", request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
    """A page of ours within the admin, beside those of `owner`'s model."""
    request.current_app = owner.admin_site.name
    around = {**owner.admin_site.each_context(request), "opts": owner.model._meta}
    return TemplateResponse(request, template, {**around, **context})


def table_of(changes: Iterable[Change]) -> list[Difference]:
    """Changes of the same thing together, in their order."""
    together: dict[tuple[str, str], list[Row]] = {}
    for change in changes:
        together.setdefault((change.kind, change.what), []).extend(_rows(change))
    return [Difference(kind, what, tuple(rows)) for (kind, what), rows in together.items()]


def _rows(change: Change) -> list[Row]:
    if change.kind == "added":
        place = [Row("group", _ABSENT, value_of(change.before))] if change.before else []
        return place + [Row(key, _ABSENT, value_of(value)) for key, value in (change.after or {}).items()]
    if change.kind == "removed":
        return [Row("group", value_of(change.before), _ABSENT)] if change.before else []
    key = change.key or "group"
    return [Row(key, value_of(change.before), value_of(change.after))]
