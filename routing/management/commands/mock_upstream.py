"""`manage.py mock_upstream`: a local OpenAI-compatible server for demos and load tests."""

import asyncio
import contextlib
import signal
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.mock_upstream import MockUpstream

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from asyncio import new_event_loop


class Command(BaseCommand):
    help = "Runs a local OpenAI-compatible server (JSON and streams) that needs no key and knows no model."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=4300, help="0 = any free port (default: 4300)")
        parser.add_argument("--name", default="mock", help="stands in answers and ids")
        parser.add_argument("--latency-ms", type=float, default=0, help="wait before every answer")
        parser.add_argument("--fail-rate", type=float, default=0.0, help="share of requests answered 500, 0 to 1")
        parser.add_argument("--event-interval-ms", type=float, default=0, help="wait between the events of a stream")
        parser.add_argument("--events", type=int, default=0, help="content events of a stream (0 = one per word)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["fail_rate"] <= 1:
            raise CommandError("--fail-rate must be between 0 and 1", returncode=2)
        names = ("name", "latency_ms", "fail_rate", "event_interval_ms", "events")
        mock = MockUpstream(**{name: options[name] for name in names})
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._serve(mock, options["host"], options["port"]))

    async def _serve(self, mock: MockUpstream, host: str, port: int) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the command as KeyboardInterrupt
                loop.add_signal_handler(number, stopped.set)
        try:
            bound = await mock.start(port, host)
        except OSError as error:
            raise CommandError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
        self.stdout.write(f"mock upstream on http://{host}:{bound}/v1")
        self.stdout.flush()
        await stopped.wait()
        await mock.stop()
