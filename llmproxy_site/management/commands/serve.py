"""`manage.py serve`: the production server, from a fresh checkout to a drained end."""

import os
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from llmproxy_site import first_run
from llmproxy_site.environment import Environment, adopt
from llmproxy_site.logging import set_level
from llmproxy_site.server import BindProblem, bound_socket, serve_on
from llmproxy_site.start import Ready, StartRefused, configuration_file, make_ready, refuse_public_bind, store_running
from llmproxy_site.startup_text import startup_lines
from llmproxy_site.supervisor import StartFailed, Supervisor

_LEVELS = ("debug", "info", "warning", "error", "critical")
_MOST_WORKERS_UNASKED = 4  # each costs memory and connections to every upstream


class Command(BaseCommand):
    """Exit codes: 0 drained after SIGTERM or SIGINT, 1 bad configuration, address in use or refused."""

    help = (
        "Runs the gateway in production: migrates, imports the YAML (--config, else LLMPROXY_CONFIG, else"
        " ./llmproxy.yaml if there), then serves. SIGTERM and Ctrl-C drain; a second one does not wait."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", help="address to listen on (default: bind_address of the configuration)")
        parser.add_argument("--port", type=int, help="port, 0 = any free one (default: bind_port of the configuration)")
        parser.add_argument("--workers", type=int, help="processes (default: one per CPU, at most 4)")
        parser.add_argument("--config", type=Path, help="YAML file to import before serving")
        parser.add_argument("--log-level", choices=_LEVELS, type=str.lower, help="default: LOG_LEVEL, else info")
        parser.add_argument(
            "--or-demo",
            action="store_true",
            help="with neither a configuration file nor a model group in the database: start the demo instead",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment: Environment = settings.LLMPROXY
        if options["log_level"]:
            set_level(options["log_level"].upper())
            adopt(LOG_LEVEL=options["log_level"].upper())  # for the workers
        if options["workers"] is not None and options["workers"] < 1:
            raise CommandError("--workers must be at least 1", returncode=2)
        file = configuration_file(options["config"], environment)
        if options["or_demo"] and file is None and _nothing_configured(environment):
            call_command("demo", **{name: options[name] for name in ("host", "port", "workers")})
        try:
            self._serve(environment, file, options)
        except (StartRefused, BindProblem) as refused:
            raise CommandError(str(refused)) from refused
        except StartFailed as failed:
            raise CommandError("The gateway did not start; the lines above say why.") from failed

    def _serve(self, environment: Environment, file: Path | None, options: dict[str, Any]) -> None:
        ready = make_ready(environment, file, self._warn)
        host = options["host"] or ready.general.bind_address
        port = ready.general.bind_port if options["port"] is None else options["port"]
        refuse_public_bind(host, ready.general, self._warn)
        workers = _workers(options["workers"], ready)
        if workers == 1:
            self._serve_here(environment, ready, host, port)
        else:
            supervisor = Supervisor(host, port, workers)
            with store_running(environment, ready.store, self._warn):
                supervisor.run(on_ready=partial(self._tell, ready, host, supervisor.port, workers))

    def _serve_here(self, environment: Environment, ready: Ready, host: str, port: int) -> None:
        listening = bound_socket(host, port)
        told = partial(self._tell, ready, host, listening.getsockname()[1], 1)
        with store_running(environment, ready.store, self._warn):
            server = serve_on(listening, on_ready=told)
            try:
                server.run([listening])
            except SystemExit as ended:  # uvicorn's way to say that the application did not start
                raise StartFailed from ended

    def _tell(self, ready: Ready, host: str, port: int, workers: int) -> None:
        for line in startup_lines(ready, host, port, workers, bold=self.style.MIGRATE_LABEL):
            self.stdout.write(line)
        self.stdout.flush()

    def _warn(self, message: str) -> None:
        self.stderr.write(self.style.WARNING(f"Warning: {message}"))


def _nothing_configured(environment: Environment) -> bool:
    from routing.models import ModelGroup

    with first_run.one_at_a_time(environment.data_dir):
        first_run.migrate()
    return not ModelGroup.objects.exists()


def _workers(asked: int | None, ready: Ready) -> int:
    """One, where workers could not share a store or (Windows) a socket."""
    if ready.store.kind == "in_process" or sys.platform == "win32":
        return 1
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or min(cpus, _MOST_WORKERS_UNASKED)
