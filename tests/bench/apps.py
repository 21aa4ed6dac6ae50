"""The servers that the gateway is compared with, on the very uvicorn it runs on.

`empty` answers from memory, with the bytes the mock would give, on uvicorn's own protocol (the gateway's joins writes). `proxy` is the least a proxy can do with our client: it
forwards the body and passes the answer on, and parses, chooses, checks and counts nothing. `switched` is the gateway,
whose book-keeping ends with SIGUSR1 and begins again with SIGUSR2.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from llmproxy_site.server import bound_socket, serve_on
from routing.upstream.fast import FastUpstream
from routing.upstream.transport import Limits, Origin, Target
from tests.bench.workload import INTERVAL_MS, PATH

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class App:
    """ASGI: the lifespan, and a request whose path begins with the kind of answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await self.answer(scope["path"].split("/", 2)[1], body, send)

    async def answer(self, kind: str, body: bytes, send: Any) -> None:
        raise NotImplementedError


class Empty(App):
    """A burst is one write, a paced stream one write per event."""

    def __init__(self, whole: bytes, stream: bytes) -> None:
        self._whole, self._stream = whole, stream
        self._events = [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]

    async def answer(self, kind: str, body: bytes, send: Any) -> None:
        if kind == "paced":
            await self._play(send)
            return
        answer, headers = (self._whole, JSON) if kind == "json" else (self._stream, EVENTS)
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": answer})

    async def _play(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        loop = asyncio.get_running_loop()
        due = loop.time()
        for event in self._events:
            await asyncio.sleep(max(0.0, due - loop.time()))
            await send({"type": "http.response.body", "body": event, "more_body": True})
            due += INTERVAL_MS / 1000
        await send({"type": "http.response.body", "body": b""})


class Proxy(App):
    """One target for each kind."""

    def __init__(self, mock_port: int, paced_port: int) -> None:
        ports = {"json": mock_port, "burst": mock_port, "paced": paced_port}
        self._targets = {kind: _target(port) for kind, port in ports.items()}
        self._upstream = FastUpstream()

    async def answer(self, kind: str, body: bytes, send: Any) -> None:
        limits = Limits(5, asyncio.get_running_loop().time() + 600, 1000, 2**28)
        reply = await self._upstream.send(self._targets[kind], body, limits)
        try:
            if kind == "json":
                answer = await reply.read()
                length = (b"content-length", b"%d" % len(answer))
                await send({"type": "http.response.start", "status": reply.status, "headers": [*JSON, length]})
                await send({"type": "http.response.body", "body": answer})
                return
            await send({"type": "http.response.start", "status": reply.status, "headers": EVENTS})
            while (piece := await reply.piece()) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            reply.close()


def _target(port: int) -> Target:
    headers = ((b"content-type", b"application/json"), (b"authorization", b"Bearer sk-bench"))
    return Target("POST", Origin("http", "127.0.0.1", port), PATH, headers)


def switched() -> Any:
    """The gateway of this environment. While it is switched off, a request leaves no trace, not even a record."""
    from llmproxy_site import asgi  # sets Django up
    from routing.openai import door
    from routing.openai.entrance import RecordTakers

    async def build() -> asgi.GatewayParts:
        parts = await asgi.build_parts(asgi.settings.LLMPROXY)
        takers, record_of = parts.entrance.records, door.record_of
        counting = ("attempt_ended", "request_ended", "bypassed")  # what a JSON request without the cache calls

        def off() -> None:
            parts.entrance.records = RecordTakers()
            door.record_of = lambda *_: None
            for name in counting:
                setattr(parts.recorder, name, lambda *_, **__: None)

        def on() -> None:
            parts.entrance.records, door.record_of = takers, record_of
            for name in counting:
                vars(parts.recorder).pop(name, None)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, off)
        loop.add_signal_handler(signal.SIGUSR2, on)
        return parts

    return asgi.Application(build)


def main(name: str, port: str, *rest: str) -> None:
    """`empty PORT FILE_OF_THE_ANSWER FILE_OF_THE_STREAM`, `proxy PORT PORT_OF_THE_MOCK PORT_OF_THE_PACED_ONE` or
    `switched PORT`."""
    app: Any
    if name == "empty":
        app = Empty(*(Path(file).read_bytes() for file in rest))
    elif name == "proxy":
        app = Proxy(*map(int, rest))
    else:
        app = switched()
    listening = bound_socket("127.0.0.1", int(port))
    server = serve_on(listening, application=app)
    if name == "empty":
        server.config.http = "httptools"  # uvicorn's own protocol: the measure is uvicorn as it comes
    server.run([listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
