"""`manage.py runserver`: daphne with autoreload for development, around the same ASGI application as `serve`."""

import sys
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from daphne.management.commands.runserver import Command as DaphneRunserver
from django.conf import settings
from django.core.management.base import CommandError

from llmproxy_site.environment import Environment, variables
from llmproxy_site.first_run import ADMIN
from llmproxy_site.server import BindProblem
from llmproxy_site.start import StartRefused, make_ready, refuse_public_bind, store_running

_QUIET_PATHS = ("/health", "/static/")  # asked for every few seconds, or by every page


class Command(DaphneRunserver):
    """What the autoreloader restarts serves; the process that stays keeps the embedded store."""

    addr: str  # set by Django from the argument

    help = (
        "Runs the gateway for development (daphne, autoreload) on Django's usual 127.0.0.1:8000 unless given. Migrates,"
        " but imports no YAML: use import_config."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)  # type: ignore[no-untyped-call]
        parser.set_defaults(use_static_handler=False)  # servestatic serves them, as under `serve`

    def run(self, **options: Any) -> None:
        """Called with the address parsed, in both the staying and the serving process."""
        if "RUN_MAIN" in variables():  # the autoreloader's child: all is ready
            super().run(**options)
            return
        environment: Environment = settings.LLMPROXY
        with ExitStack() as held:
            try:
                ready = make_ready(environment, None, self._warn)
                refuse_public_bind(self.addr, ready.general, self._warn)
                held.enter_context(store_running(environment, ready.store, self._warn))
            except (StartRefused, BindProblem) as refused:
                raise CommandError(str(refused)) from refused
            if ready.admin_password is not None:
                self.stdout.write(f"Admin user {ADMIN}, password {ready.admin_password} (shown this once)")
            super().run(**options)

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """daphne's line per request, but for what is asked for all the time."""
        if details.get("status", 200) < 400 and str(details.get("path", "")).startswith(_QUIET_PATHS):
            return
        super().log_action(protocol, action, details)  # type: ignore[no-untyped-call]

    def _warn(self, message: str) -> None:
        print(f"Warning: {message}", file=sys.stderr)  # noqa: T201
