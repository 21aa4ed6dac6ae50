"""Checks across a whole configuration: unique names, known fallbacks, no loops.

Works on plain data and skips what has the wrong shape, so that these problems are found beside all others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from routing.config.references import is_reference
from routing.config.wording import Place, Problem, shown, suggestion, written


def cross_check(plain: Any) -> list[Problem]:
    """All problems between the parts of a configuration given as plain dicts and lists."""
    groups = list(_groups(plain))
    return [
        *_doubles(((*place, "model_group"), group["model_group"]) for place, group in groups if "model_group" in group),
        *_doubles(_endpoint_names(groups)),
        *_empty(groups),
        *_half_prices(groups),
        *_fallback_problems(groups),
        *_two_stores(plain),
    ]


def _groups(plain: Any) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    for index, group in enumerate(_items(plain, "model_groups")):
        if isinstance(group, dict):
            yield ("model_groups", index), group


def _items(mapping: Any, key: str) -> list[Any]:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, list) else []


def _endpoint_names(groups: list[tuple[Place, Mapping[str, Any]]]) -> Iterator[tuple[Place, Any]]:
    for place, group in groups:
        for index, endpoint in enumerate(_items(group, "models")):
            if isinstance(endpoint, dict) and endpoint.get("name"):
                yield (*place, "models", index, "name"), endpoint["name"]


def _doubles(names: Iterator[tuple[Place, Any]]) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for place, name in names:
        if not isinstance(name, str):
            continue
        if name in first:
            yield Problem(
                place, f'"{shown(name)}" is already the name of {written(first[name][:-1])}: names must be unique'
            )
        first.setdefault(name, place)


def _empty(groups: list[tuple[Place, Mapping[str, Any]]]) -> Iterator[Problem]:
    for place, group in groups:
        if group.get("models") in (None, []) and group.get("fallbacks") in (None, []):
            yield Problem((*place, "models"), "is empty: a group needs at least one model or a fallback")


def _half_prices(groups: list[tuple[Place, Mapping[str, Any]]]) -> Iterator[Problem]:
    for place, group in groups:
        for index, endpoint in enumerate(_items(group, "models")):
            price = endpoint.get("price") if isinstance(endpoint, dict) else None
            if not isinstance(price, dict) or price.get("input") not in (None, ""):
                continue
            if any(price.get(other) not in (None, "") for other in ("output", "cached_input")):
                where = (*place, "models", index, "price", "input")
                yield Problem(where, "is missing: the other prices stand only beside it")


def _fallback_problems(groups: list[tuple[Place, Mapping[str, Any]]]) -> Iterator[Problem]:
    known = {group["model_group"]: group for _, group in reversed(groups) if isinstance(group.get("model_group"), str)}
    for place, group in groups:
        own = group.get("model_group")
        named = _items(group, "fallbacks")
        for index, name in enumerate(named):
            where = (*place, "fallbacks", index)
            if not isinstance(name, str) or is_reference(name):
                continue
            if name not in known:
                yield Problem(where, f'there is no model group "{shown(name)}"' + suggestion(name, known))
            elif name in named[:index]:
                yield Problem(where, f'"{shown(name)}" is listed twice')
            elif isinstance(own, str) and (path := _path(name, own, known)):
                yield Problem(where, "makes a loop of fallbacks: " + " -> ".join(map(shown, (own, *path))))


def _path(start: str, goal: str, known: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...] | None:
    """The groups from start to goal over fallbacks, breadth first; each group is looked at once."""
    paths: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = [start]
    for name in queue:
        if name == goal:
            return paths[name]
        for after in _items(known.get(name), "fallbacks"):
            if isinstance(after, str) and after not in paths:
                paths[after] = (*paths[name], after)
                queue.append(after)
    return None


def _two_stores(plain: Any) -> Iterator[Problem]:
    settings = plain.get("general_settings") if isinstance(plain, dict) else None
    if isinstance(settings, dict) and settings.get("redis_url") and settings.get("redis_host"):
        yield Problem(("general_settings", "redis_url"), "stands beside redis_host: give one of them")
