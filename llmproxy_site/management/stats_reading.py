"""Reads the numbers of the whole gateway: live ones from the store, those of a span of time from the database.

Needs no running gateway, and starts no store; where one of both is away, it says so instead of showing zeros.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import close_old_connections

from llmproxy_site.offline import look, published_table, store_of
from llmproxy_site.operators_view import stats_of, utc
from llmproxy_site.store_link import StoreLink
from routing.config.table import RoutingTable
from routing.management.database import usable_database
from stats.history import History, Span, Totals
from stats.queries import read_numbers
from stats.recorder import Recorder
from stats.rollups import HOUR, MINUTE

# Name -> seconds, and the step of the sums: those by minute are kept for two days.
SPANS = {"15m": (900, MINUTE), "24h": (86_400, MINUTE), "30d": (30 * 86_400, HOUR)}


@dataclass(frozen=True, slots=True)
class Past:
    """What happened over a span, as `Totals.as_json` tells it; unknown costs are None."""

    name: str
    span: Span
    requests: dict[str, Any]
    groups: dict[str, dict[str, Any]]
    endpoints: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {
            "span": self.name,
            "start": utc(datetime.fromtimestamp(self.span.start, UTC)),
            "end": utc(datetime.fromtimestamp(self.span.end, UTC)),
            "requests": self.requests,
            "model_groups": self.groups,
            "endpoints": self.endpoints,
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """live: in the shape of `/stats`; None: not known, for the reason `missing`."""

    at: datetime
    table: RoutingTable
    live: dict[str, Any] | None
    missing: str
    past: Past

    def as_json(self) -> dict[str, Any]:
        return {"timestamp": utc(self.at), "live": self.live, "live_missing": self.missing, "past": self.past.as_json()}


class StatsReader:
    """Reads as often as it is asked, over one link to the store; the loop of `runner` belongs to it."""

    def __init__(self, runner: asyncio.Runner, span: str) -> None:
        self._runner = runner
        self._span = span
        self._link: StoreLink | None = None

    def read(self) -> Reading:
        """Raises CommandError where the database cannot be used, or holds no valid configuration."""
        close_old_connections()  # one that broke must not stay broken
        table = published_table()
        with usable_database():
            past = read_past(self._span, time.time())
        if self._link is None:
            self._link = store_of(table, silent=True)
        live, missing = self._runner.run(_live(table, self._link))
        return Reading(datetime.now(UTC), table, live, missing, past)

    def wait(self, seconds: float) -> None:
        """The link looks after the store meanwhile."""
        self._runner.run(asyncio.sleep(seconds))

    def close(self) -> None:
        if self._link is not None:
            self._runner.run(self._link.aclose())


async def _live(table: RoutingTable, link: StoreLink) -> tuple[dict[str, Any] | None, str]:
    if link.address.kind == "in_process":
        return None, "The gateway keeps live numbers in its own process here: ask it, with GET /stats."
    gateway = await look(table, link)
    numbers = await read_numbers(link, Recorder(link), table.endpoints, {})
    if not numbers.shared or not gateway.shared:
        return None, f"The store ({link.address}) does not answer: live numbers are not known. Is the gateway running?"
    told = stats_of(table, gateway.board, numbers)
    for endpoint in (endpoint for group in told["model_groups"].values() for endpoint in group):
        endpoint["state"]["consecutive_failures"] = None  # only workers know
    return told, ""


def read_past(name: str, now: float) -> Past:
    """name: one of SPANS."""
    seconds, step = SPANS[name]
    span, history = Span.last(seconds, now, step), History()
    return Past(
        name,
        span,
        known(history.totals(span)[""]),
        {group: known(totals) for group, totals in history.totals(span, "model_group").items()},
        {endpoint: known(totals) for endpoint, totals in history.totals(span, "endpoint").items()},
    )


def known(totals: Totals) -> dict[str, Any]:
    """As JSON, with a cost only where one is known."""
    told = totals.as_json()
    if told["unpriced"] and not told["cost_usd"]:
        told["cost_usd"] = None
    return told
