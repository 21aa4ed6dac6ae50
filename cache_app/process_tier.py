"""The newest answers in this process's own memory, in front of the store: bounded by bytes, the least used go first.

What it holds is forgotten soon, so that a lost word of a deletion does not matter for long. Large answers it does not
hold: it knows those that are being sent, so that a thousand slow clients of one need no copy each.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from cache_app.entry import Entry

MOST_BYTES = 32 << 20
LARGEST_ENTRY = 1 << 20
KEPT_S = 30.0
_OVERHEAD = 1024  # bytes of an entry beside its body


class ProcessTier:
    """Entries by key. `epoch` changes whenever it is emptied: what was asked for before must not be put in after."""

    def __init__(self, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self.epoch = 0
        self.held_bytes = 0
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()
        self._large: WeakValueDictionary[bytes, Entry] = WeakValueDictionary()
        self._large_until = 0.0  # of all of them; 0: there are none

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, unix_now: float) -> Entry | None:
        """None: not here, or no longer good."""
        found = self._entries.get(key)
        if found is None:
            return self._get_large(key, unix_now) if self._large_until else None
        until, entry = found
        if self._clock() >= until or unix_now >= entry.expires_at:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        if len(entry.body) > LARGEST_ENTRY:
            self._large_until = self._large_until or self._clock() + KEPT_S
            self._large[key] = entry
            return
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (self._clock() + KEPT_S, entry)
        self.held_bytes += len(entry.body) + _OVERHEAD
        while self.held_bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        self.epoch += 1
        self.held_bytes = 0
        self._entries.clear()
        self._forget_large()

    def _get_large(self, key: bytes, unix_now: float) -> Entry | None:
        if self._clock() >= self._large_until:
            self._forget_large()
        entry = self._large.get(key)
        return entry if entry is not None and unix_now < entry.expires_at else None

    def _forget_large(self) -> None:
        self._large.clear()
        self._large_until = 0.0

    def _drop(self, key: bytes) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self.held_bytes -= len(found[1].body) + _OVERHEAD
