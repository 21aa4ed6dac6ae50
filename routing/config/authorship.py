"""Who changes the configuration, from where and why: said once around the changes, found in their revision."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Authorship:
    """What a revision tells of its origin. `source`: "admin", "shell", "rollback", "import of llmproxy.yaml"."""

    author: str
    source: str
    message: str = ""


_said: ContextVar[Authorship | None] = ContextVar("authorship", default=None)


@contextmanager
def authored_by(author: str, source: str, message: str = "") -> Iterator[None]:
    """Revisions made inside tell this."""
    token = _said.set(Authorship(author, source, message))
    try:
        yield
    finally:
        _said.reset(token)


def authorship() -> Authorship:
    """What was said last; without a word, whoever runs this process changes things by hand."""
    return _said.get() or Authorship(system_user(), "shell")


def system_user() -> str:
    """The name of the user that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"
