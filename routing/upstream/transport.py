"""The protocol between the gateway and whatever carries a request upstream: send a request, get a head and a body.

Two implementations: `fast` (our own, called directly) and `httpx_transport` (endpoints behind a proxy, probes, the
reference in differential tests). Whoever gets a `Reply` closes it; closing frees the connection, however it ended.
"""

from dataclasses import dataclass, field
from typing import Protocol

from routing.upstream.fields import field_lines, refuse_unsafe_target

Headers = list[tuple[bytes, bytes]]  # names in lower case, in the order of the wire


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; one pool of connections belongs to one origin of one endpoint."""

    scheme: str  # "http" or "https"
    host: str  # as in a URL, without brackets for IPv6
    port: int
    ca_file: str | None = None  # PEM bundle to trust instead of the system's
    owner: str = ""  # the endpoint: two that share a host do not share connections, nor the limit on them
    _hash: int = field(init=False, repr=False, compare=False)  # each request looks its pool up: 0.5 us to make it anew

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.scheme, self.host, self.port, self.ca_file, self.owner)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def authority(self) -> str:
        """The Host header's value: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL of one endpoint with the headers that never change, built once when the routing table is compiled.

    Raises ValueError if a header, the path or the host could break the request's head.
    """

    method: str
    origin: Origin
    path: str  # with the query, percent-encoded: what stands in the request line
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)  # without host, content-length and connection
    head: bytes = field(init=False, repr=False)  # request line and headers, each line with CR LF, no empty line

    def __post_init__(self) -> None:
        refuse_unsafe_target(self.method, self.path, self.origin.authority)
        line = f"{self.method} {self.path} HTTP/1.1\r\nhost: {self.origin.authority}\r\n".encode("ascii")
        object.__setattr__(self, "head", line + field_lines(self.headers))


@dataclass(slots=True)
class Limits:
    """Limits of one attempt. Times in seconds; `deadline` on the event loop's clock."""

    connect_timeout_s: float
    deadline: float  # for the head of the answer; `Reply.deadline` starts with it
    max_connections: int
    max_body_bytes: int


class Reply(Protocol):
    """An answer whose head has come. The body is read once: by `read` or piece by piece."""

    status: int
    headers: Headers
    deadline: float  # loop time after which reading raises UpstreamTimeout("total"); may be moved at any time
    idle_timeout_s: float | None  # longest time between two reads of any byte, else UpstreamTimeout("idle")

    async def read(self) -> bytes:
        """The whole body. Raises AnswerBroken, AnswerTooLarge, UpstreamTimeout."""
        ...

    async def piece(self) -> bytes | None:
        """What has come since the last call, at least one byte; None at the end. Raises like `read`."""
        ...

    def close(self) -> None:
        """Idempotent. Gives the connection back if the answer was read to its end, else closes it at once."""
        ...


class Upstream(Protocol):
    """Carries requests to endpoints."""

    async def send(
        self, target: Target, body: bytes, limits: Limits, extra: Headers | None = None, *, fresh: bool = False
    ) -> Reply:
        """Sends and returns when the head is there. Cancelling it closes the connection.

        extra: headers of this request alone; a value that would break a header raises ValueError.
        fresh: use a new connection, for requests that must not run twice. Otherwise a pooled connection that turns out
        to be closed before one byte of answer is replaced unseen, once.
        Raises ConnectFailed, PoolFull, ConnectionReset, AnswerBroken, UpstreamTimeout("head").
        """
        ...

    async def aclose(self) -> None:
        """Closes all idle connections; replies in use end on their own."""
        ...
