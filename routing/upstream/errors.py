"""What can go wrong on the way to an upstream and back. httpx's and asyncio's errors become these and nothing else.

    UpstreamError
    ├── ConnectFailed        refused, unreachable, DNS, TLS, or no connection within connect_timeout
    ├── PoolFull             all connections to this endpoint are in use
    ├── ConnectionReset      the connection broke before the answer's head was complete
    ├── AnswerBroken         not HTTP, cut short, or encoded though it was not asked for
    ├── AnswerTooLarge       more than max_response_bytes
    └── UpstreamTimeout      no progress or no end within a deadline

Messages name a class of trouble, never an upstream's URL, text or header.
"""

CONNECT_TIMEOUT = "connect timeout"  # the message of the ConnectFailed that means it


class UpstreamError(Exception):
    """The attempt gave no usable answer."""


class ConnectFailed(UpstreamError):
    """No connection: nothing was sent, so any request may safely go elsewhere."""


class PoolFull(UpstreamError):
    """`http_max_connections` connections to the endpoint are in use in this worker; not the endpoint's failure."""


class ConnectionReset(UpstreamError):
    """The connection ended before the head of the answer was complete; the request may have been read."""


class AnswerBroken(UpstreamError):
    """The answer breaks HTTP, ends before its announced end, or carries a content-encoding nobody asked for."""


class AnswerTooLarge(UpstreamError):
    """The answer's body is larger than the limit."""


class UpstreamTimeout(UpstreamError):
    """A deadline passed; `phase` is "head", "idle" or "total"."""

    def __init__(self, phase: str) -> None:
        super().__init__(f"{phase} timeout")
        self.phase = phase
