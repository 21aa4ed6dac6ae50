"""A stored secret goes only where it was typed in for: to that scheme, host and port. Pure.

Otherwise whoever may edit an address could have somebody else's key sent to a host of theirs.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from routing.config.references import STORED, kind_of, stored_places
from routing.config.schema import Configuration
from routing.config.wording import Place, shown, written

SETTINGS = "settings"  # the origin of what is no endpoint's
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Use:
    """A stored secret at its place."""

    place: Place  # in the configuration
    fingerprint: str
    origin: str


def origin_of(base_url: str) -> str:
    """`https://host:port`. A reference is its own origin: nobody knows here where it leads."""
    if kind_of(base_url) is not None:
        return base_url
    try:
        parts = urlsplit(base_url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return base_url
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.')}:{port}"


def uses(configuration: Configuration) -> Iterator[Use]:
    """Every stored secret that the configuration names, and where it goes."""
    for place, reference in stored_places(configuration.plain()):
        origin = SETTINGS
        if place[0] == "model_groups":
            group = configuration.model_groups[int(place[1])]
            origin = origin_of(group.models[int(place[3])].params.base_url)
        yield Use(place, reference.removeprefix(STORED), origin)


def strays(configuration: Configuration, allowed: Mapping[str, Collection[str]]) -> list[Use]:
    """Uses beyond what is allowed: fingerprint -> origins. A secret that is not known at all goes nowhere anyway."""
    return [use for use in uses(configuration) if use.origin not in allowed.get(use.fingerprint, (use.origin,))]


def without(configuration: Configuration, removed: Collection[Use]) -> Configuration:
    """The configuration with these secrets taken out."""
    if not removed:
        return configuration
    plain = configuration.plain()
    for use in removed:
        *way, last = use.place
        target: Any = plain
        for part in way:
            target = target[part]
        del target[last]
    return Configuration.model_validate(plain)


def told(configuration: Configuration, use: Use) -> str:
    """A use in words: `endpoint east: params.api_key`."""
    if use.place[0] != "model_groups":
        return written(use.place)
    endpoint = configuration.model_groups[int(use.place[1])].models[int(use.place[3])]
    return f"endpoint {shown(endpoint.name)}: {written(use.place[4:])}"
