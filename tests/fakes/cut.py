"""Answers that end too soon: at any byte, in every way that a connection can end."""

import random
from collections.abc import Callable

from tests.fakes.scripted import Behaviour, Exchange, RecordedRequest
from tests.fakes.truth import events, json_body

_FLUSH = 0.01  # seconds; a RST sent at once would overtake what was written before it
ENDS = ("close", "reset", "stall", "close-delimited", "length", "terminated")


def cut_anywhere(rng: random.Random, stall_share: float = 0.05) -> Callable[[RecordedRequest], Behaviour]:
    """For `always`: each answer lacks at least its last byte."""

    def choose(request: RecordedRequest) -> Behaviour:
        end = "stall" if rng.random() < stall_share else rng.choice([one for one in ENDS if one != "stall"])

        async def play(exchange: Exchange) -> None:
            content = json_body(request, exchange.nonce, exchange.size)
            if request.stream:
                content = b"".join(events(request, exchange.nonce, exchange.size))
            share = rng.choice([rng.random(), 1.0, 1.0 - rng.random() / 10])  # the end is where mistakes are likely
            await _play(exchange, content, int((len(content) - 1) * share), end, rng)

        return Behaviour(play)

    return choose


async def _play(exchange: Exchange, content: bytes, cut: int, end: str, rng: random.Random) -> None:
    kind = "text/event-stream" if exchange.request.stream else "application/json"
    framing = {"close-delimited": (), "length": (f"content-length: {len(content)}",)}.get(
        end, ("transfer-encoding: chunked",)
    )
    await exchange.head(200, f"content-type: {kind}", *framing)
    chunked = bool(framing) and "chunked" in framing[0]
    at = 0
    while at < cut:
        piece = content[at : min(cut, at + rng.randrange(1, 400))]
        at += len(piece)
        if not chunked:
            await exchange.write(piece)
        elif at == cut and end != "terminated":
            await exchange.write(b"%x\r\n%b" % (len(piece) + 1, piece))  # the chunk itself is cut
        else:
            await exchange.chunk(piece)
        if rng.random() < 0.1:
            await exchange.silence(0.001)
    await _end(exchange, end)


async def _end(exchange: Exchange, end: str) -> None:
    if end == "stall":
        await exchange.silence()
    elif end == "terminated":
        await exchange.write(b"0\r\n\r\n")
    elif end == "reset":
        await exchange.silence(_FLUSH)
        exchange.reset()
    else:
        exchange.close()
