"""`manage.py import_config FILE`: a YAML file into the database, as one revision, without fighting the admin."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.text import Text

from routing.config import yaml_file
from routing.config.authorship import system_user
from routing.config.change_text import lines_of, value_of
from routing.config.merge import Conflict, Winner
from routing.config.wording import ConfigurationInvalid, shown
from routing.config.yaml_import import Conflicted, ImportResult, import_parsed, plan_import
from routing.management.database import usable_database

CONFLICT, FOUND_CHANGES = 2, 3
_STYLES = {"added": "green", "removed": "red", "changed": "yellow", "moved": "yellow"}


class Command(BaseCommand):
    """Exit codes: 0 done, 1 the file is not usable, 2 conflicts (nothing was written), 3 a dry run found changes."""

    help = "Imports a YAML configuration into the database as one revision and prints what changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the YAML file")
        parser.add_argument("--dry-run", action="store_true", help="change nothing; exit code 3 if there are changes")
        parser.add_argument("--prune", action="store_true", help="remove what the file does not name any more")
        winners = parser.add_mutually_exclusive_group()
        winners.add_argument(
            "--ours", action="store_const", const="database", dest="winner", help="the database wins conflicts"
        )
        winners.add_argument("--theirs", action="store_const", const="file", dest="winner", help="the file wins them")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")

    def handle(self, *args: Any, file: Path, dry_run: bool, as_json: bool, **options: Any) -> None:
        result, written = self._result(file, dry_run, options["prune"], options["winner"])
        refused = bool(result.undecided)
        if as_json:
            self.stdout.write(json.dumps(_as_json(result), indent=2))
        else:
            self._tell(result, refused=refused, dry_run=dry_run)
        self._warn(result)
        if refused:
            sys.exit(CONFLICT)
        if not written and result.changes:
            sys.exit(FOUND_CHANGES)

    def _result(self, file: Path, dry_run: bool, prune: bool, winner: Winner | None) -> tuple[ImportResult, bool]:
        """And whether it was written."""
        try:
            with usable_database():
                parsed = yaml_file.read(file)
                if dry_run:
                    return plan_import(parsed, prune=prune, winner=winner), False
                source = f"import of {file.name}"
                return import_parsed(parsed, author=system_user(), source=source, prune=prune, winner=winner), True
        except Conflicted as conflicted:
            return conflicted.plan, False
        except yaml_file.FileInvalid as error:
            self.stderr.write(str(error))
            sys.exit(1)
        except ConfigurationInvalid as error:
            raise CommandError(f"The database holds what is no configuration; --prune replaces it.\n{error}") from None

    def _tell(self, result: ImportResult, *, refused: bool, dry_run: bool) -> None:
        console = Console(file=self.stdout, soft_wrap=True, highlight=False)  # type: ignore[arg-type]
        for change in result.changes:
            for line in lines_of(change):
                console.print(Text(line, _STYLES[change.kind]))
        if result.kept:
            console.print(Text(f"Kept, though not in the file (--prune removes): {', '.join(map(shown, result.kept))}"))
        for conflict in result.conflicts:
            console.print(Text(_side_by_side(conflict), "bold red" if refused else "yellow"))
        if refused:
            console.print(Text(_REFUSED.format(len(result.conflicts))))
        elif not result.changes:
            console.print(Text(f"Nothing to change; the revision is still {result.revision}."))
        elif dry_run:
            console.print(Text(f"Changes: {len(result.changes)}. Nothing was written (--dry-run)."))
        else:
            console.print(Text(f"Imported as revision {result.revision}. Changes: {len(result.changes)}."))

    def _warn(self, result: ImportResult) -> None:
        for blanked in result.blanked:
            self.stderr.write(f"Warning: the stored key was taken out, it was for another host: {blanked}")
        for reference, reason in sorted(result.resolution.invalid.items()):
            self.stderr.write(f"Warning: {reference}: {reason}")
        if result.missing:
            self.stderr.write(f"Warning: no usable value for {', '.join(result.missing)}")
        if result.resolution.missing:
            names = ", ".join(map(shown, sorted(result.resolution.missing)))
            self.stderr.write(f"Warning: out of service until they have one: {names}")


_REFUSED = (
    "Conflicts: {}. Both sides changed since the last import, so nothing was written. "
    "--ours keeps what the database says, --theirs takes what the file says."
)


def _side_by_side(conflict: Conflict) -> str:
    place = f"{shown(conflict.what)} {shown(conflict.key)}".rstrip()
    sides = (("base", conflict.base), ("database", conflict.database), ("file", conflict.file))
    return f"! {place}: " + " | ".join(f"{side}: {value_of(value)}" for side, value in sides)


def _as_json(result: ImportResult) -> dict[str, Any]:
    return {
        "revision": result.revision,
        "changes": [change.as_json() for change in result.changes],
        "conflicts": [conflict.as_json() for conflict in result.conflicts],
        "kept": list(result.kept),
        "blanked": list(result.blanked),
        "missing": list(result.missing),
    }
