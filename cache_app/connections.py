"""What the cache asks of its connections to the store. The site builds them."""

import asyncio
from typing import Any, Protocol

Word = str | bytes | int | float


class Waiter(Protocol):
    """As much of a future as the line needs."""

    def done(self) -> bool: ...

    def set_result(self, reply: Any, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...

    def exception(self) -> BaseException | None: ...


class Line(Protocol):
    """The connection that all requests share. What is sent is carried out in this order."""

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """One command's reply, soon: else ConnectionError. A refusal of the store is a RedisError."""
        ...

    def ask_once(self, words: tuple[Word, ...]) -> "asyncio.Future[Any]":
        """The same, for all who ask it before it is sent. Not to be cancelled."""
        ...

    def ask_packed(self, command: bytes) -> "asyncio.Future[Any]":
        """The same of a command as it goes over the wire."""
        ...

    def ask_for(self, waiter: Waiter, command: bytes) -> None:
        """The same, and the waiter is told when the reply is read: it must not take long, nor fail."""
        ...

    def post(self, *words: Word) -> bool:
        """One command whose reply nobody waits for."""
        ...


class Link(Protocol):
    """Connections of one's own, for large values and long lists. Raises ConnectionError."""

    async def run(self, *commands: tuple[Word, ...], timeout_s: float | None = None) -> list[Any]: ...
