"""`manage.py rotate_keys`: stored secrets are encrypted with the newest of LLMPROXY_ENCRYPTION_KEYS."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from routing.config import stored_secrets
from routing.config.publish import lock_configuration
from routing.management.database import usable_database


class Command(BaseCommand):
    """Exit code 1 if some could not be decrypted; the others are rotated all the same. References stay valid."""

    help = "Encrypts the stored secrets with the newest encryption key, so that older keys can be taken away."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json", help="print the result as JSON")

    def handle(self, *args: Any, as_json: bool, **options: Any) -> None:
        with usable_database(), transaction.atomic():
            lock_configuration()
            rotated, lost = stored_secrets.rotate()
            total = len(stored_secrets.fingerprints())
        if as_json:
            self.stdout.write(json.dumps({"rotated": rotated, "stored": total, "undecryptable": lost}, indent=2))
        else:
            self.stdout.write(f"Encrypted anew: {rotated} of {total} stored secrets. The others needed nothing.")
        if lost:
            self.stderr.write(
                f"Cannot be decrypted with any of LLMPROXY_ENCRYPTION_KEYS: {', '.join(lost)}. Add the key that they"
                " were encrypted with and run this again, or type them anew."
            )
            sys.exit(1)
        if not as_json:
            self.stdout.write("Once every process runs with the newest key, older ones can be taken away.")
