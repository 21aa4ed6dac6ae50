"""A load client that verifies every answer to the last byte; raw HTTP/1.1, so that it costs little beside the gateway."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from tests.fakes.nonce import chat_body, new_nonce, problem


@dataclass
class Got:
    """An answer as it came over the wire; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float = 0
    first_byte_s: float = 0
    verdict: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer that must be one in OpenAI's shape."""
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error

    @property
    def data(self) -> list[str]:
        """The data of each event of a stream."""
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]


class Client:
    """One keep-alive connection; `await client.post(...)` one after the other."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname and parts.port
        self.host, self.port, self.prefix = parts.hostname, parts.port, parts.path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.sleep(0)  # the socket is closed in the loop's next turn

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._reader = self._writer = None

    async def start(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Sends a request without waiting for its answer."""
        if self._writer is None or self._writer.is_closing() or (self._reader and self._reader.at_eof()):
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port, limit=2**20)
        fields = {"host": f"{self.host}:{self.port}", "content-length": str(len(body))}
        if body:
            fields["content-type"] = "application/json"
        fields |= headers or {}
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode() + body)

    async def head(self) -> Got:
        assert self._reader is not None
        raw = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Got(int(first.split(" ")[1]), headers, b"")

    async def piece(self, got: Got) -> bytes:
        """The next chunk of a chunked answer; empty at its end."""
        assert self._reader is not None
        size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def finish(self, got: Got) -> Got:
        assert self._reader is not None
        if "content-length" in got.headers:
            got.body = await self._reader.readexactly(int(got.headers["content-length"]))
        elif got.headers.get("transfer-encoding") == "chunked":
            while piece := await self.piece(got):
                got.body += piece
        elif got.status not in (204, 304):
            got.body = await self._reader.read(-1)
        if got.headers.get("connection") == "close":
            self.close()
        return got

    async def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Got:
        """A broken connection, also in the middle of a chunked answer, raises."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await self.start(method, path, body, headers)
        got = await self.head()
        got.first_byte_s = loop.time() - begin
        await self.finish(got)
        got.seconds = loop.time() - begin
        return got

    async def post(self, path: str, body: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> Got:
        return await self.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Got:
        return await self.request("GET", path, headers=headers)


def text_of(got: Got, *, stream: bool) -> str:
    """The words of a chat answer; a stream must be complete to its [DONE]."""
    if not stream:
        return str(got.json["choices"][0]["message"]["content"])
    data = got.data
    if not data or data[-1] != "[DONE]":
        raise ValueError("no [DONE]: " + (data[-1] if data else "empty"))
    chunks = [json.loads(one) for one in data[:-1]]
    if not any(choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices", ())):
        raise ValueError("no finish_reason")
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk.get("choices", ()))


def verdict(got: Got, nonce: str, *, stream: bool) -> str | None:
    """None for the right, whole answer, else what is wrong."""
    if got.status != 200:
        code = re.search(rb'"code": ?"?(\w+)', got.body)
        return f"status {got.status} {code[1].decode() if code else ''}"
    try:
        return problem(text_of(got, stream=stream), nonce)
    except (ValueError, LookupError, TypeError) as error:
        return f"unreadable: {error}"


@dataclass
class Load:
    """What a load came to."""

    done: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    endpoints: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(len(self.seconds) * share))]

    def count(self, got: Got, failure: str | None) -> None:
        self.done += 1
        self.seconds.append(got.seconds)
        self.endpoints[got.headers.get("x-llmproxy-endpoint", "?")] += 1
        self.attempts += int(got.headers.get("x-llmproxy-attempts", 0))
        if failure is not None:
            self.failures[failure] += 1


async def load(
    base_url: str,
    requests: int,
    *,
    clients: int = 50,
    stream_share: float = 0.5,
    model: str = "m",
    size: int = 300,
    after: Callable[[int], Awaitable[None]] | None = None,
    headers: dict[str, str] | None = None,
    result: Load | None = None,
) -> Load:
    """Sends `requests` chat requests from `clients` connections; `after(n)` is awaited when the nth answer came.

    base_url: with /v1. Which requests are streams is drawn with a fixed seed.
    """
    result, rng, left = result or Load(), random.Random(20), iter(range(requests))

    async def one_client() -> None:
        async with Client(base_url) as client:
            for _ in left:
                nonce, stream = new_nonce(), rng.random() < stream_share
                sent = chat_body(nonce, model=model, stream=stream, size=size)
                try:
                    async with asyncio.timeout(30):
                        got = await client.post("/chat/completions", sent, headers)
                except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                    client.close()
                    result.done += 1
                    result.failures[type(error).__name__] += 1
                    continue
                result.count(got, verdict(got, nonce, stream=stream))
                if after is not None:
                    await after(result.done)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(clients, requests)):
            group.create_task(one_client())
    return result
