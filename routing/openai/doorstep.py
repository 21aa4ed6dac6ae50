"""What is checked before a request's body is read: is it from a page on another site, is it JSON, how is it called.

Pure. Without client keys everything that reaches the port may spend the upstream keys; a web page in the operator's own
browser reaches loopback, so a foreign Origin or Host (DNS rebinding) is refused there.
"""

import itertools
import re
import uuid
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from routing.errors import Forbidden, NotJson
from routing.upstream.transport import Headers

_PROCESS = b"req_" + uuid.uuid4().hex[:24].encode("ascii")  # unique with a number behind it; a UUID each costs 4 us
_PROCESS_TEXT = _PROCESS.decode("ascii")
_numbers = itertools.count()
_VISIBLE = re.compile(rb"[\x21-\x7e]{1,128}")
_PASSED_UPSTREAM = (b"openai-beta", b"x-client-request-id", b"traceparent", b"tracestate", b"accept")
_SAFE_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LONGEST_VALUE = 4096


def request_id(headers: Mapping[bytes, bytes]) -> bytes:
    """The client's own if it is 1 to 128 visible ASCII characters, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _VISIBLE.fullmatch(given):
        return given
    return b"%b%08x" % (_PROCESS, next(_numbers))


def made_here(given: str) -> bool:
    """Whether the request id is one of this process, and no client's words."""
    return given.startswith(_PROCESS_TEXT)


def for_upstream(headers: Mapping[bytes, bytes]) -> Headers | None:
    """The client's headers that go upstream; nothing else of the client's head does."""
    kept = None
    for name in _PASSED_UPSTREAM:
        value = headers.get(name)
        if value is not None and len(value) <= _LONGEST_VALUE and _SAFE_VALUE.fullmatch(value):
            kept = kept or []
            kept.append((name, value))
    return kept


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raises NotJson. A page on another site cannot send this content type without being asked about first (CORS)."""
    given = headers.get(b"content-type", b"")
    if given == b"application/json":
        return
    kind = given.split(b";", 1)[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise NotJson("Send the body as JSON, with the header `Content-Type: application/json`.")


class Neighbourhood:
    """Which Host and Origin a loopback gateway without client keys answers to. Remembers what it has judged."""

    def __init__(self, allowed_hosts: Iterable[str]) -> None:
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._anything = "*" in self._allowed
        self._good: set[bytes] = set()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Forbidden."""
        host = headers.get(b"host", b"")
        if host not in self._good:
            self._judge(host, "Host", "//" + host.decode("latin-1"))
        origin = headers.get(b"origin")
        if origin is not None and origin not in self._good:
            self._judge(origin, "Origin", origin.decode("latin-1"))

    def _judge(self, value: bytes, header: str, url: str) -> None:
        try:
            name = (urlsplit(url).hostname or "").lower()
        except ValueError:
            name = ""
        near = name in ("localhost", "127.0.0.1", "::1") or name.endswith(".localhost")
        if not (near or self._anything or name in self._allowed):
            raise Forbidden(
                f"This gateway has no client keys and answers to its own machine only; the {header} header names "
                "another one. Add the name to LLMPROXY_ALLOWED_HOSTS if it is yours.",
            )
        if len(self._good) < 100:
            self._good.add(value)


def is_loopback(address: str) -> bool:
    """address: the one at which a connection arrived."""
    return address.startswith("127.") or address in ("::1", "localhost", "::ffff:127.0.0.1")
