"""Strikes known secrets out of text, in the encodings in which upstreams and log lines may quote them."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from routing.config.secrecy import is_secret

if TYPE_CHECKING:  # every process that logs imports this, before it knows what it is for
    from routing.config.schema import GeneralSettings
    from routing.config.table import Endpoint, RoutingTable

STRUCK_OUT = b"[redacted]"
_SHORTEST = 8  # characters; a shorter "secret" would strike out ordinary words
_PERCENT = re.compile(r"%[0-9A-F]{2}")


def strike_out(text: bytes, table: "RoutingTable") -> bytes:
    """`text` without any endpoint's key, also where the key is one of its own headers or stands in its query."""
    return strike_out_secrets(text, {secret for endpoint in table.endpoints.values() for secret in _secrets(endpoint)})


def strike_out_secrets(text: bytes, secrets: Iterable[str]) -> bytes:
    """`text` without these, in whatever encoding."""
    for secret in sorted(secrets, key=len, reverse=True):
        for form in _forms(secret):
            text = text.replace(form, STRUCK_OUT)
    return text


def secrets_of(table: "RoutingTable") -> set[str]:
    """Every endpoint's, and the passwords of the stores."""
    secrets = {secret for endpoint in table.endpoints.values() for secret in _secrets(endpoint)}
    return secrets.union(_store_passwords(table.settings))


def password_in(url: str) -> str:
    """What stands before the host of a URL, as it is without percent signs; empty: nothing."""
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""


def _store_passwords(settings: "GeneralSettings") -> Iterator[str]:
    for password in (settings.redis_password, settings.cache_params.password, password_in(settings.redis_url or "")):
        if password:
            yield password


def _secrets(endpoint: "Endpoint") -> Iterator[str]:
    if endpoint.api_key:
        yield endpoint.api_key
    if endpoint.provider is not None:
        named = [(name.decode(), value.decode("latin-1")) for name, value in endpoint.provider.headers]
        for name, value in (*named, *endpoint.provider.query):
            if value.strip() and is_secret(name, value):
                yield value.split()[-1]  # without the scheme, such as "Bearer"


@lru_cache(maxsize=4096)
def _forms(secret: str) -> tuple[bytes, ...]:
    if len(secret) < _SHORTEST:
        return ()
    as_json = json.dumps(secret)[1:-1]
    in_url = quote(secret, safe="")
    forms = {
        secret, as_json, json.dumps(secret, ensure_ascii=False)[1:-1], as_json.replace("/", "\\/"),
        json.dumps(as_json)[1:-1], in_url, quote(secret), _PERCENT.sub(lambda found: found[0].lower(), in_url),
        html.escape(secret), repr(secret)[1:-1], secret.encode().hex(), secret.encode().hex().upper(),
        *_inside_base64(secret.encode()),
    }  # fmt: skip
    return tuple(sorted((form.encode() for form in forms), key=len, reverse=True))


def _inside_base64(secret: bytes) -> Iterator[str]:
    """What base64 shows of it wherever it begins: the characters that depend on the secret alone."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret).decode()
        inside = whole[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield inside
        yield inside.replace("+", "-").replace("/", "_")
