"""`manage.py export_config [FILE]`: the configuration of the database as YAML, without any secret in clear."""

import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.config import yaml_file
from routing.config.schema import Configuration
from routing.config.snapshot import read_configuration
from routing.config.wording import ConfigurationInvalid
from routing.config.yaml_update import updated
from routing.management.database import usable_database


class Command(BaseCommand):
    """Importing what this writes changes nothing. In a file that is there, only what differs is changed."""

    help = (
        "Writes the configuration as YAML. References stay references; stored keys are named by their fingerprint. In a"
        " file that is there, comments, order and all lines that still hold are left as they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="where to write; without it, standard output")

    def handle(self, *args: Any, file: Path | None, **options: Any) -> None:
        try:
            with usable_database():
                configuration = read_configuration()
        except ConfigurationInvalid as error:
            raise CommandError(f"The database holds what is no configuration; mend it in the admin.\n{error}") from None
        if file is None:
            self.stdout.write(yaml_file.dump(configuration), ending="")
            return
        try:
            _replace(file, self._content(file, configuration))
        except OSError as error:
            raise CommandError(f"{file}: cannot be written: {error.strerror}") from None
        self.stdout.write(f"Wrote {file}")

    def _content(self, file: Path, configuration: Configuration) -> bytes:
        anew = yaml_file.dump(configuration).encode()
        if not file.exists():
            return anew
        try:
            content = file.read_bytes()
            kept = updated(content, yaml_file.parse(content, str(file)), configuration)
            why = "it is spelled in a way that cannot be kept"
        except yaml_file.FileInvalid as error:
            kept, why = None, str(error).splitlines()[0]
        if kept is None:
            self.stderr.write(f"Written anew, without the comments and the order of the old file: {why}")
        return kept or anew


def _replace(file: Path, content: bytes) -> None:
    """Whole or not at all: an interrupted export leaves the old file."""
    target = file.resolve()
    descriptor, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(draft).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
