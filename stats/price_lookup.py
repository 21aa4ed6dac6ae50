"""Looks prices up: a program that reads offers as JSON and writes prices as JSON (`stats.prices`), and ends.

Imports nothing of ours and is imported by nobody: genai-prices and what it brings shall not stay in a worker's memory.
"""

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices import data_snapshot, types

# Prices that a request may have besides, and those of special tokens: usage does not tell whether they apply, and the
# price of text is nearest.
_PASSED_OVER = ("cache_write", "audio", "image", "video", "web_searches", "storage_searches")
_TOKENS = {"input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cached"}


def price_of(model: str, base_url: str, azure: bool) -> dict[str, Any] | None:
    """The fields of `prices.Price`, for now. None: it is not known what this costs."""
    snapshot = data_snapshot.get_snapshot()
    where = (None, "azure", None) if azure else (None, None, base_url)
    try:
        provider, known = snapshot.find_provider_model(model, *where)
    except LookupError:
        return None
    if provider.id == "azure" and model.lower() not in _own_names(known):
        return None
    return _of_tokens(known.get_prices(datetime.now(UTC)))


def _own_names(model: types.ModelInfo) -> set[str]:
    """Not what only begins like one: "gpt-4o-of-the-lab" may be anything."""
    clauses = [model.match]
    names = {model.id.lower()}
    for clause in clauses:
        if isinstance(clause, types.ClauseEquals):
            names.add(clause.equals.lower())
        elif isinstance(clause, types.ClauseOr):
            clauses.extend(clause.or_)
    return names


def _of_tokens(prices: types.ModelPrice) -> dict[str, Any] | None:
    stated = {key: value for key, value in vars(prices).items() if value is not None and not key.startswith("_")}
    rates = {_TOKENS[key]: stated.pop(key) for key in _TOKENS if key in stated}
    if "input" not in rates or any(not any(word in key for word in _PASSED_OVER) for key in stated):
        return None  # charged by something else than tokens of text
    starts = {tier.start for rate in rates.values() if isinstance(rate, types.TieredPrices) for tier in rate.tiers}
    tiers = [
        [start, *(_at(rates.get(name), start + 1) for name in ("input", "output", "cached"))]
        for start in sorted(starts)
    ]
    return {**{name: _at(rate, 0) for name, rate in rates.items()}, "tiers": tiers}


def _at(rate: Decimal | types.TieredPrices | None, input_tokens: int) -> float | None:
    if isinstance(rate, types.TieredPrices):
        reached = [tier.price for tier in rate.tiers if input_tokens > tier.start]
        rate = reached[-1] if reached else rate.base
    return None if rate is None else float(rate)


if __name__ == "__main__":
    json.dump([price_of(*offer) for offer in json.load(sys.stdin)], sys.stdout)
