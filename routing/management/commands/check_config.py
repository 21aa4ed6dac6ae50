"""`manage.py check_config FILE`: is this file a usable configuration? Needs no database and changes nothing."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from routing.config import yaml_file
from routing.config.references import STORED, resolve
from routing.config.schema import problems


class Command(BaseCommand):
    """Prints every problem as `file:line:column key message`; exit code 1 if there is one."""

    help = "Checks a YAML configuration: all problems at once, as file:line:column key message."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the YAML file")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            parsed = yaml_file.read(file)
        except yaml_file.FileInvalid as error:
            self.stderr.write(str(error))
            sys.exit(1)
        resolution = resolve(parsed.configuration, settings.LLMPROXY_VARIABLES(), settings.LLMPROXY.secrets_dir, {})
        # Stored keys are in the database, which may be another one here: import_config looks there.
        invalid = {name: reason for name, reason in resolution.invalid.items() if not name.startswith(STORED)}
        complaints = [f"{reference}: {reason}" for reference, reason in sorted(invalid.items())]
        complaints += map(str, problems(resolution.configuration))
        unset = [
            name for name in resolution.all_missing if name not in resolution.invalid and not name.startswith(STORED)
        ]
        if unset:
            complaints.append("no value for " + ", ".join(unset) + ": set the variables, or put the secret files there")
        if complaints:
            self.stderr.write("\n".join(f"{file}: {complaint}" for complaint in complaints))
            sys.exit(1)
        groups = parsed.configuration.model_groups
        endpoints = sum(len(group.models) for group in groups)
        self.stdout.write(f"{file} is good. Model groups: {len(groups)}, endpoints: {endpoints}.")
