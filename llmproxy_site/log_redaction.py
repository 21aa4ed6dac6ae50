"""Strikes secrets out of log lines: those this process knows, in every encoding, and whatever looks like one.

It works on the values of a line before they are rendered, so that no escape of the rendering hides or breaks anything.
"""

import re
from collections.abc import Iterable
from typing import Any

from routing.redaction import STRUCK_OUT, strike_out_secrets

_STRUCK = STRUCK_OUT.decode()
_LOOKS_LIKE_ONE = (
    # OpenAI's keys and those of many others; not the end of "task-force". Behind a quoted line break, too.
    (re.compile(r"(?:(?<![A-Za-z])|(?<=\\[nrt]))sk-[A-Za-z0-9_-]{8,}"), _STRUCK),
    (re.compile(r"\b(?i:(bearer|basic))(\s+|%20|\+)(?=[^\s\"']*[0-9A-Z=])[\w.~+/=%-]{8,}"), rf"\1 {_STRUCK}"),
    (re.compile(r"(?<=://)[^\s\"'<>/?#]+@"), f"{_STRUCK}@"),
    (re.compile(r"(?<=[\w/.~%-])\?[\w%&=.~\[-][^\s\"'<>]*"), f"?{_STRUCK}"),  # the query of a URL
)


class KnownSecrets:
    """Learns and never forgets: requests that began before a key was replaced still use the old one."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()

    def learn(self, secrets: Iterable[str]) -> None:
        self._secrets |= frozenset(secrets)

    def struck_out(self, text: str) -> str:
        """`text` without anything that is a secret or looks like one."""
        text = self.known_struck_out(text)
        for pattern, instead in _LOOKS_LIKE_ONE:
            text = pattern.sub(instead, text)
        return text

    def known_struck_out(self, text: str) -> str:
        """`text` without the secrets of this process."""
        if not self._secrets:
            return text
        struck = strike_out_secrets(text.encode("utf-8", "surrogatepass"), self._secrets)
        return struck.decode("utf-8", "surrogatepass")

    def __call__(self, _logger: object, _method: str, event: Any) -> Any:
        """A processor of structlog."""
        return self._clean(event)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.struck_out(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, dict):
            return {self._clean(name): self._clean(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._clean(inner) for inner in value]
        return self.struck_out(repr(value))


known_secrets = KnownSecrets()  # one per process, as logging is
