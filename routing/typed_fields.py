"""Form fields for what people type: names line by line, and numbers that may be references instead.

Whether a name or a reference may stand there is the schema's to say.
"""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from routing.config.references import kind_of


class NamesField(forms.CharField):
    """A list of names in their order: one a line, for a name may hold a comma."""

    widget = UnfoldAdminTextareaWidget

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in str(value or "").splitlines() if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(self.prepare_value(initial)) != self.to_python(self.prepare_value(data)))


class _OrReference(forms.Field):
    def clean(self, value: Any) -> Any:
        typed = value.strip() if isinstance(value, str) else value
        return super().clean(value) if kind_of(typed) is None else typed


class _WholeOrReference(_OrReference, forms.IntegerField):
    pass


class _NumberOrReference(_OrReference, forms.FloatField):
    pass


def or_reference(field: forms.IntegerField) -> forms.Field:
    """A field for the same number; as text, since a browser lets nobody type letters into its fields for numbers."""
    kind: Any = _NumberOrReference if isinstance(field, forms.FloatField) else _WholeOrReference
    made: forms.Field = kind(
        label=field.label,
        required=field.required,
        help_text=field.help_text,
        min_value=field.min_value,
        max_value=field.max_value,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
    )
    return made
