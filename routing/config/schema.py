"""The configuration as one frozen value: what YAML, admin, revisions and workers agree on.

Any value may be a reference, kept as its text until `references.resolve` puts the real one in; only then do the types
below hold without exception. Knows no Django, no files, no environment.
"""

import hashlib
import re
from collections.abc import Collection
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from routing.config import consistency, values
from routing.config.references import kind_of
from routing.config.wording import Place, Problem, suggestion

OPENAI_URL = "https://api.openai.com/v1"
STRUCTURE = frozenset({"model_groups", "general_settings", "models", "params", "price", "cache_params", "fallbacks",
                       "default_query", "default_headers"})  # fmt: skip
CREDENTIALS = frozenset({"api_key", "redis_password", "redis_url", "password"})


class Section(BaseModel):
    """A part of the configuration. Unknown keys are refused, references kept, and an empty structure is its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_structure(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in STRUCTURE}

    @field_validator("*", mode="wrap")
    @classmethod
    def _reference(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if value == "" and cls.model_fields[name].default is None:
            return None
        if name in STRUCTURE or kind_of(value) is None:
            return handler(value)
        return values.reference(value, stored=name in CREDENTIALS)

    def plain(self, *, without_defaults: bool = False) -> dict[str, Any]:
        """The section as dicts, lists and scalars that JSON can hold."""
        return self.model_dump(mode="json", exclude_defaults=without_defaults, warnings=False)


class Params(Section):
    """Where an endpoint is and how it is spoken to."""

    api_key: values.Credential | None = None
    base_url: values.WebUrl = OPENAI_URL
    api_version: values.ApiVersion | None = None
    default_query: values.Query = {}
    default_headers: values.Headers = {}
    provider: Literal["auto", "openai", "azure"] = "auto"
    ask_usage: Literal["auto", "always", "never"] = "auto"
    ca_file: values.Text | None = None
    transport: Literal["auto", "fast", "httpx"] = "auto"


class PriceConfig(Section):
    """US dollars per million tokens. Without `input` there is no price; the others stand only beside it."""

    input: values.Dollars | None = None
    output: values.Dollars | None = None
    cached_input: values.Dollars | None = None


class Timeouts(Section):
    """Seconds. None: what the next wider level says."""

    connect_timeout: values.Timeout | None = None
    http_timeout: values.Timeout | None = None
    first_event_timeout: values.Timeout | None = None
    idle_timeout: values.Timeout | None = None
    stream_timeout: values.Timeout | None = None


class EndpointConfig(Timeouts):
    """One upstream deployment. `name` is unique over all groups, and never empty in a Configuration."""

    name: values.EndpointName = ""
    model: values.Name
    weight: values.Weight = 1
    enabled: bool = True
    rpm: values.Positive | None = None
    tpm: values.Positive | None = None
    max_parallel: values.Positive | None = None
    price: PriceConfig = PriceConfig()
    params: Params = Params()


class GroupConfig(Timeouts):
    """What clients call a model: endpoints that serve it, and how to choose among them."""

    model_group: values.Name
    strategy: Literal["weighted_round_robin", "least_busy", "lowest_latency"] = "weighted_round_robin"
    fallbacks: list[values.NameItem] = []
    stream_recovery: Literal["error", "buffer"] = "error"
    cache: bool = True
    cache_ttl: values.Positive | None = None
    cache_policy: Literal["all", "deterministic"] = "all"
    cache_shared: bool = False
    num_retries: values.Retries | None = None
    allowed_fails: values.Whole | None = None
    cooldown_time: values.Seconds | None = None
    models: list[EndpointConfig] = []


class CacheParams(Section):
    """The cache's own store settings; None: the general Redis settings."""

    type: Literal["redis"] = "redis"
    ttl: values.Positive = 604_800
    namespace: values.Name = "llmproxy.cache"
    host: values.Name | None = None
    port: values.StorePort | None = None
    password: values.Text | None = None
    max_entry_bytes: values.PositiveBig = 67_108_864


class GeneralSettings(Section):
    """Everything that is not about one group or endpoint. Times in seconds."""

    bind_address: values.Name = "127.0.0.1"
    bind_port: values.Port = 4243
    num_retries: values.Retries = 3
    allowed_fails: values.Whole = 1
    cooldown_time: values.Seconds = 60
    connect_timeout: values.Timeout = 5
    http_timeout: values.Timeout = 600
    first_event_timeout: values.Timeout = 60
    idle_timeout: values.Timeout = 300
    stream_timeout: values.Timeout = 3600
    http_max_connections: values.Positive = 1000
    max_request_body_bytes: values.PositiveBig = 33_554_432
    max_response_bytes: values.PositiveBig = 268_435_456
    max_in_flight: values.Positive = 2000
    redis_url: values.StoreUrl | None = None
    redis_host: values.Name | None = None
    redis_port: values.StorePort = 6379
    redis_password: values.Text | None = None
    redis_ssl: bool = False
    redis_ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    cache: bool = True
    cache_params: CacheParams = CacheParams()
    response_affinity_ttl: values.Positive = 21_600
    client_auth: Literal["auto", "required", "off"] = "auto"


class Configuration(Section):
    """The whole. After validation every endpoint has a name."""

    model_groups: list[GroupConfig] = []
    general_settings: GeneralSettings = GeneralSettings()

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, data: Any, handler: ModelWrapValidatorHandler["Configuration"]) -> "Configuration":
        configuration = handler(data)
        if all(endpoint.name for group in configuration.model_groups for endpoint in group.models):
            return configuration
        return configuration.model_copy(update={"model_groups": _with_names(configuration.model_groups)})


def default_name(endpoint: EndpointConfig) -> str:
    """The name of an endpoint that was given none."""
    return free_name(endpoint.model, endpoint.params.base_url, ())


def free_name(model: str, base_url: str, taken: Collection[str]) -> str:
    """The model, and a digest that tells hosts apart; with a number where that is taken."""
    digest = hashlib.sha256(base_url.rstrip("/").encode()).hexdigest()[:6]
    readable = re.sub(r"[^\x21-\x7e]+", "-", model.removeprefix(kind_of(model) or ""))
    name = first = f"{readable[: values.MAX_NAME - 20]}-{digest}"
    number = 2
    while name in taken:
        name = f"{first}-{number}"
        number += 1
    return name


def _with_names(groups: list[GroupConfig]) -> list[GroupConfig]:
    taken = {endpoint.name for group in groups for endpoint in group.models}
    named = []
    for group in groups:
        models = [with_name(endpoint, taken) for endpoint in group.models]
        named.append(group.model_copy(update={"models": models}))
    return named


def with_name(endpoint: EndpointConfig, taken: set[str]) -> EndpointConfig:
    """The endpoint with a name that is not taken; `taken` learns it."""
    if endpoint.name:
        return endpoint
    name = free_name(endpoint.model, endpoint.params.base_url, taken)
    taken.add(name)
    return endpoint.model_copy(update={"name": name})


def key_hint(place: Place) -> str:
    """What an unknown key at a place was probably meant to be, or where it belongs."""
    section = _section_at(place[:-1])
    key = str(place[-1])
    if section is None:
        return ""
    below = next(
        (name for name, part in _PARTS.items() if name in section.model_fields and key in part.model_fields), None
    )
    return f", it belongs into {below}" if below else suggestion(key, section.model_fields)


_PARTS: dict[str, type[Section]] = {
    "model_groups": GroupConfig, "models": EndpointConfig, "params": Params, "price": PriceConfig,
    "general_settings": GeneralSettings, "cache_params": CacheParams,
}  # fmt: skip


def _section_at(place: Place) -> type[Section] | None:
    """The section whose keys stand at a place; none inside a mapping of free names."""
    names = [part for part in place if isinstance(part, str)]
    if not names:
        return Configuration
    return _PARTS.get(names[-1])


def problems(configuration: Configuration) -> list[Problem]:
    """What is wrong between the parts: double names, unknown fallbacks, loops."""
    return consistency.cross_check(configuration.plain())
