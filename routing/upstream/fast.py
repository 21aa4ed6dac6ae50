"""The fast client: our own HTTP/1.1 on asyncio, one pool of connections for each origin. No proxies, no redirects.

Costs about 20 us of CPU a request, httpx's own client 1,000 to 1,500; the door's speed rests on it.
"""

from collections.abc import Iterable

from routing.upstream.dial import Dialer
from routing.upstream.fields import field_lines
from routing.upstream.http1 import StaleConnection
from routing.upstream.http1_reply import Http1Reply
from routing.upstream.pool import Pool
from routing.upstream.sweeper import IDLE_EXPIRY_S, Sweeper
from routing.upstream.transport import Headers, Limits, Origin, Target

JOIN_BELOW = 64 * 1024  # bytes of body sent in one write with the head; a larger one is not copied


class FastUpstream:
    """Implements `Upstream`. Belongs to the event loop of its first request."""

    def __init__(self, idle_expiry_s: float = IDLE_EXPIRY_S) -> None:
        self._idle_expiry_s = idle_expiry_s
        self._pools: dict[Origin, Pool] = {}
        self._sweeper: Sweeper | None = None
        self._dialer = Dialer()

    @property
    def pools(self) -> Iterable[Pool]:
        return self._pools.values()

    async def send(
        self, target: Target, body: bytes, limits: Limits, extra: Headers | None = None, *, fresh: bool = False
    ) -> Http1Reply:
        head, large_body = _request(target, body, extra)
        pool = self._pools.get(target.origin)
        if pool is None:
            pool = self._open_pool(target.origin)
        while True:
            connection = pool.idle.pop() if pool.idle and not fresh else await pool.connect(limits)
            if not pool.sweeper.ticking:
                pool.sweeper.start()
            reply = connection.ask(head, large_body, limits)
            try:
                while not reply.status:
                    await reply.more()
            except StaleConnection:
                fresh = True  # its neighbours in the pool are as old
            except BaseException:
                reply.close()
                raise
            else:
                return reply

    def _open_pool(self, origin: Origin) -> Pool:
        if self._sweeper is None:
            self._sweeper = Sweeper(self.pools, self._idle_expiry_s)
        pool = self._pools[origin] = Pool(origin, self._dialer, self._sweeper)
        return pool

    async def aclose(self) -> None:
        for pool in self.pools:
            pool.close()
        if self._sweeper is not None and not self._sweeper.ticking:
            self._sweeper.stop()


def _request(target: Target, body: bytes, extra: Headers | None) -> tuple[bytes, bytes]:
    """The first write, and what of the body is not in it."""
    more = field_lines(extra) if extra else b""
    if not body and target.method != "POST":
        return b"".join((target.head, more, b"\r\n")), b""
    length = b"content-length: %d\r\n\r\n" % len(body)
    if len(body) < JOIN_BELOW:
        return b"".join((target.head, more, length, body)), b""
    return b"".join((target.head, more, length)), body
