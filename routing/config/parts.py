"""A configuration taken apart: every group, endpoint and the settings as flat values, as three-way imports compare
them. Pure.

A part is (kind, name); a value's path is its keys. The group of an endpoint is a value like any other.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from routing.config.schema import Configuration, EndpointConfig, GeneralSettings, GroupConfig

GROUP, ENDPOINT, SETTINGS = "model group", "endpoint", "general settings"
IN_GROUP = ("group",)

Part = tuple[str, str]
Path = tuple[str, ...]
Values = dict[Path, Any]
Parts = dict[Part, Values]


class Absent:
    """Stands for a value that is not there; null is a value."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


def parts_of(plain: Mapping[str, Any]) -> Parts:
    """Of a configuration as plain data; every endpoint has its name."""
    parts: Parts = {}
    for group in plain.get("model_groups", []):
        parts[GROUP, group["model_group"]] = _flat(group)
        for endpoint in group.get("models", []):
            parts[ENDPOINT, endpoint["name"]] = {IN_GROUP: group["model_group"], **_flat(endpoint)}
    if plain.get("general_settings"):
        parts[SETTINGS, ""] = _flat(plain["general_settings"])
    return parts


def whole(parts: Parts) -> dict[str, Any]:
    """The inverse: plain data, in the order of the parts. Endpoints whose group is no part are left out."""
    groups = {name: _nested(values) | {"models": []} for (kind, name), values in parts.items() if kind == GROUP}
    for (kind, _), values in parts.items():
        if kind == ENDPOINT and values[IN_GROUP] in groups:
            inner = {path: value for path, value in values.items() if path != IN_GROUP}
            groups[values[IN_GROUP]]["models"].append(_nested(inner))
    return {"model_groups": list(groups.values()), "general_settings": _nested(parts.get((SETTINGS, ""), {}))}


def named_in(configuration: Configuration, hidden: Configuration) -> Parts:
    """What a parsed file says itself, without defaults that it leaves out. hidden: the same without secrets."""
    values = parts_of(hidden.plain())
    said = parts_of(configuration.model_dump(mode="json", exclude_unset=True, warnings=False))
    return {part: {path: values[part][path] for path in paths if path in values[part]} for part, paths in said.items()}


@cache
def defaults(kind: str) -> Mapping[Path, Any]:
    """The values of a part that says nothing. What must be given, and entries of mappings, have none."""
    bare = {
        GROUP: GroupConfig(model_group="-"),
        ENDPOINT: EndpointConfig(model="-"),
        SETTINGS: GeneralSettings(),
    }[kind]
    return {path: value for path, value in _flat(bare.plain()).items() if path not in (("model",), ("model_group",))}


def groups_in(parts: Iterable[Part]) -> list[str]:
    """The names of the groups, in order."""
    return [name for kind, name in parts if kind == GROUP]


def endpoints_in(parts: Parts, group: str) -> list[str]:
    """The names of a group's endpoints, in order."""
    return [name for (kind, name), values in parts.items() if kind == ENDPOINT and values[IN_GROUP] == group]


def told(part: Part) -> str:
    """`endpoint east`."""
    return f"{part[0]} {part[1]}".rstrip()


def as_json(parts: Parts) -> list[Any]:
    """For a JSON column, which keeps neither order nor lists as keys."""
    return [[*part, [[list(path), value] for path, value in values.items()]] for part, values in parts.items()]


def from_json(rows: list[Any]) -> Parts:
    """The inverse of `as_json`."""
    return {(kind, name): {tuple(path): value for path, value in values} for kind, name, values in rows}


def _flat(plain: Mapping[str, Any], before: Path = ()) -> Values:
    return dict(_leaves(plain, before))


def _leaves(plain: Mapping[str, Any], before: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in plain.items():
        if key == "models" and not before:
            continue
        if isinstance(value, dict):
            yield from _leaves(value, (*before, key))
        else:
            yield (*before, key), value


def _nested(values: Values) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for path, value in values.items():
        target = plain
        for key in path[:-1]:
            target = target.setdefault(key, {})
        target[path[-1]] = value
    return plain
