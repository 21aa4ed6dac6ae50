"""How commands write tables: boxes and colours on a terminal, plain aligned columns everywhere else. For commands only.

A column that does not fit into a narrow terminal is left out; what comes from outside is shown without control signs.
"""

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from routing.config.wording import shown

_GAP = 3  # between two columns, at most
_UNBOUNDED = 1000  # columns of a file or pipe: nothing is folded there

Cell = str | tuple[str, str]  # text, or text and style
Row = Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Column:
    """rank: the columns with the highest are left out first where not all fit; 0: never."""

    title: str
    rank: int = 0
    number: bool = False


def console_on(stream: Any, *, no_color: bool = False) -> Console:
    """stream: a command's `stdout` or `stderr`."""
    if hasattr(stream, "ending"):
        stream.ending = ""  # Django adds a line end to all that has none: to every move of the cursor
    console = Console(file=stream, highlight=False, markup=False, no_color=no_color or None)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def table_of(console: Console, title: str, columns: Sequence[Column], rows: Iterable[Row]) -> RenderableType:
    """The title is no part of the table, which may be narrower."""
    rows = list(rows)
    kept = fitting(columns, rows, console.width)
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for index in kept:
        column = columns[index]
        table.add_column(
            column.title,
            justify="right" if column.number else "left",
            no_wrap=column.number,
            overflow="ellipsis" if column.number else "fold",
        )
    for row in rows:
        table.add_row(*(_text(row[index]) for index in kept))
    return Group(Text(title, "bold"), table)


def fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[int]:
    """Positions of the columns that are shown in so many columns of a terminal."""
    widths = [
        max(cell_len(column.title), *(cell_len(_text(row[index]).plain) for row in rows), 0) + _GAP
        for index, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while sum(widths[index] for index in kept) > width:
        least = max(kept, key=lambda index: columns[index].rank)
        if not columns[least].rank:
            break
        kept.remove(least)
    return kept


def _text(cell: Cell) -> Text:
    words, style = (cell, "") if isinstance(cell, str) else cell
    return Text(shown(words), style)


@contextmanager
def quiet_end() -> Iterator[None]:
    """Ctrl-C, and a reader of our output that has seen enough (`| head`), are no errors."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):  # the latter: it came before a coroutine had begun
        return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
