"""Tables as text: aligned for a terminal or a file, rich where there is one, markdown for the README. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """The first column is words, the others are figures; each row has a text for each column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def plain(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self._line(row, widths) for row in (self.columns, ["-" * width for width in widths], *self.rows)]
        return "\n".join([self.title, *lines])

    @staticmethod
    def _line(row: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = (
            text.rjust(width) if number else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    def markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines])

    def rich(self) -> RichTable:
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def number(value: float | None, digits: int = 0) -> str:
    """With thousands separated; - for what was not measured."""
    return "-" if value is None or isnan(value) else f"{value:,.{digits}f}"


def with_ratio(value: float, ratio: float | None, digits: int = 0) -> str:
    """A figure, and in brackets how many times the empty app's it is."""
    return number(value, digits) if ratio is None else f"{number(value, digits)} ({number(ratio, 2)})"
