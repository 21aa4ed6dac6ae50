"""The routing table: what one revision of the configuration means for a worker, compiled, frozen and complete.

Built from a resolved configuration; imports no Django. Requests hold on to the table they began with.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import msgspec

from cache_app.policy import Rules
from routing.config.references import Resolution
from routing.config.schema import EndpointConfig, GeneralSettings, GroupConfig, Params, PriceConfig
from routing.upstream.providers import Provider, build_provider, tells_usage
from routing.upstream.transport import Target
from stats.prices import Price

# Operations whose target never changes for an endpoint: built once, looked up per request.
FIXED_OPERATIONS = (
    "chat/completions",
    "completions",
    "embeddings",
    "moderations",
    "responses",
    "responses/compact",
    "responses/input_tokens",
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, per attempt; meanings as the configuration keys of the same names."""

    connect_s: float
    http_s: float
    first_event_s: float
    idle_s: float
    stream_s: float


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Endpoint:
    """One place that can answer for a model group. Compared by identity; `id` is stable across tables."""

    id: str  # digest of name, model and base_url: another upstream is another endpoint, with health of its own
    name: str
    group: str
    model: str
    weight: int
    enabled: bool
    missing: tuple[str, ...]  # references that could not be resolved; not empty: misconfigured, never asked
    trouble: str  # the same in words, with reasons
    base_url: str
    provider: Provider | None  # None: misconfigured
    account: str  # digest of origin and key: endpoints that share it know each other's response ids
    timeouts: Timeouts
    allowed_fails: int
    cooldown_s: float
    max_connections: int
    max_answer_bytes: int
    proxied: bool  # asks for httpx's transport
    asks_usage: bool  # chat streams are asked for their usage, whether or not the client wants it
    price: Price | None  # of its own; None: the provider's, where that is known
    api_key: str | None = field(repr=False)
    model_json: bytes
    name_header: tuple[bytes, bytes]
    targets: Mapping[str, Target]

    def target(self, method: str, operation: str, query: str = "") -> Target:
        """The request line and headers for `operation`; fixed ones come from the table."""
        if method == "POST" and not query and (target := self.targets.get(operation)) is not None:
            return target
        if self.provider is None:
            raise ValueError(f"endpoint {self.name} is misconfigured and has no target")
        return self.provider.target(method, operation, query)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """What clients call a model."""

    name: str
    strategy: str
    endpoints: tuple[Endpoint, ...]
    chain: tuple[str, ...]  # names of this group and its fallbacks, in the order in which they are asked
    num_retries: int
    stream_recovery: str
    cache: Rules
    key: str  # digest of the name, of a safe alphabet
    upstreams: str  # digest of the models that answer: with others, what was kept is no answer


@dataclass(frozen=True, slots=True, eq=False)
class RoutingTable:
    """All groups of one revision."""

    revision: int
    settings: GeneralSettings
    groups: Mapping[str, Group]
    endpoints: Mapping[str, Endpoint]  # by id

    def chain(self, group: Group) -> Iterator[Group]:
        """The group, then its fallbacks."""
        return (self.groups[name] for name in group.chain)


def compile_table(resolution: Resolution, revision: int) -> RoutingTable:
    """resolution: a checked configuration with references resolved (`references.resolve`)."""
    configuration = resolution.configuration
    settings = configuration.general_settings
    by_name = {group.model_group: group for group in configuration.model_groups}
    groups = {name: _compile_group(group, by_name, settings, resolution) for name, group in by_name.items()}
    endpoints = {endpoint.id: endpoint for group in groups.values() for endpoint in group.endpoints}
    return RoutingTable(revision, settings, MappingProxyType(groups), MappingProxyType(endpoints))


def _compile_group(
    group: GroupConfig,
    by_name: Mapping[str, GroupConfig],
    settings: GeneralSettings,
    resolution: Resolution,
) -> Group:
    endpoints = (_compile_endpoint(endpoint, group, settings, resolution) for endpoint in group.models)
    return Group(
        name=group.model_group,
        strategy=group.strategy,
        endpoints=tuple(endpoints),
        chain=tuple(_chain(group.model_group, by_name)),
        num_retries=_nearest("num_retries", group, settings),
        stream_recovery=group.stream_recovery,
        cache=_cache_rules(group, settings),
        key=_digest(group.model_group),
        upstreams=_digest(*sorted({endpoint.model for endpoint in group.models})),
    )


def _cache_rules(group: GroupConfig, settings: GeneralSettings) -> Rules:
    return Rules(
        enabled=settings.cache and group.cache,
        ttl_s=group.cache_ttl or settings.cache_params.ttl,
        policy=group.cache_policy,
        shared=group.cache_shared,
        max_entry_bytes=settings.cache_params.max_entry_bytes,
    )


def _chain(name: str, by_name: Mapping[str, GroupConfig]) -> list[str]:
    """Depth first; each group once."""
    order: list[str] = []
    waiting = [name]
    while waiting:
        current = waiting.pop(0)
        if current not in order:
            order.append(current)
            waiting = [*by_name[current].fallbacks, *waiting]
    return order


def _nearest(key: str, *places: object) -> Any:
    """The first place that sets the key; the last one, the general settings, always does."""
    return next(value for place in places if (value := getattr(place, key, None)) is not None)


def _compile_endpoint(
    endpoint: EndpointConfig, group: GroupConfig, settings: GeneralSettings, resolution: Resolution
) -> Endpoint:
    params = endpoint.params
    missing = resolution.missing.get(endpoint.name, ())
    provider = None if missing else build_provider(params, endpoint.model, endpoint.name)
    places = (endpoint, group, settings)
    return Endpoint(
        id=_digest(endpoint.name, endpoint.model, params.base_url),
        name=endpoint.name,
        group=group.model_group,
        model=endpoint.model,
        weight=endpoint.weight,
        enabled=endpoint.enabled,
        missing=missing,
        trouble=resolution.trouble(endpoint.name),
        base_url=params.base_url,
        provider=provider,
        account=_digest(provider.origin.authority, params.api_key or "") if provider else "",
        timeouts=Timeouts(
            connect_s=_nearest("connect_timeout", *places),
            http_s=_nearest("http_timeout", *places),
            first_event_s=_nearest("first_event_timeout", *places),
            idle_s=_nearest("idle_timeout", *places),
            stream_s=_nearest("stream_timeout", *places),
        ),
        allowed_fails=_nearest("allowed_fails", *places),
        cooldown_s=_nearest("cooldown_time", *places),
        max_connections=settings.http_max_connections,
        max_answer_bytes=settings.max_response_bytes,
        proxied=params.transport == "httpx",
        asks_usage=_asks_usage(params),
        price=_own_price(endpoint.price),
        api_key=params.api_key,
        model_json=msgspec.json.encode(endpoint.model),
        name_header=(b"x-llmproxy-endpoint", header_safe(endpoint.name)),
        targets=MappingProxyType(_fixed_targets(provider)),
    )


def _asks_usage(params: Params) -> bool:
    return params.ask_usage == "always" or (params.ask_usage == "auto" and tells_usage(params))


def _own_price(price: PriceConfig) -> Price | None:
    return None if price.input is None else Price(price.input, price.output, price.cached_input)


def _fixed_targets(provider: Provider | None) -> dict[str, Target]:
    if provider is None:
        return {}
    return {operation: provider.target("POST", operation) for operation in FIXED_OPERATIONS}


def _digest(*parts: str) -> str:
    return hashlib.blake2s("\0".join(parts).encode(), digest_size=8).hexdigest()


def header_safe(text: str) -> bytes:
    """A header value for any text: visible ASCII as it is, everything else percent-encoded."""
    return quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~").encode("ascii")
