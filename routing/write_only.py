"""Form fields whose secrets go one way: what was typed is never in a page again, not even in one that was refused."""

import json
import re
from functools import partial
from typing import Any

from django import forms
from django.forms.fields import InvalidJSONInput

from routing.config.references import kind_of
from routing.config.secrecy import has_password, is_secret

TYPE_AGAIN = "(type it again)"
_SCHEME = re.compile(r"\b(?:bearer|basic)\b", re.IGNORECASE)


class KeyField(forms.CharField):
    """Always empty in the page, and empty means unchanged."""

    def __init__(self, kept: str, **options: Any) -> None:
        super().__init__(required=False, strip=True, **options)
        self.hidden_widget = partial(_WhichKey, kept)  # type: ignore[assignment]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class _WhichKey(forms.HiddenInput):
    """Which key the page was about: its reference."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        self._kept = kept if kind_of(kept) or not kept else "literal"

    def format_value(self, value: Any) -> str:
        return value or self._kept or "none"


class PairsField(forms.JSONField):
    """Headers or query parameters; the values of secret ones are left out."""

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return "" if is_secret(value, value) or _SCHEME.search(value) else value
        prepared = super().prepare_value(value)
        try:
            given = json.loads(prepared)
        except (TypeError, ValueError):
            return prepared
        without = _without_secrets("", given)
        return prepared if without == given else json.dumps(without, ensure_ascii=False)


class StoreUrlField(forms.CharField):
    """A URL that is shown only without a password."""

    def prepare_value(self, value: Any) -> Any:
        return TYPE_AGAIN if isinstance(value, str) and has_password(value) else value


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(name, inner) for inner in value]
    return TYPE_AGAIN if is_secret(name, value) else value


def lacks_secret(value: Any) -> bool:
    """Whether what a page left out was not typed again."""
    return TYPE_AGAIN in (value.values() if isinstance(value, dict) else (value,))
