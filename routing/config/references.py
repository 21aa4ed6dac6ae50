"""References: text that stands for a value kept elsewhere (`os.environ/NAME`, `file:NAME`, `stored:FINGERPRINT`).

`resolve` puts the real values in and names what is missing. It reads secret files below one directory and nothing
else, follows no reference found in a value, and never puts a value into a message.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from routing.config.wording import Place, problems_of

if TYPE_CHECKING:
    from routing.config.schema import Configuration, EndpointConfig, GroupConfig

ENVIRONMENT = "os.environ/"
FILE = "file:"
STORED = "stored:"
# What this process itself must keep. Whoever may edit an endpoint could have it sent to a host of theirs.
OWN_SECRETS = frozenset(
    {"LLMPROXY_ADMIN_PASSWORD", "LLMPROXY_BOOTSTRAP_KEY", "LLMPROXY_ENCRYPTION_KEYS", "LLMPROXY_REDIS_URL"}
    | {"LLMPROXY_SECRET_KEY", "DATABASE_URL"}
)
_GRAMMAR = {
    ENVIRONMENT: re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*"),
    FILE: re.compile(r"(?!\.\.?(?:/|$))[\w.-]+(?:/(?!\.\.?(?:/|$))[\w.-]+)*", re.ASCII),
    STORED: re.compile(r"[0-9a-f]{16}"),
}
_MAX_SECRET_BYTES = 65_536
LOST = (
    "cannot be decrypted: LLMPROXY_ENCRYPTION_KEYS lacks the key that it was encrypted with; add that or type it anew"
)

Section = TypeVar("Section", bound=BaseModel)


def kind_of(value: object) -> str | None:
    """The prefix of a value that is written as a reference, well-formed or not."""
    if not isinstance(value, str):
        return None
    return next((prefix for prefix in _GRAMMAR if value.startswith(prefix)), None)


def is_reference(value: object) -> bool:
    """Whether the value is a well-formed reference."""
    kind = kind_of(value)
    return kind is not None and _GRAMMAR[kind].fullmatch(str(value)[len(kind) :]) is not None


def names_own_secret(reference: str) -> bool:
    """Whether it stands for one of the gateway's own secrets: refused by the schema, and never resolved."""
    return reference.startswith(ENVIRONMENT) and reference.removeprefix(ENVIRONMENT).upper() in OWN_SECRETS


def stored_places(plain: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Where `stored:` references stand in plain data."""
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            yield from stored_places(value, (*place, key))
    elif kind_of(plain) == STORED:
        yield place, plain


@dataclass(frozen=True, slots=True)
class Resolution:
    """A configuration with real values, and what could not be had.

    missing: endpoint name -> its sorted references without a usable value; such an endpoint must not be called.
    missing_general: the same for settings and groups, which then have their defaults.
    invalid: reference -> why its value cannot be used (a part of the missing ones).
    """

    configuration: "Configuration"
    missing: dict[str, tuple[str, ...]]
    missing_general: tuple[str, ...]
    invalid: dict[str, str]

    @property
    def all_missing(self) -> tuple[str, ...]:
        """Every missing reference once, sorted."""
        return tuple(sorted({*self.missing_general, *(name for names in self.missing.values() for name in names)}))

    def trouble(self, endpoint: str) -> str:
        """Why it must not be called, in words; empty: it may."""
        missing = self.missing.get(endpoint, ())
        unset = ", ".join(name for name in missing if name not in self.invalid)
        told = [f"{name}: {self.invalid[name]}" for name in missing if name in self.invalid]
        return "; ".join([f"no value for {unset}", *told] if unset else told)


def resolve(
    configuration: "Configuration", variables: Mapping[str, str], secrets_dir: Path, stored: Mapping[str, str]
) -> Resolution:
    """Replaces every reference. An unset or empty variable, an unreadable file or an unusable value is missing."""
    sources = _Sources(variables, secrets_dir, stored)
    general = _Resolver(sources)
    settings = general.section(configuration.general_settings)
    groups: list[GroupConfig] = []
    missing: dict[str, tuple[str, ...]] = {}
    taken_groups, taken_endpoints = _literal_names(configuration)
    for group in configuration.model_groups:
        models = [_endpoint(model, sources, missing, taken_endpoints) for model in group.models]
        resolved = general.section(group, {"models": models})
        name = _unique(group.model_group, resolved.model_group, taken_groups)
        groups.append(resolved.model_copy(update={"model_group": name}))
    known = {group.model_group for group in groups}
    for group in configuration.model_groups:
        general.refuse({item for item in group.fallbacks if sources.names_none_of(item, known)}, "names no model group")
    groups = [_with_known_fallbacks(group, known) for group in groups]
    whole = configuration.model_copy(update={"model_groups": groups, "general_settings": settings})
    return Resolution(whole, missing, tuple(sorted(general.missing)), sources.invalid)


def _endpoint(
    endpoint: "EndpointConfig", sources: "_Sources", missing: dict[str, tuple[str, ...]], taken: set[str]
) -> "EndpointConfig":
    resolver = _Resolver(sources)
    resolved = resolver.section(endpoint)
    name = _unique(endpoint.name, resolved.name, taken)
    if resolver.missing:
        missing[name] = tuple(sorted(resolver.missing))
    return resolved.model_copy(update={"name": name})


def _with_known_fallbacks(group: "GroupConfig", known: set[str]) -> "GroupConfig":
    """A fallback that came from a reference may name no group; nobody could ask it."""
    if all(name in known for name in group.fallbacks):
        return group
    return group.model_copy(update={"fallbacks": [name for name in group.fallbacks if name in known]})


def _literal_names(configuration: "Configuration") -> tuple[set[str], set[str]]:
    """All names as written, of groups and of endpoints."""
    groups = {group.model_group for group in configuration.model_groups}
    endpoints = {endpoint.name for group in configuration.model_groups for endpoint in group.models}
    return groups, endpoints


def _unique(written: str, resolved: str, taken: set[str]) -> str:
    """Names stay unique: where a resolved one is taken already, the reference itself is the name."""
    if written == resolved or not resolved or resolved in taken:
        return written
    taken.add(resolved)
    return resolved


@dataclass(slots=True)
class _Sources:
    variables: Mapping[str, str]
    secrets_dir: Path
    stored: Mapping[str, str]
    invalid: dict[str, str] = field(default_factory=dict)

    def value(self, reference: str) -> str | None:
        kind = kind_of(reference)
        name = reference[len(kind or "") :]
        if names_own_secret(reference):
            return None
        if kind == FILE:
            return self._file(name) or None
        found = self.variables if kind == ENVIRONMENT else self.stored
        return found.get(name) or None

    def names_none_of(self, reference: str, known: set[str]) -> bool:
        """Whether it is a reference with a value that is no known name."""
        return is_reference(reference) and self.value(reference) not in (None, *known)

    def _file(self, name: str) -> str | None:
        try:
            with (self.secrets_dir / name).open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
            return content.decode().rstrip("\r\n") if len(content) <= _MAX_SECRET_BYTES else None
        except (OSError, UnicodeDecodeError):
            return None


class _Resolver:
    """Resolves sections and remembers which references had no usable value."""

    def __init__(self, sources: _Sources) -> None:
        self._sources = sources
        self.missing: set[str] = set()

    def section(self, section: Section, known: Mapping[str, Any] | None = None) -> Section:
        """The section with real values; fields without one get their defaults. `known`: fields resolved already."""
        real: dict[str, Any] = dict(known or {})
        used: dict[str, set[str]] = {}
        for name, value in section:
            if name in real:
                continue
            if isinstance(value, BaseModel):
                real[name] = self.section(value)
            elif references := _references_in(value):
                used[name] = references
                real[name] = self._replaced(value)
            else:
                real[name] = value
        return self._checked(section, real, used)

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, dict):
            pairs = {key: self._replaced(item) for key, item in value.items()}
            return {key: item for key, item in pairs.items() if item is not None}
        if isinstance(value, list | tuple):
            return [item for item in map(self._replaced, value) if item is not None]
        if not is_reference(value):
            return value
        real = self._sources.value(value)
        if real is None and kind_of(value) == STORED:
            self.refuse({value}, LOST)
        elif real is None:
            self.missing.add(value)
        elif kind_of(real) is not None:
            self.refuse({value}, "its value is a reference again")
            return None
        return real

    def _checked(self, section: Section, real: dict[str, Any], used: dict[str, set[str]]) -> Section:
        fields = type(section).model_fields
        # A required value that is missing stays written as its reference; nobody may call such an endpoint.
        fallback = {name: getattr(section, name) for name in used if fields[name].is_required()}
        given = fallback | {name: value for name, value in real.items() if value is not None or name not in used}
        try:
            return type(section).model_validate(given)
        except ValidationError as error:
            for problem in problems_of(error):
                name = str(problem.place[0])
                self.refuse(used[name], problem.message)
                given.pop(name, None)
        return type(section).model_validate(fallback | given)

    def refuse(self, references: set[str], reason: str) -> None:
        """These references have a value that cannot be used."""
        self.missing |= references
        self._sources.invalid.update(dict.fromkeys(references, reason))


def _references_in(value: Any) -> set[str]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
    return {item for item in items if is_reference(item)}
