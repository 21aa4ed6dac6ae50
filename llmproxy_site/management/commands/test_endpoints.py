"""`manage.py test_endpoints [ENDPOINT ...]`: a real, tiny call to every endpoint. Needs no gateway, no store."""

import asyncio
import json
import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from llmproxy_site.environment import variables
from llmproxy_site.management.figures import NOTHING, count, milliseconds
from llmproxy_site.management.terminal import Cell, Column, console_on, table_of
from llmproxy_site.offline import published_table
from routing.carriers import Carriers
from routing.config.table import Endpoint, RoutingTable
from routing.config.wording import shown, suggestion
from routing.trial import LONGEST_S, Trial, try_all

_MOST_S = 600.0
_COLUMNS = [
    Column("endpoint"),
    Column("model group", 3),
    Column("call", 4),
    Column("status", number=True),
    Column("latency", 1, number=True),
    Column("model", 2),
    Column("result"),
]


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MOST_S:
        raise ArgumentTypeError(f"write seconds, more than 0 and at most {_MOST_S:g}")
    return seconds


class Command(BaseCommand):
    """Exit code 1: an endpoint did not answer as it should."""

    help = "Asks every endpoint something tiny, for real: shows status, latency, model and error of each."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("endpoint", nargs="*", help="names; without one, all endpoints, disabled ones too")
        parser.add_argument("--group", metavar="NAME", help="the endpoints of this model group")
        parser.add_argument(
            "--timeout", type=_timeout, default=LONGEST_S, metavar="SECONDS",
            help=f"longest time for one call; default: {LONGEST_S:g}, or the endpoint's own if that is shorter",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, timeout: float, **options: Any) -> None:
        table = published_table()
        endpoints = {endpoint.name: endpoint for endpoint in _chosen(table, options["endpoint"], options["group"])}
        trials: list[Trial] = []
        stopped = False
        with _progress(self.stderr, len(endpoints), hidden=options["json"]) as advance:

            def tell(trial: Trial) -> None:
                trials.append(trial)
                advance()

            try:
                asyncio.run(_try(table, endpoints.values(), tell, timeout))
            except KeyboardInterrupt:
                stopped = True
        order = list(endpoints)
        trials.sort(key=lambda trial: order.index(trial.endpoint))
        if options["json"]:
            told = [_as_json(trial, endpoints[trial.endpoint]) for trial in trials]
            self.stdout.write(json.dumps({"endpoints": told}, indent=2))
        else:
            console = console_on(self.stdout, no_color=options["no_color"])
            rows = [_row(trial, endpoints[trial.endpoint]) for trial in trials]
            console.print(table_of(console, "Endpoints", _COLUMNS, rows))
        _judge(trials, len(endpoints), stopped=stopped)


def _chosen(table: RoutingTable, names: list[str], group: str | None) -> list[Endpoint]:
    if names and group is not None:
        raise CommandError("Name endpoints, or a group with --group; not both.", returncode=2)
    if not table.endpoints:
        raise CommandError("There is no endpoint yet. Configure some: `manage.py import_config llmproxy.yaml`.")
    if group is not None:
        if group not in table.groups:
            raise _unknown("model group", group, table.groups)
        if not table.groups[group].endpoints:
            raise CommandError(f'The model group "{shown(group)}" has no endpoint of its own.')
        return list(table.groups[group].endpoints)
    by_name = {endpoint.name: endpoint for endpoint in table.endpoints.values()}
    for name in names:
        if name not in by_name:
            raise _unknown("endpoint", name, by_name)
    return [by_name[name] for name in dict.fromkeys(names or by_name)]


def _unknown(kind: str, name: str, known: Iterable[str]) -> CommandError:
    hint = suggestion(name, known) or f". There are: {', '.join(sorted(known))}."
    return CommandError(f'There is no {kind} "{shown(name)}"{hint}')


async def _try(
    table: RoutingTable, endpoints: Iterable[Endpoint], tell: Callable[[Trial], None], timeout_s: float
) -> None:
    carriers = Carriers(variables())
    try:
        await try_all(endpoints, carriers.of, table, tell, timeout_s)
    finally:
        await carriers.aclose()


@contextmanager
def _progress(stream: Any, total: int, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """On a terminal only, and gone at the end."""
    console = console_on(stream)
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _as_json(trial: Trial, endpoint: Endpoint) -> dict[str, Any]:
    return trial.as_json() | {"model_group": endpoint.group, "enabled": endpoint.enabled}


def _row(trial: Trial, endpoint: Endpoint) -> list[Cell]:
    result: Cell = ("ok", "green") if trial.ok else (trial.error, "red")
    return [
        endpoint.name if endpoint.enabled else f"{endpoint.name} (disabled)",
        endpoint.group,
        trial.operation,
        count(trial.status),
        milliseconds(trial.latency_ms) if trial.latency_ms else NOTHING,
        trial.model or NOTHING,
        result,
    ]


def _judge(trials: list[Trial], total: int, *, stopped: bool) -> None:
    failed = sum(not trial.ok for trial in trials)
    if stopped:
        raise CommandError(f"Stopped: {len(trials)} of {total} endpoints have been tested, {failed} of them failed.")
    if failed:
        raise CommandError(f"{failed} of {total} endpoints failed.")
