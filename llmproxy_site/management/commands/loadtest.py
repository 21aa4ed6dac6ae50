"""`manage.py loadtest URL --model M`: many real requests to any OpenAI-compatible URL, and what came of them."""

import asyncio
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from llmproxy_site.environment import variables
from llmproxy_site.loadtest import plan as plans
from llmproxy_site.loadtest.plan import Plan, PlanProblem, target_of
from llmproxy_site.loadtest.report import as_json, page, url_of
from llmproxy_site.loadtest.sender import Sender
from llmproxy_site.loadtest.tally import Answer
from llmproxy_site.management.terminal import console_on

_REFERENCE = "os.environ/"
_DEFAULT_REQUESTS = 1000
_DRAWN_EVERY_S = 0.25
_STOPPED = 130  # what shells expect of what Ctrl-C has ended
_REMEDIES = {
    401: "Give a key with --key.",
    403: "Give a key that may use this model with --key.",
    404: "Does the server know this --model, and does the URL end in /v1?",
    405: "Does the URL end in /v1?",
}


def _bounded(kind: Callable[[str], Any], least: float, most: float) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            whole = "a whole number" if kind is int else "a number"
            raise ArgumentTypeError(f"write {whole} from {least:,g} to {most:,.0f}")
        return number

    return read


class Command(BaseCommand):
    """Exit code 1: no request was answered as it should be; 130: stopped."""

    help = "Sends many real requests to an OpenAI-compatible URL; shows rates, errors and latencies."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="as clients are given it, like http://127.0.0.1:4243/v1")
        parser.add_argument("--model", required=True, help="what the requests ask for")
        parser.add_argument("--key", help=f"API key; {_REFERENCE}NAME takes it from the variable NAME")
        parser.add_argument(
            "--connections", type=_bounded(int, 1, plans.MOST_CONNECTIONS), default=32, help="at once; default: 32"
        )
        length = parser.add_mutually_exclusive_group()
        length.add_argument(
            "--requests", type=_bounded(int, 1, plans.MOST_REQUESTS), help=f"default: {_DEFAULT_REQUESTS}"
        )
        length.add_argument("--seconds", type=_bounded(float, 0.1, plans.MOST_SECONDS), help="instead of --requests")
        parser.add_argument("--stream", action="store_true", help="ask for streams")
        parser.add_argument(
            "--rate", type=_bounded(float, 0.01, plans.MOST_A_SECOND), help="requests a second; default: all it can"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask before a URL that is not on this machine")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        plan = _plan(options)
        if not plan.loopback and not options["yes"]:
            _ask_leave(plan)
        sender = Sender(plan)
        with asyncio.Runner(loop_factory=_fast_loop()) as runner:
            try:
                _refuse_hopeless(plan, runner.run(sender.try_once()))
                with _progress(self.stderr, sender, hidden=options["json"]) as draw:
                    runner.run(_run(sender, draw))
            except KeyboardInterrupt:
                sender.tally.stopped = True
            finally:
                runner.run(sender.aclose())
        self._tell(sender, options)

    def _tell(self, sender: Sender, options: dict[str, Any]) -> None:
        plan, tally = sender.plan, sender.tally
        if options["json"]:
            self.stdout.write(json.dumps(as_json(plan, tally), indent=2))
        else:
            console = console_on(self.stdout, no_color=options["no_color"])
            console.print(page(plan, tally, console))
        if tally.stopped:
            sys.exit(_STOPPED)
        if not tally.good:
            raise CommandError("Not one request was answered as it should be.")


def _plan(options: dict[str, Any]) -> Plan:
    requests, seconds = options["requests"], options["seconds"]
    if requests is None and seconds is None:
        requests = _DEFAULT_REQUESTS
    try:
        target = target_of(options["url"], options["model"], _key(options["key"]))
    except PlanProblem as problem:
        raise CommandError(f"This cannot be tested: {problem}. Write a URL like http://127.0.0.1:4243/v1.") from None
    connections = min(options["connections"], requests or plans.MOST_CONNECTIONS)
    return Plan(target, options["model"], options["stream"], connections, requests, seconds, options["rate"])


def _key(given: str | None) -> str | None:
    if given is None or not given.startswith(_REFERENCE):
        return given
    name = given.removeprefix(_REFERENCE)
    key = variables().get(name)
    if not key:
        raise CommandError(f"The variable {name} is not set; --key takes the API key from it.")
    return key


def _ask_leave(plan: Plan) -> None:
    warning = f"This sends {plan.amount} to {plan.target.origin.host}: real requests, which may cost money."
    if not sys.stdin.isatty():
        raise CommandError(f"{warning} Add --yes if you want that.")
    answer = ""
    with suppress(EOFError, KeyboardInterrupt):
        answer = input(f"{warning} Go on? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was sent.")


def _refuse_hopeless(plan: Plan, first: Answer) -> None:
    """Where the first request shows that no other can do better, they are spared. Raises CommandError."""
    if not first.trouble or first.status in (408, 429) or first.status >= 500:
        return
    what = f"{url_of(plan)}: {first.trouble}."
    if not first.status:
        raise CommandError(f"{what} Is the server running, and is this its URL?")
    remedy = "Is this an OpenAI-compatible server?" if first.status < 400 else "It does not take this request."
    raise CommandError(f"{what} {_REMEDIES.get(first.status, remedy)}")


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop


async def _run(sender: Sender, draw: Callable[[], None]) -> None:
    async def keep_drawing() -> None:
        while True:
            await asyncio.sleep(_DRAWN_EVERY_S)
            draw()

    drawing = asyncio.ensure_future(keep_drawing())
    try:
        await sender.run()
    finally:
        drawing.cancel()


@contextmanager
def _progress(stream: Any, sender: Sender, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """On a terminal only, and gone at the end. Draws when it is told to: a thread of its own would be measured too."""
    console = console_on(stream)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = hidden or not console.is_terminal
    with Progress(*columns, console=console, transient=True, auto_refresh=False, disable=hidden) as progress:
        task = progress.add_task("", total=1.0)

        def draw() -> None:
            told = f"{sender.tally.requests:,} answered, {sender.tally.failed:,} errors"
            progress.update(task, completed=sender.share_done(), description=told, refresh=True)

        yield draw
