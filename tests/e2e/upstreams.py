"""Upstreams in a thread of their own, so that tests which block (the SDK's synchronous client) can talk to them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread; `run` waits for a coroutine there."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstreams", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def run(self, start: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async def called() -> T:
            return await start(*arguments)

        future: Future[T] = asyncio.run_coroutine_threadsafe(called(), self._loop)
        return future.result(30)
