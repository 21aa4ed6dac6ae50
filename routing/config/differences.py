"""Two configurations: what differs, in the words of the YAML. Pure."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from routing.config.schema import Configuration, EndpointConfig, GroupConfig, Section


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `key` is empty where a whole group or endpoint came, went or moved."""

    kind: Literal["added", "removed", "changed", "moved"]
    what: str  # "model group gpt", "endpoint azure-east", "general settings"
    key: str = ""
    before: Any = None
    after: Any = None

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


def differences(before: Configuration, after: Configuration) -> list[Change]:
    """All changes: groups with their endpoints in order, then the settings."""
    old = {group.model_group: group for group in before.model_groups}
    new = {group.model_group: group for group in after.model_groups}
    old_models = _endpoints(before)
    new_models = _endpoints(after)
    changes = [Change("removed", f"model group {name}") for name in old if name not in new]
    for name, group in new.items():
        changes += _compared(f"model group {name}", old.get(name), group)
    changes += _moved("model groups", "", list(old), list(new))
    changes += [Change("removed", f"endpoint {name}", before=at) for name, (at, _) in old_models.items()
                if name not in new_models]  # fmt: skip
    for name, (group_name, endpoint) in new_models.items():
        was_in, was = old_models.get(name, (None, None))
        changes += _compared(f"endpoint {name}", was, endpoint, group_name)
        if was_in not in (None, group_name):
            changes.append(Change("moved", f"endpoint {name}", before=was_in, after=group_name))
    for name in old.keys() & new.keys():
        changes += _moved(f"endpoints of {name}", name, _names(old[name]), _names(new[name]))
    changes += _compared("general settings", before.general_settings, after.general_settings)
    return changes


def _names(group: GroupConfig) -> list[str]:
    return [endpoint.name for endpoint in group.models]


def _endpoints(configuration: Configuration) -> dict[str, tuple[str, EndpointConfig]]:
    return {
        endpoint.name: (group.model_group, endpoint)
        for group in configuration.model_groups
        for endpoint in group.models
    }


def _compared(what: str, before: Section | None, after: Section, place: str | None = None) -> Iterator[Change]:
    new = dict(_flat(after.plain()))
    if before is None:
        defaults = dict(_flat(after.plain(without_defaults=True)))
        shown = {key: value for key, value in defaults.items() if key not in ("name", "model_group")}
        yield Change("added", what, before=place, after=shown)
        return
    old = dict(_flat(before.plain()))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield Change("changed", what, key, old.get(key), new.get(key))


def _flat(plain: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if key == "models":
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _moved(what: str, key: str, before: list[str], after: list[str]) -> Iterator[Change]:
    """Only a new order of what was there and still is."""
    was = [name for name in before if name in after]
    now = [name for name in after if name in before]
    if was != now:
        yield Change("moved", what, "order", was, now)
