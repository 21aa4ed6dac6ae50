"""What a server hands over without a wait. Whoever asks for it may look at it before awaiting it."""

from collections.abc import Generator
from typing import Any


class Ready:
    """An awaitable that is never waited for. `value`: what awaiting it gives."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self.value
