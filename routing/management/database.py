"""What commands say when the database cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError


@contextmanager
def usable_database() -> Iterator[None]:
    """Turns the database's own errors into one that names the remedy."""
    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CommandError(
            f"The database cannot be used ({reason}). Run `manage.py migrate`, see DATABASE_URL."
        ) from None
