"""The gateway as a command sees it: the published configuration and the health that workers share, without serving."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from django.conf import settings
from django.core.management.base import CommandError

from llmproxy_site.environment import variables
from llmproxy_site.store import find_store
from llmproxy_site.store_link import StoreLink
from llmproxy_site.store_trouble import StoreNews
from routing.balancing.board import HealthBoard
from routing.balancing.shared_health import SharedHealth
from routing.config.snapshot import LoadedConfiguration, load
from routing.config.table import RoutingTable, compile_table
from routing.config.wording import ConfigurationInvalid
from routing.management.database import usable_database


@dataclass(frozen=True, slots=True)
class Offline:
    """shared: False where the store does not answer, so that nothing is known of health."""

    table: RoutingTable
    board: HealthBoard
    health: SharedHealth
    shared: bool


def compiled(loaded: LoadedConfiguration) -> RoutingTable:
    """As a worker would serve it with this process's environment."""
    return compile_table(loaded.resolved(variables(), settings.LLMPROXY.secrets_dir), loaded.revision)


def published_table() -> RoutingTable:
    """What is published now. Raises CommandError, with the remedy."""
    try:
        with usable_database():
            return compiled(load())
    except ConfigurationInvalid as error:
        raise CommandError(f"The published configuration is not valid; import a good one.\n{error}") from None


def store_of(table: RoutingTable, *, silent: bool = False) -> StoreLink:
    """A link to the gateway's store. silent: the command itself tells that the store went away; no log line does."""
    address = find_store(settings.LLMPROXY, table.settings)
    return StoreLink(address, news=_Untold(address) if silent else None)


class _Untold(StoreNews):
    """No log lines."""

    def lost(self, client: object, error: BaseException) -> None: ...
    def found(self, client: object) -> None: ...


@asynccontextmanager
async def offline(table: RoutingTable) -> AsyncIterator[Offline]:
    """Reads what the store knows of the table's endpoints; never starts a store."""
    link = store_of(table)
    try:
        yield await look(table, link)
    finally:
        await link.aclose()


async def look(table: RoutingTable, link: StoreLink) -> Offline:
    """What the store knows now."""
    board = HealthBoard()
    health = SharedHealth(board, link)
    try:
        await health.catch_up(list(table.endpoints))
        shared = link.address.kind != "in_process"
    except ConnectionError:
        shared = False
    return Offline(table, board, health, shared)
