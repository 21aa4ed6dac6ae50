"""Clients that send requests of every kind, each in the way of its kind, and write down what they saw."""

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from typing import Self

from tests.fakes.load import Client
from tests.fakes.nonce import chat_body, new_nonce, question
from tests.fakes.two_books import AGAIN, Clients, Upstreams

STEADY, SHAKY = "steady", "shaky"  # model groups; what goes to the second may find its endpoints cooled

# How often each kind comes, of 100 turns; a turn is one request, two with "kept" and three with "together".
_TURNS = {"fine": 40, "kept": 8, "together": 4, "refused": 6, "unprocessable": 2, "limited": 2, "unauthorized": 2,
          "down": 3, "broken": 5, "left before": 4, "left amid": 4, "garbage": 4, "unknown": 4,
          **dict.fromkeys(AGAIN, 2)}  # fmt: skip
_SHAKEN = {"limited", "unauthorized", "down", "again 429"}
_CHAT = "/chat/completions"
_ROUTES = (_CHAT, _CHAT, _CHAT, "/responses", "/embeddings")


def turns(seed: int = 7) -> Callable[[], str]:
    """Draws the kind of the next turn."""
    rng, kinds, weights = random.Random(seed), list(_TURNS), list(_TURNS.values())
    return lambda: rng.choices(kinds, weights)[0]


class MixedClient:
    """One connection, and two more for what is asked at the same time."""

    def __init__(self, url: str, upstreams: Upstreams, book: Clients, rng: random.Random) -> None:
        self._clients = [Client(url) for _ in range(3)]
        self._upstreams = upstreams
        self._book = book
        self._rng = rng

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.__aexit__()

    async def take(self, kind: str) -> int:
        """One turn; how many requests it was."""
        if kind == "kept":
            path, body, stream = self._asked("fine")
            for _ in range(2):
                await self._ask(0, path, body, stream)
            return 2
        if kind == "together":
            path, body, stream = self._asked("slow")
            await asyncio.gather(*(self._ask(number, path, body, stream) for number in range(3)))
            return 3
        if kind in ("left before", "left amid"):
            await self._leave(amid=kind == "left amid")
        elif kind == "garbage":
            await self._ask(0, _CHAT, b'{"model": "steady", "messages": [', False)
        elif kind == "unknown":
            await self._ask(0, _CHAT, chat_body(new_nonce(), model="no such model"), False)
        else:
            await self._ask(0, *self._asked(kind))
        return 1

    def _asked(self, kind: str) -> tuple[str, bytes, bool]:
        """Path, body, and whether it is a stream."""
        path, nonce = _CHAT if kind == "broken" else self._rng.choice(_ROUTES), new_nonce()
        stream = kind == "broken" or (path != "/embeddings" and self._rng.random() < 0.5)
        model = SHAKY if kind in _SHAKEN else STEADY
        if path == _CHAT:
            more = {"stream_options": {"include_usage": True}} if stream and self._rng.random() < 0.5 else {}
            return path, chat_body(nonce, model=model, stream=stream, user=kind, **more), stream
        body = {"model": model, "input": question(nonce), "user": kind} | ({"stream": True} if stream else {})
        return path, json.dumps(body).encode(), stream

    async def _ask(self, number: int, path: str, body: bytes, stream: bool) -> None:
        async with asyncio.timeout(30):
            self._book.got(await self._clients[number].post(path, body), stream)

    async def _leave(self, *, amid: bool) -> None:
        """Goes when the upstream has been asked, so that both know of the attempt."""
        client, nonce, stream = self._clients[0], new_nonce(), amid or self._rng.random() < 0.5
        body = chat_body(nonce, model=STEADY, stream=stream, user="left amid" if amid else "left before")
        async with asyncio.timeout(30):
            await client.start("POST", _CHAT, body)
            if amid:
                await client.piece(await client.head())
            while not self._upstreams.asked[nonce]:  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.005)
        client.close()
        self._book.left()


async def mixed_load(url: str, upstreams: Upstreams, book: Clients, requests: int, clients: int = 30) -> None:
    """About so many requests; `book.total` says how many. url: with /v1."""
    draw, sent = turns(), itertools.count()

    async def one(number: int) -> None:
        async with MixedClient(url, upstreams, book, random.Random(number)) as mixed:
            while next(sent) < requests * 0.87:  # turns
                await mixed.take(draw())

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(one(number))


class _Loyal(Client):
    """Stays with the worker that accepted its connection."""

    async def start(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        if self._reader and self._writer and (self._reader.at_eof() or self._writer.is_closing()):
            raise ConnectionResetError
        await super().start(method, path, body, headers)


async def steady_load(
    url: str, book: Clients, running: Callable[[], bool], *, clients: int = 10, every_s: float
) -> int:
    """Plain requests, one each `every_s` seconds from each client, while `running()`. Returns how many
    clients ended before, because their connection did."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> int:
        async with _Loyal(url) as client:
            while running():
                stream = number % 2 == 1
                body = chat_body(new_nonce(), model=STEADY, stream=stream, user="fine")
                try:
                    async with asyncio.timeout(30):
                        got = await client.post(_CHAT, body)
                except (OSError, asyncio.IncompleteReadError):
                    return 1
                book.got(got, stream)
                book.ended.append((loop.time(), number))
                await asyncio.sleep(every_s)
        return 0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(clients)]
    return sum(task.result() for task in tasks)
