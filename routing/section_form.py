"""Forms of the admin that the YAML's schema validates: what `check_config` would refuse is an error at its field.

Keys are write-only: no page holds one, an empty field keeps what is stored. A typed key is stored encrypted.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.functional import cached_property
from django.utils.html import format_html
from pydantic import ValidationError
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from routing.config import schema, stored_secrets
from routing.config.columns import PLACES, column_at, from_row, holds_text, row_values, section_data
from routing.config.consistency import cross_check
from routing.config.publish import ChangeRefused
from routing.config.references import LOST, STORED, kind_of, stored_places
from routing.config.snapshot import read_configuration
from routing.config.wording import ConfigurationInvalid, Place, problems_of, shown
from routing.models import Endpoint
from routing.old_page import OldPageForm
from routing.typed_fields import NamesField, or_reference
from routing.write_only import KeyField, PairsField, StoreUrlField, lacks_secret

_ABBREVIATIONS = re.compile(r"\b(api|ca|http|rpm|ssl|tpm|ttl|url)\b", re.IGNORECASE)
WRITE_ONLY = {"api_key", "redis_password", "cache_password"}
_WITH_SECRETS: Mapping[str, type[forms.Field]] = {
    "default_headers": PairsField, "default_query": PairsField, "redis_url": StoreUrlField,
}  # fmt: skip
_FROM_A_FILE = "A reference can stand here, but not be chosen here: import a file that has it."
_NO_COLUMNS = {"group", "position"}  # of the section; places in the configuration all the same


class SectionForm(OldPageForm):
    """One row, validated as one section of the configuration."""

    section: type[schema.Section]
    refused: ChangeRefused | None = None  # why this very page was not saved

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._make_readable()
        for column, reference in self.instance.references.items():
            if column in self.fields:
                self._show_reference(column, reference)
        for column in self.fields.keys() & PLACES[type(self.instance)].keys():
            field = self.fields[column]
            if isinstance(field, forms.IntegerField):
                self.fields[column] = or_reference(field)
        for column in self.fields.keys() & WRITE_ONLY:
            self._make_write_only(column)
        for column in self.fields.keys() & _WITH_SECRETS.keys():
            self._leave_secrets_out(column)
        for column in self.fields.keys() & {*WRITE_ONLY, *_WITH_SECRETS}:
            self._tell_lost_keys(column)
        self.watch(PLACES[type(self.instance)].keys() | _NO_COLUMNS)

    def _make_readable(self) -> None:
        """`Base URL` and `60`, not `Base url` and `60.0`."""
        for field in self.fields.values():
            if field.label:
                field.label = _ABBREVIATIONS.sub(lambda word: word[0].upper(), str(field.label))
        for column, value in self.initial.items():
            if isinstance(value, float) and value.is_integer():
                self.initial[column] = int(value)

    def _show_reference(self, column: str, reference: str) -> None:
        """A number or a switch that is a reference is edited as text: the reference, or a value instead of it."""
        field = self.fields[column]
        self.fields[column] = forms.CharField(
            label=field.label, required=False, help_text=field.help_text, widget=UnfoldAdminTextInputWidget()
        )
        self.initial[column] = reference

    def _make_write_only(self, column: str) -> None:
        kept: str = getattr(self.instance, column)
        origin = "Empty: unchanged." if self.lost_keys(column) else _origin(kept, column)
        self.initial[column] = ""
        self.fields[column] = KeyField(
            kept,
            label=self.fields[column].label,
            help_text=f"{origin} {self.fields[column].help_text}",
            widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        )

    def _leave_secrets_out(self, column: str) -> None:
        field = self.fields[column]
        self.fields[column] = _WITH_SECRETS[column](
            label=field.label, required=False, help_text=field.help_text, widget=field.widget
        )

    def _tell_lost_keys(self, column: str) -> None:
        lost = self.lost_keys(column)
        if lost:
            field = self.fields[column]
            told = f"The stored key {', '.join(lost)} {LOST}."
            field.help_text = format_html('<b class="lp-lost">{}</b> {}', told, field.help_text)

    def lost_keys(self, column: str) -> list[str]:
        """The fingerprints of the row's stored keys in a column that nobody can read any more."""
        named = [reference.removeprefix(STORED) for _, reference in stored_places([getattr(self.instance, column)])]
        return [fingerprint for fingerprint in named if fingerprint not in self.opened_keys]

    @cached_property
    def opened_keys(self) -> Collection[str]:
        """The fingerprints of all stored keys that can be decrypted."""
        return stored_secrets.reveal_all().keys()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        self._refuse_unfit_references()
        columns = from_row(self.instance) | {name: value for name, value in cleaned.items() if name in self._columns}
        for column in WRITE_ONLY:
            if column in cleaned and not cleaned[column]:
                columns[column] = "" if cleaned.get(f"remove_{column}") else getattr(self.instance, column)
        for column in cleaned.keys() & _WITH_SECRETS.keys():
            if self.touched(column) and lacks_secret(cleaned[column]):
                self.add_error(column, "No page shows a secret again: type it anew.")
        if not self.errors:
            self._validate(columns)
        if not self.errors and self.refused is not None:
            self._tell(self.refused)
        self._leave_references_out()
        return self.cleaned_data

    def now(self, column: str) -> Any:
        if column in WRITE_ONLY and not self._chosen(column):
            return ""  # empty: unchanged
        return from_row(self.instance)[column] if column in PLACES[type(self.instance)] else super().now(column)

    def touched(self, column: str) -> bool:
        return super().touched(column) or self._chosen(column)

    def _chosen(self, column: str) -> bool:
        """Whether the key was typed or its removal asked for."""
        return column in WRITE_ONLY and bool(self.cleaned_data.get(column) or self.cleaned_data.get(f"remove_{column}"))

    def _leave_references_out(self) -> None:
        """After an error they are still text, which a column for numbers would refuse with words of its own."""
        for column, value in list(self.cleaned_data.items()) if self.errors else ():
            place = column in PLACES[type(self.instance)]
            if kind_of(value) is not None and place and not holds_text(type(self.instance), column):
                del self.cleaned_data[column]

    def _refuse_unfit_references(self) -> None:
        """No browser sends one from a switch or a list, but a script may."""
        for column in self.fields.keys() & PLACES[type(self.instance)].keys():
            listed = isinstance(self.fields[column], forms.BooleanField | forms.ChoiceField)
            if listed and kind_of(self.data.get(self.add_prefix(column))) is not None:
                self.errors.pop(column, None)
                self.add_error(column, _FROM_A_FILE)

    def _validate(self, columns: dict[str, Any]) -> None:
        try:
            section = self.section.model_validate(section_data(type(self.instance), columns))
        except ValidationError as error:
            for problem in problems_of(error):
                column = column_at(type(self.instance), problem.place)
                self.add_error(column if column in self.fields else NON_FIELD_ERRORS, problem.message)
            return
        self._refuse_unknown_keys(section)
        self._section = section = self.completed(section)
        values = row_values(type(self.instance), section)
        self.instance.references = values["references"]
        self.cleaned_data.update({name: value for name, value in values.items() if name in self._columns})

    def _refuse_unknown_keys(self, section: schema.Section) -> None:
        """Those that are here already stay: what they name may have been lost later."""
        here = {reference for _, reference in stored_places(from_row(self.instance))}
        named = [(place, reference) for place, reference in stored_places(section.plain()) if reference not in here]
        known = stored_secrets.fingerprints() if named else set()
        for place, reference in named:
            column = column_at(type(self.instance), place)
            if column and reference.removeprefix(STORED) not in known:
                self.add_error(column, "names a stored key that is not here: type the key itself or os.environ/NAME")

    def _tell(self, refused: ChangeRefused) -> None:
        """What only shows beside the rest of the configuration: at its field, if it is one of this form."""
        for problem, complaint in zip(refused.problems, refused.complaints, strict=False):
            column = column_at(type(self.instance), self.own_place(problem.place, complaint))
            own = column is not None and column in self.fields
            self.add_error(column if own else NON_FIELD_ERRORS, problem.message if own else complaint)
        if not self.errors:
            self.add_error(NON_FIELD_ERRORS, str(refused))

    def own_place(self, place: Place, complaint: str) -> Place:
        """A place of the configuration as one of this section; empty: it is elsewhere."""
        return ()

    def completed(self, section: schema.Section) -> schema.Section:
        """The section with what it has by default; may add errors that only the database knows."""
        return section

    @property
    def _columns(self) -> set[str]:
        return set(self.fields) - {f"remove_{column}" for column in WRITE_ONLY}

    def save(self, commit: bool = True) -> Any:
        hidden = stored_secrets.hide_section(self._section)
        for column, value in row_values(type(self.instance), hidden).items():
            setattr(self.instance, column, value)
        return super().save(commit)


class GroupForm(SectionForm):
    """A model group."""

    section = schema.GroupConfig
    fallbacks = NamesField(
        required=False, help_text="Other groups, one a line: asked in this order when this one is exhausted."
    )

    def own_place(self, place: Place, complaint: str) -> Place:
        own = complaint.startswith(f"Model group {shown(self.cleaned_data['name'])}: ")
        return place[2:] if own else ()

    def completed(self, section: schema.Section) -> schema.Section:
        try:
            groups = read_configuration().plain()["model_groups"]
        except ConfigurationInvalid:  # the page must still save what mends it
            return section
        others = [group for group in groups if group["model_group"] != self.initial.get("name")]
        for problem in cross_check({"model_groups": [*others, section.plain()]}):
            if problem.place[1:3] == (len(others), "fallbacks") and "fallbacks" in self.fields:
                self.add_error("fallbacks", problem.message)
        return section


class EndpointForm(SectionForm):
    """An endpoint; one without a name gets the same as in YAML."""

    section = schema.EndpointConfig
    remove_api_key = forms.BooleanField(label="Remove the key", required=False, widget=UnfoldBooleanSwitchWidget())

    def own_place(self, place: Place, complaint: str) -> Place:
        own = complaint.startswith(f"Endpoint {shown(str(self.cleaned_data.get('name')))}: ")
        return place[4:] if own else ()

    def completed(self, section: schema.Section) -> schema.Section:
        if not isinstance(section, schema.EndpointConfig) or section.name:
            return section
        taken = set(Endpoint.objects.exclude(pk=self.instance.pk).values_list("name", flat=True))
        return schema.with_name(section, taken | set(self.names_beside()))

    def names_beside(self) -> Collection[str]:
        """Taken by rows of the same page."""
        return ()


class SettingsForm(SectionForm):
    """The general settings."""

    section = schema.GeneralSettings
    remove_redis_password = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())
    remove_cache_password = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())

    def own_place(self, place: Place, complaint: str) -> Place:
        return place[1:] if place[:1] == ("general_settings",) else ()


def _origin(kept: str, column: str) -> str:
    """Where a key comes from, without the key."""
    if not kept:
        return "None yet."
    if kind_of(kept) == STORED:
        unless = ", unless base_url gets another host: then it is taken out" if column == "api_key" else ""
        return f"Kept encrypted, fingerprint {kept.removeprefix(STORED)}. Empty: unchanged{unless}."
    return f"Comes from {kept}. Empty: unchanged."
