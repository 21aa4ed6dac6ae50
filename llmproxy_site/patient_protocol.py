"""uvicorn's HTTP/1.1 protocol with the limits that it lacks: on a request's head, and on clients that never read.

A head may have 64 KiB and take 15 s. A client that takes nothing of what waits for it is cut off after five minutes.
One timer watches an idle connection, where uvicorn makes one after each answer: 2 us.
"""

import asyncio

from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

LONGEST_HEAD = 65_536  # bytes of request line and headers
_HEAD_S = 15.0
_STALLED_S = 300.0  # longer than any pause of a client that lives; nginx gives up after one minute
_PIECE = 16_384  # bytes looked at together where more come than a head may have
_REFUSAL = b"Request head larger than 64 KiB."


class PatientProtocol(HttpToolsProtocol):
    """Costs a request whose head comes in one piece two comparisons and a look-up (0.3 us)."""

    _head_size = 0  # bytes that have come of a head that is not complete
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0  # loop time
    _answering: RequestResponseCycle | None = None  # uvicorn knows the newest request only, which may wait behind it

    def data_received(self, data: bytes) -> None:
        if self._head_size or len(data) > LONGEST_HEAD:
            self._receive_in_pieces(data)
            return
        super().data_received(data)
        scope: HTTPScope | None = self.scope
        if scope is None or "method" not in scope:  # `_has_head`, without the 0.2 us of a call
            self._head_goes_on(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_over()
        self._stop_write_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        answering = self._answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    # -- idle connections

    def _unset_keepalive_if_required(self) -> None:
        """The timer runs on."""

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self not in self.connections:  # it has become a websocket
            return
        if self._head_size or not self.cycle.response_complete:
            return  # the next answer's end begins anew
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._watch_idleness(left)
        else:
            self.transport.close()

    def _watch_idleness(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    # -- heads

    def _has_head(self) -> bool:
        """Whether the newest request's head is complete; uvicorn fills in the method then."""
        scope: HTTPScope | None = self.scope
        return scope is not None and "method" in scope

    def _receive_in_pieces(self, data: bytes) -> None:
        """Never shows the parser more of a head than it may have."""
        at = 0
        while at < len(data) and self in self.connections and not self.transport.is_closing():
            room = LONGEST_HEAD - self._head_size
            if room <= 0:
                self._refuse_head()
                return
            piece = data[at : at + min(_PIECE, room)]
            at += len(piece)
            before = self.scope
            super().data_received(piece)
            if before is not self.scope or self._has_head():
                self._head_is_over()
            if not self._has_head():
                self._head_goes_on(len(piece))

    def _head_goes_on(self, size: int) -> None:
        if self.transport.is_closing():
            return
        if self._head_size == 0 and self.cycle is not None and not self.cycle.response_complete:
            size = 1  # a pipelined request: most of what came may be of the one before
        self._head_size += size
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_S, self._head_too_slow)

    def _head_is_over(self) -> None:
        self._head_size = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # The answer before it is under way, and reading may be paused by ourselves.
            self._head_timer = self.loop.call_later(_HEAD_S, self._head_too_slow)
        else:
            self.transport.close()

    def _refuse_head(self) -> None:
        """431, in the way in which uvicorn answers what is no HTTP."""
        self._head_is_over()
        if self.cycle is None or self.cycle.response_complete:  # else it would stand in the midst of another answer
            lines = (
                b"content-type: text/plain; charset=utf-8",
                b"content-length: %d" % len(_REFUSAL),
                b"connection: close",
                b"",
                _REFUSAL,
            )
            self.transport.write(STATUS_LINE[431] + b"\r\n".join(lines))
        self.transport.close()

    # -- clients that do not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def shutdown(self) -> None:
        super().shutdown()
        if self._write_timer is None and self.transport.get_write_buffer_size():
            self._watch_writing()  # too little for `pause_writing`, but enough to keep a server from its end

    def _watch_writing(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(_STALLED_S, self._look_at_writing, waiting)

    def _look_at_writing(self, waiting: int) -> None:
        if self.transport.get_write_buffer_size() >= waiting:
            self.transport.abort()
        else:
            self._watch_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
