"""What a start makes ready: the tables, and on the first one the admin user. Several processes may do it at once."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from django.db.utils import IntegrityError

from llmproxy_site.environment import Environment, private_directory

if sys.platform != "win32":
    import fcntl

ADMIN = "admin"


def migrate() -> None:
    """Brings the tables up to date, silently."""
    call_command("migrate", verbosity=0, interactive=False)


def make_admin(environment: Environment) -> str | None:
    """The new admin's password, if this call made the user and chose the password; it is kept nowhere else."""
    users = get_user_model()._default_manager
    if users.filter(is_superuser=True).exists():
        return None
    password = environment.admin_password or secrets.token_urlsafe(15)
    try:
        with transaction.atomic():
            users.create_superuser(ADMIN, password=password)
    except IntegrityError:  # the name is taken: by another process just now, or by a user who is no superuser
        return None
    return None if environment.admin_password else password


@contextmanager
def one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Processes that share the data directory wait for each other here."""
    private_directory(data_dir)
    descriptor = os.open(data_dir / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks
