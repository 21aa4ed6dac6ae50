"""Differences as lines for people: terminals, history pages."""

import json
from collections.abc import Iterable
from typing import Any

from routing.config.differences import Change
from routing.config.wording import shown

SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": ">"}


def text_of(changes: Iterable[Change]) -> str:
    """All of them, a line each; what is new with its values below it."""
    return "\n".join(line for change in changes for line in lines_of(change))


def lines_of(change: Change) -> list[str]:
    """`~ endpoint east weight: 1 -> 3`."""
    head = f"{SIGNS[change.kind]} {shown(change.what)}"
    if change.kind == "added":
        where = f" in {shown(change.before)}" if change.before else ""
        return [head + where, *(f"    {shown(key)}: {value_of(value)}" for key, value in change.after.items())]
    if change.kind == "removed":
        return [head + (f" from {shown(change.before)}" if change.before else "")]
    key = f" {shown(change.key)}" if change.key else ""
    return [f"{head}{key}: {value_of(change.before)} -> {value_of(change.after)}"]


def value_of(value: Any) -> str:
    """As people write it in YAML."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return shown(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False))
