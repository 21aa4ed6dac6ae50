"""`manage.py explain MODEL`: where a request would go now, and why not elsewhere."""

import asyncio
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from llmproxy_site.offline import compiled, offline
from routing.config import stored_secrets, yaml_file
from routing.config.references import stored_places
from routing.config.snapshot import LoadedConfiguration, RevisionUnusable, load, published
from routing.config.table import RoutingTable
from routing.config.wording import ConfigurationInvalid
from routing.errors import NotFound
from routing.explain import Explained, explain
from routing.management.database import usable_database
from routing.models import Revision

_REMEDY = "Ask about another one with --at N; or publish a good one: import_config FILE --prune, or a rollback."
_COLOURS = {"next": "bold green", "candidate": "green", "reserve": "yellow", "out": "red"}


class Command(BaseCommand):
    help = "Shows all candidates for a request in order, and for each that is out the reason."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="the name of a model group, as clients send it")
        parser.add_argument("--stream", action="store_true", help="for a streamed answer")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--at", type=int, metavar="REVISION", help="with the configuration of that revision")
        source.add_argument("--config", type=Path, metavar="FILE", help="with a YAML file that is not imported")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, model: str, **options: Any) -> None:
        with usable_database():
            table = compiled(_loaded(options["at"], options["config"]))
        try:
            rows, shared = asyncio.run(_explain(table, model, stream=options["stream"]))
        except NotFound as error:
            raise CommandError(error.message) from None
        if options["json"]:
            data = {"model": model, "revision": table.revision, "health_known": shared, "candidates": rows}
            self.stdout.write(json.dumps(data, default=lambda row: row.as_json(), indent=2))
            return
        if not shared:
            self.stderr.write("The store does not answer: cooldowns are not known, all endpoints count as healthy.")
        console = Console(file=self.stdout, highlight=False)  # type: ignore[arg-type]
        console.print(_table(rows, table.revision, model))


def _loaded(revision: int | None, file: Path | None) -> LoadedConfiguration:
    try:
        return load(revision) if file is None else _in_file(file)
    except Revision.DoesNotExist:
        raise CommandError(f"There is no revision {revision}; the last one is {published().number}.") from None
    except RevisionUnusable as error:
        raise CommandError(f"Revision {error.number} cannot be served: {error}\n{_REMEDY}") from None
    except (ConfigurationInvalid, yaml_file.FileInvalid) as error:
        raise CommandError(str(error)) from None


def _in_file(file: Path) -> LoadedConfiguration:
    """The database is asked only where the file names a key that is stored there."""
    configuration = yaml_file.read(file).configuration
    stored = stored_secrets.reveal_all() if any(stored_places(configuration.plain())) else {}
    return LoadedConfiguration(0, configuration, stored)


async def _explain(table: RoutingTable, model: str, *, stream: bool) -> tuple[list[Explained], bool]:
    async with offline(table) as gateway:
        rows = explain(table, model, gateway.board.of, gateway.board.clock(), stream=stream)
        return rows, gateway.shared


def _table(rows: list[Explained], revision: int, model: str) -> Table:
    table = Table(title=f"{model}, revision {revision}", title_justify="left")
    for column in ("", "endpoint", "group", "weight", "why", "deadlines"):
        table.add_column(column)
    for row in rows:
        standing = f"[{_COLOURS[row.standing]}]{row.standing}[/]"
        table.add_row(standing, row.endpoint, row.group, str(row.weight), row.reason, row.deadlines)
    return table
