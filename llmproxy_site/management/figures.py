"""Numbers as people read them in a terminal. Pure; what is not known is never shown as 0."""

from collections.abc import Mapping
from typing import Any

NOTHING = "-"
UNKNOWN = "unknown"


def count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def percent(share: float | None) -> str:
    """share: in percent. 100 and 0 are shown only where they are exact."""
    if share is None:
        return NOTHING
    if share in (0, 100):
        return f"{share:.0f} %"
    return f"{min(max(share, 0.1), 99.9):.1f} %" if share < 99.9 else f"{min(share, 99.99):.2f} %"


def milliseconds(time: float | None) -> str:
    if time is None:
        return NOTHING
    if time >= 9_999.5:
        return f"{time / 1000:,.1f} s"
    return f"{time:.1f} ms" if time < 99.95 else f"{time:,.0f} ms"


def usd(amount: float) -> str:
    if not amount:
        return "$0"
    decimals = 2 if amount >= 1 else 4 if amount >= 0.01 else 6
    text = f"{amount:,.{decimals}f}"
    return f"${text}" if float(text.replace(",", "")) else "<$0.000001"


def cost(told: Mapping[str, Any]) -> str:
    """told: `requests`, `cost_usd` (None: unknown) and `unpriced`."""
    if not told["requests"]:
        return NOTHING
    if told["cost_usd"] is None:
        return UNKNOWN
    known = usd(told["cost_usd"])
    return f"{known} + {told['unpriced']:,} unknown" if told["unpriced"] else known


def size(amount: float) -> str:
    """Bytes."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"


def seconds(time: float) -> str:
    """A time that is left."""
    whole = max(1, round(time))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
