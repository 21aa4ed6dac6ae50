"""What tokens cost: a `Price` per endpoint, and whose prices are known. What is not known is None, and never 0.

The prices are genai-prices'. It takes 20 MB to look into them, so a short-lived process does (`price_lookup`).
"""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

_LOOKUP = Path(__file__).with_name("price_lookup.py")
_WITHIN_S = 20.0
_AGAIN_S = 3600.0  # prices change at dates and, with some providers, at times of day
_MOST_NANO_USD = 10**15  # a million dollars for one request is a mistake; sums of it would overflow

log = structlog.get_logger(__name__)


class Tier(msgspec.Struct, frozen=True, array_like=True):
    """Prices for a request whose input has more than `above` tokens; for all of its tokens."""

    above: int
    input: float
    output: float | None = None
    cached: float | None = None


class Price(msgspec.Struct, frozen=True):
    """US dollars per million tokens. output None: it has no price. cached None: cached input costs as other input."""

    input: float
    output: float | None = None
    cached: float | None = None
    tiers: tuple[Tier, ...] = ()  # by rising `above`

    @property
    def is_free(self) -> bool:
        """Whatever the number of tokens."""
        return self.input == 0 == self.output and not self.cached and not self.tiers

    def cost_nano_usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int | None:
        """Billionths of a US dollar. cached_tokens: how many of the input tokens. None: output that has no price."""
        rate: Price | Tier = self
        for tier in self.tiers:
            if input_tokens > tier.above:
                rate = tier
        cost = rate.input * input_tokens
        if output_tokens:
            if rate.output is None:
                return None
            cost += rate.output * output_tokens
        if cached_tokens and rate.cached is not None:
            cost -= (rate.input - rate.cached) * min(cached_tokens, input_tokens)
        return min(round(cost * 1000), _MOST_NANO_USD)


class Offer(NamedTuple):
    """A model at a provider."""

    model: str
    base_url: str
    azure: bool = False  # the model's name is a deployment's, which anybody can choose


class PriceList:
    """The prices that this worker has asked for."""

    def __init__(self) -> None:
        self._prices: dict[Offer, Price | None] = {}
        self._wake = asyncio.Event()

    def of(self, offer: Offer) -> Price | None:
        """None: not known, or not known yet."""
        return self._prices.get(offer)

    def refresh(self) -> None:
        """The offers have changed."""
        self._wake.set()

    async def run(self, offers: Callable[[], Iterable[Offer]], changed: Callable[[], None]) -> None:
        """Keeps up with the offers until it is cancelled. changed: called when there are new answers."""
        while True:
            self._wake.clear()
            await self.learn(offers())
            changed()
            try:
                async with asyncio.timeout(_AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def learn(self, offers: Iterable[Offer]) -> None:
        """Looks all of them up; what cannot be looked up stays as it was."""
        wanted = sorted(set(offers))
        if not wanted:
            return
        try:
            answer = await _ask(msgspec.json.encode(wanted))
            found = msgspec.json.decode(answer, type=list[Price | None])
            self._prices |= dict(zip(wanted, found, strict=True))
        except (OSError, TimeoutError, ValueError) as error:  # msgspec's are ValueErrors
            log.warning(
                "prices could not be looked up; costs of new endpoints stay unknown",
                reason=str(error) or "no answer in time",
            )


async def _ask(question: bytes) -> bytes:
    # -P: beside the script lie modules of ours, whose names must not hide others.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(_LOOKUP), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            answer, complaint = await process.communicate(question)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise OSError(complaint.decode(errors="replace").strip().rpartition("\n")[2])
    return answer
