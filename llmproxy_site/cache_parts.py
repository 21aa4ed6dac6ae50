"""Builds the cache of one worker: its connections to the store, the tier in memory, and what listens for deletions."""

from cache_app.answers import AnswerCache
from cache_app.deletion import channel, delete_answers
from cache_app.store import AnswerStore
from llmproxy_site.store import StoreAddress
from llmproxy_site.store_line import store_line
from llmproxy_site.store_link import StoreLink
from routing.attempt import Attempt
from routing.caching import Caching
from routing.config.schema import CacheParams
from stats.recorder import Recorder

_LARGE_VALUE_S = 1.0  # 64 MB take 0.4 s from a store of the same machine


class CacheParts:
    """params: those that the process started with; where the cache is does not change while it runs."""

    def __init__(self, store: StoreLink, address: StoreAddress, params: CacheParams, recorder: Recorder) -> None:
        """store: the general link. A large value takes its time; it must not make that one, or who uses it, wait."""
        news = store.news if address == store.address else None
        self._link = StoreLink(address, reply_timeout_s=_LARGE_VALUE_S, news=news)
        self._line = store_line(address, news=self._link.news)
        self._namespace = params.namespace
        self._answers = AnswerStore(self._line, self._link, self._namespace, recorder)
        self._cache: AnswerCache[Attempt] = AnswerCache(self._answers)
        self._listened = False
        self.caching = Caching(self._cache, recorder)

    async def delete(self, group: str | None) -> int:
        """Deletes kept answers for all workers, of one model group or all; how many. Raises ConnectionError."""
        return await delete_answers(self._link, self._namespace, group)

    def forget(self) -> None:
        """What this worker has in memory; the store keeps its own."""
        self.caching.forget()

    def nobody_waits(self) -> bool:
        """No answer is asked for or passed on to several requests now."""
        return self._cache.idle()

    async def listen(self) -> None:
        """Forgets when an operator deletes anywhere; for ever. The first look-up then need not connect."""
        self._line.connect()
        await self._link.listen(channel(self._namespace), lambda _: self.forget(), self._connected)

    async def _connected(self) -> None:
        if self._listened:  # a deletion may have been missed since
            self.forget()
        self._listened = True

    async def aclose(self) -> None:
        await self._answers.aclose()
        await self._line.aclose()
        await self._link.aclose()
