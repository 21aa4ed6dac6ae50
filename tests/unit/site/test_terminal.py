"""Tables as text: on a terminal, and where none is."""

import io

import pytest
from rich.console import Console

from llmproxy_site.management.terminal import Column, console_on, fitting, quiet_end, table_of

COLUMNS = [Column("name"), Column("count", number=True), Column("less", 1), Column("least", 2)]
ROWS = [["east", "7", ("up", "green"), "x"]]


def written(console: Console, rows=ROWS) -> str:
    console.print(table_of(console, "Title", COLUMNS, rows))
    return console.file.getvalue()


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, markup=False)


def test_without_a_terminal_there_are_neither_colours_nor_lines():
    text = written(console_on(io.StringIO()))
    assert [line.rstrip() for line in text.splitlines()] == [
        "Title",
        "name  count  less  least",
        "east      7  up    x",
    ]


def test_without_a_terminal_nothing_is_folded_or_left_out():
    name = "n" * 90
    assert name in written(console_on(io.StringIO()), [[name, "1", "2", "z" * 90]])


def test_a_terminal_gets_colours():
    assert "\x1b[32mup" in written(terminal(80))


@pytest.mark.parametrize(("width", "kept"), [(80, [0, 1, 2, 3]), (29, [0, 1, 2]), (20, [0, 1]), (1, [0, 1])])
def test_columns_that_do_not_fit_are_left_out_the_least_first(width, kept):
    assert fitting(COLUMNS, ROWS, width) == kept


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(width):
    lines = written(terminal(width), [["e" * 30, "7", "", ""]]).splitlines()
    assert max(len(line) for line in lines) <= width + len("\x1b[1m\x1b[0m") * 4


def test_what_comes_from_outside_is_shown_and_not_obeyed():
    text = written(console_on(io.StringIO()), [["\x1b[31mred", "[bold]1", "", ""]])
    assert "\x1b" not in text and "\\x1b[31mred" in text and "[bold]1" in text


@pytest.mark.parametrize("end", [KeyboardInterrupt, None])
def test_ctrl_c_is_a_quiet_end(end):
    with quiet_end():
        if end:
            raise end
