"""Forms that may be older than what they change: a page stays open while somebody else saves.

Each field is sent back with what the page showed at first. What was only looked at follows the database; what both
changed is refused at its field, with the value that it has now. Knows no configuration.
"""

from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS

from routing.config.change_text import value_of

_POSITION = "position"  # never seen as a field: rows are dragged
GONE = "This row was deleted or moved to another group meanwhile. Nothing was saved: open the page again."


class OldPageForm(forms.ModelForm):  # type: ignore[type-arg]
    """One row, merged with what others have saved since the page was opened."""

    def watch(self, columns: Iterable[str]) -> None:
        """Have the page remember what it shows of these. A script need not send that."""
        self._news: list[str] = []
        self._watched = [column for column in self.fields if column in set(columns)]
        for column in self._watched:
            sent = not self.is_bound or self.add_initial_prefix(column) in self.data
            self.fields[column].show_hidden_initial = sent and self.instance.pk is not None

    def add_initial_prefix(self, field_name: str) -> str:
        """The page's script numbers every input whose name ends in `-position`; what was there first must stay."""
        name = super().add_initial_prefix(field_name)
        return f"{name}-first" if field_name == _POSITION else name

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "id" in self.errors:
            self.add_error(NON_FIELD_ERRORS, GONE)
        if self.instance.pk is not None:
            for column in self._watched:
                self._merge(column, cleaned)
        return cleaned

    def overtaken(self) -> list[str]:
        """What others have changed since the page was opened. Whoever sends the page again has seen that."""
        for column in filter(self._overtaken, self._watched):
            self._has_seen(column)
            if not self.touched(column):  # it must not look as if this page had changed it back
                empty = self[column].initial in (None, "")
                cast(dict[str, str], self.data)[self.add_prefix(column)] = "" if empty else self._shown_now(column)
        return [column for column in self._news if column != _POSITION]

    def now(self, column: str) -> Any:
        """What the row holds, as the field would give it."""
        return getattr(self.instance, column)

    def touched(self, column: str) -> bool:
        """Whether this page changed it."""
        return column in self.changed_data

    def _merge(self, column: str, cleaned: dict[str, Any]) -> None:
        if not self.touched(column):
            if column in cleaned:
                cleaned[column] = self.now(column)
        elif self._conflicts(column):
            now = self.now(column)
            told = "empty" if now in (None, "") else value_of(now if isinstance(now, dict | list | bool) else str(now))
            place, word = (NON_FIELD_ERRORS, "the order") if column == _POSITION else (column, "this")
            self.add_error(
                place,
                f"Somebody else changed {word} meanwhile: it is {told} now. Save again to put yours in its place.",
            )
            self._has_seen(column)

    def _conflicts(self, column: str) -> bool:
        """Changed on both sides, and not to the same."""
        return self._overtaken(column) and self.fields[column].has_changed(self[column].initial, self[column].data)

    def _overtaken(self, column: str) -> bool:
        """Whether it is not what the page showed at first."""
        seen = self.data.get(self.add_initial_prefix(column), "").replace("\r\n", "\n")  # as browsers send it
        return self.fields[column].show_hidden_initial and seen != self._shown_now(column)

    def _shown_now(self, column: str) -> str:
        """What a fresh page would send back as shown at first."""
        field = self.fields[column]
        return field.hidden_widget().format_value(field.prepare_value(self[column].initial)) or ""

    def _has_seen(self, column: str) -> None:
        self._news.append(column)
        data: Any = self.data
        self.data = data.copy()  # a request's own is not to be changed
        cast(dict[str, str], self.data)[self.add_initial_prefix(column)] = self._shown_now(column)
