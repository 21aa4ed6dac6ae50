"""`manage.py demo`: the gateway in front of two mock upstreams, with a few requests a second, in a data directory of
its own. Needs no key."""

import os
import subprocess
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from llmproxy_site.demo_upstreams import UPSTREAMS
from llmproxy_site.environment import PROJECT, child_environment, private_directory, python_module, with_changes

_CONFIGURATION = """\
# Written by `manage.py demo` at every start.
model_groups:
  - model_group: demo               # both upstreams in turn
    models:
      - {{name: demo-a, model: demo, params: {{base_url: "{mock-a}", api_key: unused}}, price: {price}}}
      - {{name: demo-b, model: demo, params: {{base_url: "{mock-b}", api_key: unused}}, price: {price}}}
  - model_group: demo-weighted      # three of four requests go to the first; the second alone serves when it is down
    cache: false                    # so that equal requests show the shares
    models:
      - {{name: weighted-a, model: w, weight: 3, params: {{base_url: "{mock-a}", api_key: unused}}, price: {price}}}
      - {{name: weighted-b, model: w, weight: 1, params: {{base_url: "{mock-b}", api_key: unused}}, price: {price}}}
general_settings:
  cooldown_time: 15                 # one in forty answers of the second upstream is an error
"""
_PRICE = "{input: 0.15, output: 0.6}"  # as if


class Command(BaseCommand):
    """Becomes `serve`, with another environment: settings are read once per process."""

    help = "Starts two mock upstreams and the gateway in front of them, in a data directory of its own (var/demo)."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", help="default: 127.0.0.1")
        parser.add_argument("--port", type=int, help="default: 4243")
        parser.add_argument("--workers", type=int)
        parser.add_argument("--no-traffic", action="store_true", help="no clients but yours")

    def handle(self, *args: Any, **options: Any) -> None:
        data_dir = private_directory(settings.LLMPROXY.data_dir / "demo")
        host, port = options["host"] or "127.0.0.1", 4243 if options["port"] is None else options["port"]
        traffic = port > 0 and not options.get("no_traffic")  # `serve --or-demo` does not know the option
        clients = "a few requests a second" if traffic else "no requests but yours"
        self.stdout.write(f"Demo mode: two mock upstreams, {clients}; everything is kept in {data_dir}")
        self.stdout.flush()
        file = data_dir / "llmproxy.yaml"
        urls = _upstream_urls([host, str(port)] if traffic else [])
        file.write_text(_CONFIGURATION.format(price=_PRICE, **urls), encoding="utf-8")
        manage = str(PROJECT / "manage.py")
        command = [sys.executable, manage, "serve", "--config", str(file)]
        for name in ("host", "port", "workers"):
            if options[name] is not None:
                command += [f"--{name}", str(options[name])]
        # Not the store or the database of the real installation, whatever the environment names.
        own = with_changes(LLMPROXY_DATA_DIR=str(data_dir), LLMPROXY_CONFIG="", LLMPROXY_REDIS_URL="", DATABASE_URL="")
        if traffic and settings.LLMPROXY.log_level == "INFO":
            own["LOG_LEVEL"] = "WARNING"  # or a line for each request would push what `serve` prints off the screen
        os.execve(sys.executable, command, own)  # noqa: S606 - this interpreter and our own command


def _upstream_urls(gateway: list[str]) -> dict[str, str]:
    """Starts the mocks, and the clients of the gateway at this host and port.

    They end when the pipe to their input does, which is when this process ends.
    """
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)  # survives the exec below and nothing else: whatever `serve` starts closes it
    mocks = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
        [*python_module("llmproxy_site.demo_upstreams"), *gateway],
        env=child_environment(),
        stdin=ours,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C drains the gateway, which needs them until then
        text=True,
    )
    os.close(ours)
    line = mocks.stdout.readline() if mocks.stdout is not None else ""
    if not line:
        raise CommandError("The mock upstreams did not start.")
    return {name: f"http://127.0.0.1:{port}/v1" for name, port in zip(UPSTREAMS, line.split(), strict=True)}
