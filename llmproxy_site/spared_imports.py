"""Keeps libraries from importing what they could work with but nobody here asks of them: every worker would hold it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def spared(*packages: str) -> Iterator[None]:
    """Within it these cannot be imported, as if they were not installed. What is imported already stays so."""
    hidden = [package for package in packages if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]  # "The import system": None raises ModuleNotFoundError
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]
