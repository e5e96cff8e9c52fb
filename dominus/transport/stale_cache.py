"""The last known values of secrets, encrypted in memory, for readers who prefer stale to nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dominus.crypto import SecretBox

__all__ = ["StaleCache"]

MAX_ENTRIES = 1024


class StaleCache:
    """Bounded, least recently used out first; an entry's age counts from when it was written."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self.hits = 0
        """Counted by the reader, when a value was used instead of an answer."""

    def put(self, key: str, value: bytes, now: float, box: SecretBox) -> None:
        """Keep a value, sealed."""
        sealed = box.seal(value)
        with self._lock:
            self._entries[key] = (now, sealed)
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def get(self, key: str, max_age: float, now: float, box: SecretBox) -> tuple[bytes, float] | None:
        """Return a value that is at most `max_age` seconds old, with its age."""
        with self._lock:
            found = self._entries.get(key)
            if found is None or now - found[0] > max_age:
                return None
            self._entries.move_to_end(key)
        return box.open(found[1]), now - found[0]

    def drop(self, key: str) -> None:
        """Forget a value that was deleted."""
        with self._lock:
            self._entries.pop(key, None)
