"""The demo's clients: a few requests a second, so that there is something to look at."""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

_PER_SECOND = 3.0
_AWAY_S = 1.0
_SUBJECTS = ("the tides", "a good bread", "prime numbers", "the moon", "bees", "old maps", "glaciers", "lightning")
_ASKED = ("Explain {} to a child.", "Write a haiku about {}.", "What is surprising about {}?",
          "Summarise what is known about {}, in three sentences, with one example for each.")  # fmt: skip


class Asked(NamedTuple):
    """One request. events: the client leaves after so many pieces of a stream; 0: it stays."""

    path: str
    body: dict[str, Any]
    events: int = 0


def requests(rng: random.Random) -> Iterator[Asked]:
    """Without end: chats, some of them streamed or asked before, a few that go wrong in the ways of clients."""
    while True:
        question = rng.choice(_ASKED).format(rng.choice(_SUBJECTS))
        if rng.random() < 0.7:  # the others were asked before, and come from the cache
            question += f" (no. {rng.randrange(10**6)})"
        body = {
            "model": rng.choice(("demo", "demo", "demo-weighted")),
            "messages": [{"role": "user", "content": question}],
        }
        kind = rng.random()
        if kind < 0.35:
            yield Asked("chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
        elif kind < 0.36:
            yield Asked("chat/completions", {**body, "stream": True}, events=3)
        elif kind < 0.37:
            yield Asked("chat/completions", {**body, "messages": []})
        elif kind < 0.45:
            yield Asked("embeddings", {"model": "demo", "input": question})
        else:
            yield Asked("chat/completions", body)


async def visit(host: str, port: int, rng: random.Random) -> None:
    """Until it is cancelled; waits while nothing listens."""
    async with asyncio.TaskGroup() as clients:
        for asked in requests(rng):
            await asyncio.sleep(rng.expovariate(_PER_SECOND))
            clients.create_task(_ask(host, port, asked))


async def _ask(host: str, port: int, asked: Asked) -> None:
    body = json.dumps(asked.body).encode()
    head = f"POST /v1/{asked.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode() + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        pieces = 0
        while await reader.read(65_536) and (pieces := pieces + 1) != asked.events:
            pass
        writer.close()
    except OSError:
        await asyncio.sleep(_AWAY_S)
