"""Where providers differ, as data: URL styles and authentication of OpenAI, Azure OpenAI and anything compatible.

Pure. Azure: learn.microsoft.com, "Azure OpenAI in Foundry Models API lifecycle" (dated versions have deployments
in the URL; `/openai/v1` has `preview`, `latest` or no version).
"""

import re
from dataclasses import dataclass, field
from typing import Literal, Protocol
from urllib.parse import quote, unquote, unquote_plus, urlencode, urlsplit

from routing.upstream.transport import Origin, Target

ProviderKind = Literal["openai", "azure"]

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?", re.ASCII)
_AZURE_TELLS_SINCE = "2024-09"  # its first version with `stream_options`
_DEPLOYMENTS = re.compile(r"(?P<root>.*)/openai/deployments/[^/]+")
_IN_DEPLOYMENT = frozenset({"chat/completions", "completions", "embeddings"})
_USER_AGENT = (b"user-agent", b"llmproxy")
_IDENTITY = (b"accept-encoding", b"identity")
_JSON = (b"content-type", b"application/json")


class ProviderParams(Protocol):
    """The part of an endpoint's resolved `params` that this module reads."""

    @property
    def api_key(self) -> str | None: ...
    @property
    def base_url(self) -> str: ...
    @property
    def api_version(self) -> str | None: ...
    @property
    def default_query(self) -> dict[str, str]: ...
    @property
    def default_headers(self) -> dict[str, str]: ...
    @property
    def provider(self) -> str: ...
    @property
    def ca_file(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Provider:
    """How to address one endpoint: the parts of its URLs, and headers that every request carries."""

    kind: ProviderKind
    origin: Origin
    deployment_base: str  # path before chat/completions, completions, embeddings
    plain_base: str  # path before everything else
    query: tuple[tuple[str, str], ...] = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)

    def target(self, method: str, operation: str, query: str = "") -> Target:
        """operation: path below the base, percent-encoded ("chat/completions"); query: added to the endpoint's own,
        which wins where both name a parameter."""
        base = self.deployment_base if operation in _IN_DEPLOYMENT else self.plain_base
        own = {name for name, _ in self.query}
        asked = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in own]
        joined = "&".join([*([urlencode(self.query)] if self.query else []), *asked])
        headers = (_JSON, *self.headers) if method == "POST" else self.headers
        return Target(method, self.origin, f"{base}/{operation}{'?' if joined else ''}{joined}", headers)


def detect_kind(params: ProviderParams) -> ProviderKind:
    """`provider` where it is set, else by host: Azure's all end in `.azure.com`."""
    if params.provider != "auto":
        return "azure" if params.provider == "azure" else "openai"
    host = (urlsplit(params.base_url).hostname or "").lower().rstrip(".")
    return "azure" if host.endswith(".azure.com") else "openai"


def tells_usage(params: ProviderParams) -> bool:
    """Whether the endpoint is known to accept `stream_options.include_usage` in chat streams."""
    parts = urlsplit(params.base_url)
    if detect_kind(params) == "openai":
        return (parts.hostname or "").lower().rstrip(".") == "api.openai.com"
    version = params.api_version or params.default_query.get("api-version") or ""
    if _DATED.fullmatch(version):
        return version >= _AZURE_TELLS_SINCE
    return not _DEPLOYMENTS.fullmatch(parts.path.rstrip("/"))


def build_provider(params: ProviderParams, model: str, owner: str = "") -> Provider:
    """params: resolved; model: the name sent upstream (Azure's dated versions: the deployment); owner: the endpoint."""
    parts = urlsplit(params.base_url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    origin = Origin(parts.scheme, parts.hostname or "", port, params.ca_file, owner)
    path = quote(unquote(parts.path), safe="/:@!$&'()*+,;=~-._").rstrip("/")
    kind = detect_kind(params)
    query = dict(params.default_query)
    if kind == "openai":
        if params.api_version:
            query["api-version"] = params.api_version
        base = path or "/v1"
        return Provider(kind, origin, base, base, tuple(query.items()), _headers(params, kind))
    version = params.api_version or query.get("api-version") or ""
    query.pop("api-version", None)
    deployment_base, plain_base = _azure_bases(path, version, model)
    if _DATED.fullmatch(version) or version in ("preview", "latest"):
        query["api-version"] = version
    return Provider(kind, origin, deployment_base, plain_base, tuple(query.items()), _headers(params, kind))


def _azure_bases(path: str, version: str, model: str) -> tuple[str, str]:
    if named := _DEPLOYMENTS.fullmatch(path):
        plain = f"{named['root']}/openai" if _DATED.fullmatch(version) else f"{named['root']}/openai/v1"
        return path, plain
    root = path.removesuffix("/v1") if path.endswith("/openai/v1") else path
    root = root.removesuffix("/openai")
    if _DATED.fullmatch(version):
        return f"{root}/openai/deployments/{quote(model, safe='')}", f"{root}/openai"
    return f"{root}/openai/v1", f"{root}/openai/v1"


def _headers(params: ProviderParams, kind: ProviderKind) -> tuple[tuple[bytes, bytes], ...]:
    own = {name.lower().encode("ascii"): value.encode("latin-1") for name, value in params.default_headers.items()}
    if params.api_key:
        name, value = ("api-key", params.api_key) if kind == "azure" else ("authorization", f"Bearer {params.api_key}")
        own.setdefault(name.encode("ascii"), value.encode("latin-1"))
    own.setdefault(*_USER_AGENT)
    own[_IDENTITY[0]] = _IDENTITY[1]
    own.pop(_JSON[0], None)
    return tuple(own.items())
