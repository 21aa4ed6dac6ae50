"""uvicorn's answer to one request, whose head is made faster: 2 us for ten lines instead of 9.

The same bytes and the same refusals as uvicorn's; what is rare goes to uvicorn itself.
"""

from collections.abc import Awaitable, Generator
from typing import Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

_CONTROLS = bytes([*range(9), *range(10, 32), 127])  # that no value may hold; all may hold a tab
_LENGTH = b"content-length: "
_MOST_NAMES = 1000
_WITHOUT_BODY = (204, 304)


class _Sent:
    """An awaitable that need not be waited for."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_SENT = _Sent()


class QuickCycle(RequestResponseCycle):
    """Takes the place of uvicorn's."""

    def send(self, message: Any) -> Awaitable[None]:  # type: ignore[override]  # not a coroutine: a call costs 0.4 us
        if not self.response_started and message["type"] == "http.response.start" and self._send_head(message):
            return _SENT
        return super().send(message)

    def _send_head(self, message: Any) -> bool:
        """False: nothing is sent yet."""
        if self.flow.write_paused or self.disconnected or self.access_log:
            return False
        status, headers = message["status"], self.default_headers + list(message.get("headers", ()))
        lines = [STATUS_LINE[status]]
        length = _add_lines(lines, headers)
        if length is None:
            return False
        chunked = not length and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        ends = 1 + len(headers) + (not self.keep_alive) + chunked
        if len(head.translate(None, _CONTROLS)) != len(head) - 2 * ends:
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        if length:
            self.chunked_encoding, self.expected_content_length = False, int(length)
        elif chunked:
            self.chunked_encoding = True
        self.transport.write(head + b"\r\n")
        return True


def _add_lines(lines: list[bytes], headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The content length; empty: they name none. None: uvicorn shall see to them."""
    length = b""
    for name, value in headers:
        beginning = _BEGINNINGS.get(name) or _beginning(name)
        if not beginning:
            return None
        if beginning is _LENGTH:
            if length or not value.isdigit():
                return None
            length = value
        lines += (beginning, value, b"\r\n")
    return length


# Names that were looked at, and how their lines begin. Empty: uvicorn shall see to it.
_BEGINNINGS: dict[bytes, bytes] = {b"content-length": _LENGTH, b"connection": b"", b"transfer-encoding": b""}


def _beginning(name: bytes) -> bytes:
    lower = name.lower()
    if lower in _BEGINNINGS:
        return _BEGINNINGS[lower]
    if HEADER_RE.search(name):
        return b""
    if len(_BEGINNINGS) < _MOST_NAMES:
        _BEGINNINGS[name] = lower + b": "
    return lower + b": "
