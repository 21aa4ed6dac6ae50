"""`python -m tests.bench`: options, and what goes where."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.bench import report
from tests.bench.figures import Results
from tests.bench.machine import cores, described
from tests.bench.measure import Bench
from tests.bench.servers import ServerProblem, Site
from tests.bench.workload import FULL, QUICK


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...",
        description="Measures the gateway beside an empty ASGI app, a bare proxy and nginx. Takes less than 5 minutes.",
        epilog="Exit code 1: answers were wrong, or with --check a bar was missed.",
    )
    parser.add_argument("--quick", action="store_true", help="a rough look, in about a minute")
    parser.add_argument("--only", choices=("json", "sse", "cache", "start"), help="a part of it")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the gateway misses a bar")
    parser.add_argument("--own-load", action="store_true", help="do not use wrk, even if it is installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep everything measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the tables for the README")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="keep where the gateway spent its CPU time (slower)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    asked = options(arguments)
    plan = (QUICK if asked.quick else FULL).only(asked.only)
    console = Console(highlight=False, soft_wrap=True)
    where, begin = cores(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmproxy-bench-") as directory, console.status("starting") as status:
        try:
            with Site(Path(directory), where, plan.starts, asked.profile) as site:
                results = Bench(site, status.update, use_wrk=not asked.own_load).run(plan)
        except ServerProblem as problem:
            console.print(Text(str(problem)))
            return 1
    about = described() | {
        "cores": str(where),
        "load": "own" if asked.own_load else "wrk for JSON if installed, else own",
    }
    _show(console, results, about | {"took": f"{time.monotonic() - begin:.0f} s"})
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(results, about), indent=1))
    if asked.markdown:
        asked.markdown.write_text(report.markdown(results, about))
    missed = asked.check and any(bar.missed for bar in report.bars(results))
    return 1 if missed or results.failures() else 0


def _show(console: Console, results: Results, about: dict[str, str]) -> None:
    lines = [", ".join(f"{name} {value}" if name != "machine" else value for name, value in about.items())]
    console.print(Text(lines[0]))
    for table in report.tables(results):
        console.print()
        console.print(table.rich() if console.is_terminal else Text(table.plain()))
    console.print()
    for note in report.notes(results):
        console.print(Text(note))
    console.print()
    for bar in report.bars(results):
        console.print(Text(report.bar_line(bar)))


if __name__ == "__main__":
    sys.exit(main())
