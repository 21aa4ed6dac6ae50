"""The form above the list of requests: what an address asks for, as a search."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import RegexValidator
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from stats.counters import OUTCOMES
from stats.record_search import TROUBLED, Names, Search

_ANY = ("", "any")
_NANO = 1_000_000_000
_LONGEST_NAME = 200


def _typed(label: str, **attributes: str) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false", **attributes})
    return forms.CharField(required=False, max_length=_LONGEST_NAME, label=label, widget=widget)


def _chosen(label: str, choices: Iterable[tuple[str, str]]) -> forms.ChoiceField:
    return forms.ChoiceField(required=False, label=label, choices=[_ANY, *choices], widget=UnfoldAdminSelectWidget())


def _named(label: str) -> forms.CharField:
    """Names come with each request; one that is not among them any more may still be asked for."""
    return forms.CharField(
        required=False, strip=False, max_length=_LONGEST_NAME, label=label, widget=UnfoldAdminSelectWidget()
    )


def _number(label: str, **limits: Any) -> forms.DecimalField:
    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})
    return forms.DecimalField(required=False, label=label, min_value=0, widget=widget, **limits)


def _moment(label: str) -> forms.DateTimeField:
    widget = UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"})
    return forms.DateTimeField(required=False, label=label, widget=widget)


class RecordFilters(forms.Form):
    """Whatever is left empty does not matter."""

    id = _typed("Request id")
    group = _named("Model group")
    outcome = _chosen("Outcome", [(TROUBLED, "failed or rescued"), *((outcome, outcome) for outcome in OUTCOMES)])
    status = _typed("Status", placeholder="502 or 5xx")
    since = _moment("From (UTC)")
    until = _moment("Until (UTC)")
    endpoint = _named("Answered by")
    tried = _named("Tried")
    cache = _chosen("Cache", [(name, name) for name in ("hit", "miss", "bypass")])
    stream = _chosen("Kind", [("yes", "streams"), ("no", "whole answers")])
    slower = _number("Took at least (s)", max_value=1_000_000)
    dearer = _number("Cost at least ($)", max_value=1_000_000)
    key = _typed("Key")

    MAIN = ("id", "group", "outcome", "status", "since", "until")

    def __init__(self, data: Any, names: Names) -> None:
        super().__init__(data)
        self.fields["status"].validators.append(
            RegexValidator(r"\A(?:[1-5]xx|[1-5]\d\d|0)\Z", "Write a status such as 502, or a class such as 5xx.")
        )
        for field, known in (("group", names.groups), ("endpoint", names.endpoints), ("tried", names.endpoints)):
            asked = self.data.get(field, "")
            more = [asked] if asked and asked not in known else []
            self.fields[field].widget.choices = [_ANY, *((name, name) for name in (*known, *more))]

    def main(self) -> list[forms.BoundField]:
        return [self[name] for name in self.MAIN]

    def more(self) -> list[forms.BoundField]:
        return [field for field in self if field.name not in self.MAIN]

    def more_asked(self) -> bool:
        """Whether one of the fields that are folded away is used."""
        return any(self.data.get(field.name) for field in self.more())

    def search(self) -> Search:
        """Once the form is valid."""
        given = self.cleaned_data
        status: str = given["status"]
        return Search(
            request_id=given["id"],
            group=given["group"],
            endpoint=given["endpoint"],
            tried=given["tried"],
            key=given["key"],
            outcome=given["outcome"],
            status=int(status) if status.isdigit() else None,
            status_class=int(status[0]) if status.endswith("xx") else None,
            cache=given["cache"],
            stream={"yes": True, "no": False}.get(given["stream"]),
            slower_ms=_times(given["slower"], 1000),
            dearer_nano_usd=_times(given["dearer"], _NANO),
            since_ms=_milliseconds(given["since"]),
            until_ms=_milliseconds(given["until"]),
        )


def _times(number: Decimal | None, factor: int) -> int | None:
    return None if number is None else int(number * factor)


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.astimezone(UTC).timestamp() * 1000)
