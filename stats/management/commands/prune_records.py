"""`manage.py prune_records`: deletes records of requests that are old. The server does the same by itself."""

import json
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from stats.retention import KEEP_RECORDS_S, delete_slices, expired, parse_age
from stats.rollups import DAY

_KINDS = ("records", "minutes", "hours")


def _age(text: str) -> int:
    try:
        return parse_age(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


class Command(BaseCommand):
    """Exit code 3: a dry run has found something to delete."""

    help = "Deletes records of requests that are older than 30 days, and sums by minute and hour that nobody needs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = f"{KEEP_RECORDS_S // DAY}d"
        parser.add_argument(
            "--older-than", type=_age, default=default, metavar="AGE", help=f"like 30d, 12h, 90m; default: {default}"
        )
        parser.add_argument("--dry-run", action="store_true", help="delete nothing; exit code 3 if something would go")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, older_than: int, dry_run: bool, **options: Any) -> None:
        try:
            counts = _prune(older_than, dry_run)
        except Error as error:
            reason = str(error).strip().splitlines()[0]
            raise CommandError(
                f"The database cannot be used ({reason}). Run `manage.py migrate`, see DATABASE_URL."
            ) from None
        if options["json"]:
            self.stdout.write(json.dumps({**counts, "dry_run": dry_run}))
        else:
            self.stdout.write(_sentence(counts, dry_run))
        if dry_run and any(counts.values()):
            sys.exit(3)


def _prune(older_than_s: int, dry_run: bool) -> dict[str, int]:
    counts: Counter[str] = Counter()
    found = expired(time.time(), older_than_s)
    slices = ((kind, rows.count()) for kind, rows in found) if dry_run else delete_slices(found)
    for kind, count in slices:
        counts[kind] += count
    return {kind: counts[kind] for kind in _KINDS}


def _sentence(counts: dict[str, int], dry_run: bool) -> str:
    what = f"{counts['records']} records, sums of {counts['minutes']} minutes and {counts['hours']} hours"
    return f"{'Would delete' if dry_run else 'Deleted'} {what}."
