"""What is a secret among headers, query parameters and URLs: by its name, or by how it begins. Pure."""

import re
from urllib.parse import parse_qsl, urlsplit

from routing.config.references import kind_of

_NAME = re.compile(r"auth|key|token|secret|passw|credential|cookie|signature|^(?:sig|code)$", re.IGNORECASE)
_SCHEME = re.compile(r"(?:bearer|basic)\s", re.IGNORECASE)


def is_secret(name: str, value: object) -> bool:
    """Whether a header or a query parameter with this name holds a secret. References are none."""
    if not isinstance(value, str) or not value or kind_of(value) is not None:
        return False
    return _NAME.search(name) is not None or _SCHEME.match(value) is not None


def has_password(url: str) -> bool:
    """Whether a store's URL holds a password, before the host or as a parameter. In doubt it does."""
    if kind_of(url) is not None:
        return False
    try:
        query = urlsplit(url).query
    except ValueError:
        return True
    return "@" in url or any("passw" in name.lower() for name, _ in parse_qsl(query, keep_blank_values=True))
