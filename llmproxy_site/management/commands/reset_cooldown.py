"""`manage.py reset_cooldown [ENDPOINT]`: ends cooldowns in all workers at once."""

import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmproxy_site.offline import offline, published_table
from routing.config.table import RoutingTable


class Command(BaseCommand):
    help = "Ends the cooldown of an endpoint, or of all that cool, in all workers and instances."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("endpoint", nargs="?", help="its name; without it, all endpoints that are cooling")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, endpoint: str | None, **options: Any) -> None:
        table = published_table()
        reset = asyncio.run(_reset(table, endpoint))
        if options["json"]:
            self.stdout.write(json.dumps({"reset": reset}))
        elif reset:
            self.stdout.write(f"Cooldown ended: {', '.join(reset)}.")
        else:
            self.stdout.write("No endpoint is cooling.")


async def _reset(table: RoutingTable, name: str | None) -> list[str]:
    named = [endpoint for endpoint in table.endpoints.values() if name in (None, endpoint.name)]
    if name is not None and not named:
        known = ", ".join(sorted(endpoint.name for endpoint in table.endpoints.values())) or "none"
        raise CommandError(f"There is no endpoint {name!r}. There are: {known}.")
    async with offline(table) as gateway:
        cooling = [endpoint for endpoint in named if gateway.board.of(endpoint).cooled()]
        wanted = cooling if name is None else named
        try:
            await gateway.health.reset([endpoint.id for endpoint in wanted])
        except ConnectionError:
            raise CommandError(
                "The store does not answer, so the workers cannot be told. Is the gateway running?"
            ) from None
    return [endpoint.name for endpoint in wanted]
