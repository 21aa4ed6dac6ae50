"""Which revision the running transaction has made already. A later change of the same transaction rewrites it.

A mark among the transaction's commit hooks says so: Django drops it with the very savepoint that is rolled back.
"""

from collections.abc import Callable

from django.db import transaction
from django.db.transaction import Atomic, get_connection

from routing.models import Revision


class _Mark:
    """Does nothing on commit."""

    def __init__(self, number: int, block: Atomic) -> None:
        self.number = number
        self.block = block

    def __call__(self) -> None:
        pass


def outermost_block() -> Atomic | None:
    """The `atomic` block that ends the transaction. A test case's own is none, as for `atomic(durable=True)`."""
    blocks = get_connection().atomic_blocks
    return next((block for block in blocks if not getattr(block, "_from_testcase", False)), None)


def mark(number: int) -> None:
    """Remembers, until the transaction ends, that it made this revision."""
    block = outermost_block()
    if block is not None:
        transaction.on_commit(_Mark(number, block))


def open_revision() -> Revision | None:
    """The revision that this transaction made, if it is still there."""
    block = outermost_block()
    hooks = [entry[1] for entry in get_connection().run_on_commit]
    numbers = {hook.number for hook in hooks if isinstance(hook, _Mark) and hook.block is block}
    return Revision.objects.filter(number__in=numbers).first()


def will_run(hook: Callable[[], None]) -> bool:
    """Whether this is called when the transaction is committed."""
    return any(entry[1] == hook for entry in get_connection().run_on_commit)
