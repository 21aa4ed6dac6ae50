"""`manage.py show_stats [--watch]`: the numbers of the whole gateway, once or again and again."""

import asyncio
import json
import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from llmproxy_site.management.stats_reading import SPANS, Reading, StatsReader
from llmproxy_site.management.stats_tables import page
from llmproxy_site.management.terminal import console_on, quiet_end

_EVERY_S = 2.0
_SHORTEST_S, _LONGEST_S = 0.2, 3600.0


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ArgumentTypeError(f"write seconds, from {_SHORTEST_S:g} to {_LONGEST_S:g}")
    return seconds


class Command(BaseCommand):
    help = "Shows the numbers of the whole gateway: requests, tokens, cost and cache, per group and endpoint."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--watch", nargs="?", type=_interval, const=_EVERY_S, metavar="SECONDS",
            help=f"again and again, until Ctrl-C; every {_EVERY_S:g} s unless told otherwise",
        )  # fmt: skip
        parser.add_argument("--span", choices=SPANS, default="24h", help="default: 24h")
        parser.add_argument("--json", action="store_true", help="for scripts; with --watch one line each time")

    def handle(self, *args: Any, span: str, watch: float | None, **options: Any) -> None:
        show = self._show_json if options["json"] else self._show_page
        console = console_on(self.stdout, no_color=options["no_color"])
        with quiet_end(), asyncio.Runner() as runner, closing(StatsReader(runner, span)) as reader:
            if watch is None:
                show(console, reader.read(), line=False)
            elif options["json"] or not console.is_terminal:
                _repeat(reader, watch, lambda reading: show(console, reading, line=True), self._complain)
            else:
                with _screen(console) as draw:
                    _repeat(reader, watch, *draw)

    def _show_page(self, console: Console, reading: Reading, *, line: bool) -> None:
        console.print(page(reading, console))
        if line:
            console.print()

    def _show_json(self, console: Console, reading: Reading, *, line: bool) -> None:
        if reading.missing:
            self._complain(reading.missing)
        self.stdout.write(json.dumps(reading.as_json(), indent=None if line else 2) + "\n")
        self.stdout.flush()

    def _complain(self, trouble: str) -> None:
        self.stderr.write(trouble)


def _repeat(
    reader: StatsReader, every_s: float, show: Callable[[Reading], None], complain: Callable[[str], None]
) -> None:
    """Until Ctrl-C. A database that goes away is told and asked again."""
    while True:
        try:
            show(reader.read())
        except CommandError as error:
            complain(str(error))
        reader.wait(every_s)


@contextmanager
def _screen(console: Console) -> Iterator[tuple[Callable[[Reading], None], Callable[[str], None]]]:
    """Draws over what was drawn before; trouble stands below the last numbers that could be read."""
    last: RenderableType = Text("")
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def draw(reading: Reading) -> None:
            nonlocal last
            last = page(reading, console)
            live.update(Group(last, Text("Ctrl-C ends", "dim")), refresh=True)

        def complain(trouble: str) -> None:
            live.update(Group(last, Text(""), Text(trouble, "yellow")), refresh=True)

        yield draw, complain
