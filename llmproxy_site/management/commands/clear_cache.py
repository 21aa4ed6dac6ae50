"""`manage.py clear_cache [--model-group NAME]`: deletes kept answers for all workers, as `DELETE /cache` does."""

import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cache_app.deletion import delete_answers
from llmproxy_site.offline import published_table
from llmproxy_site.store import find_cache_store
from llmproxy_site.store_link import StoreLink
from routing.config.table import RoutingTable
from routing.config.wording import shown, suggestion


class Command(BaseCommand):
    help = "Deletes kept answers for all workers and instances; never health, counters or affinity."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model-group", metavar="NAME", help="only the answers of this group")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, model_group: str | None, **options: Any) -> None:
        table = published_table()
        key = None if model_group is None else _key_of(model_group, table)
        deleted = asyncio.run(_delete(table, key))
        if options["json"]:
            self.stdout.write(json.dumps({"deleted_entries": deleted}))
        else:
            self.stdout.write(f"Deleted {deleted} kept answer{'' if deleted == 1 else 's'}.")


def _key_of(name: str, table: RoutingTable) -> str:
    group = table.groups.get(name)
    if group is None:
        hint = suggestion(name, table.groups) or f". There are: {', '.join(sorted(table.groups)) or 'none'}."
        raise CommandError(f'There is no model group "{shown(name)}"{hint}')
    return group.key


async def _delete(table: RoutingTable, group_key: str | None) -> int:
    address = find_cache_store(settings.LLMPROXY, table.settings)
    if address.kind == "in_process":
        raise CommandError("The gateway keeps its answers in its own process here: ask it, with DELETE /cache.")
    link = StoreLink(address)
    try:
        return await delete_answers(link, table.settings.cache_params.namespace, group_key)
    except ConnectionError:
        raise CommandError(
            f"The store ({address}) does not answer. Is the gateway running? What was deleted stays deleted."
        ) from None
    finally:
        await link.aclose()
