"""Prices are looked up by genai-prices, outside of the worker."""

import asyncio
import sys

import pytest
from structlog.testing import capture_logs

from stats import prices
from stats.prices import Offer, Price, PriceList

OPENAI = "https://api.openai.com/v1"
AZURE = "https://east.openai.azure.com"


def looked_up(*offers: Offer) -> PriceList:
    known = PriceList()
    asyncio.run(known.learn(offers))
    return known


KNOWN = {
    Offer("gpt-4o-mini", OPENAI): Price(0.15, 0.6, 0.075),
    Offer("text-embedding-3-small", OPENAI): Price(0.02),
    Offer("gpt-4o-mini", AZURE, azure=True): Price(0.15, 0.6, 0.075),
}
UNKNOWN = [
    Offer("no-such-model", OPENAI),
    Offer("gpt-4o-mini", "http://127.0.0.1:8000/v1"),  # whoever that is
    Offer("our-chat", AZURE, azure=True),
    Offer("gpt-4o-audio-preview-of-the-lab", AZURE, azure=True),
    Offer("whisper-1", OPENAI),  # by the minute
]


@pytest.fixture(scope="module")
def known() -> PriceList:
    return looked_up(*KNOWN, *UNKNOWN, Offer("claude-sonnet-4-5", "https://api.anthropic.com/v1"))


@pytest.mark.parametrize("offer", KNOWN)
def test_a_known_model_at_its_provider_has_a_price(known, offer):
    assert known.of(offer) == KNOWN[offer]


@pytest.mark.parametrize("offer", UNKNOWN)
def test_what_is_not_known_for_certain_has_none(known, offer):
    assert known.of(offer) is None


def test_prices_that_rise_with_the_input_have_tiers(known):
    price = known.of(Offer("claude-sonnet-4-5", "https://api.anthropic.com/v1"))
    assert price.cost_nano_usd(100_000, 0) < price.cost_nano_usd(300_000, 0) / 3


def test_our_arithmetic_is_that_of_the_library(known):
    genai_prices = pytest.importorskip("genai_prices")
    usage = genai_prices.Usage(input_tokens=12_345, cache_read_tokens=2_000, output_tokens=678)
    theirs = genai_prices.calc_price(usage, "gpt-4o-mini", provider_id="openai").total_price
    assert known.of(Offer("gpt-4o-mini", OPENAI)).cost_nano_usd(12_345, 678, 2_000) == round(theirs * 10**9)


def test_looking_up_brings_nothing_into_this_process(known):
    assert "stats.price_lookup" not in sys.modules


def test_nothing_to_look_up_starts_nothing(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere")
    looked_up()


@pytest.mark.parametrize(
    "program", ["raise SystemExit('no such package')", "print('nonsense')", "import time; time.sleep(60)"]
)
def test_a_look_up_that_fails_is_told_and_changes_nothing(tmp_path, monkeypatch, known, program):
    script = tmp_path / "lookup.py"
    script.write_text(program)
    monkeypatch.setattr(prices, "_LOOKUP", script)
    monkeypatch.setattr(prices, "_WITHIN_S", 1.0)
    offer = Offer("gpt-4o-mini", OPENAI)
    with capture_logs() as logs:
        asyncio.run(known.learn([offer]))
    assert [line["log_level"] for line in logs] == ["warning"]
    assert known.of(offer) == KNOWN[offer]


def test_new_offers_are_looked_up_when_the_configuration_changes(monkeypatch):
    offers = [Offer("a", OPENAI)]
    asked = []

    async def ask(question: bytes) -> bytes:
        asked.append(question)
        return b"[null]"

    async def follow() -> None:
        known, changed = PriceList(), asyncio.Event()
        running = asyncio.ensure_future(known.run(lambda: offers, changed.set))
        await changed.wait()
        changed.clear()
        offers[0] = Offer("b", OPENAI)
        known.refresh()
        await changed.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    monkeypatch.setattr(prices, "_ask", ask)
    asyncio.run(follow())
    assert asked == [b'[["a","https://api.openai.com/v1",false]]', b'[["b","https://api.openai.com/v1",false]]']
