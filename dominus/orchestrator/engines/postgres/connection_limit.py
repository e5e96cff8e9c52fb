"""How many connections PostgreSQL has for a pool: fewer than the pool may have while others use them up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

__all__ = ["FULL_HINT", "FULL_STATE", "ConnectionLimit"]

logger = logging.getLogger("dominus.postgres")

FULL_STATE = "53300"
FULL_HINT = "raise max_connections of PostgreSQL, or lower DOMINUS_POOL_SIZE or the number of workers"
"""PostgreSQL has no connection left: its code for that, and what to do."""

REFUSED_SECONDS = 5.0
"""After a refusal so long no other is asked for: not each caller has to find out."""
EMPTY_SECONDS = 0.25
"""The same for a pool that has none at all, whose callers can only wait until others give one up."""


class ConnectionLimit:
    """The size of a pool, and less after a refusal; then it tries one more at a time.

    Attributes:
        current: connections that may be open or on their way.
    """

    def __init__(self, size: int, when_raised: Callable[[], None]) -> None:
        """Prepare.

        Args:
            size: connections, when PostgreSQL has them.
            when_raised: called when there is room for another one.
        """
        self.current = size
        self._size = size
        self._watcher: Callable[[int], None] | None = None
        self._when_raised = when_raised
        self._pause: asyncio.TimerHandle | None = None
        self._refused_at = float("-inf")

    def watch(self, watcher: Callable[[int], None]) -> None:
        """Call `watcher(current)` whenever that changes, and is not 0."""
        self._watcher = watcher

    def refused(self, open_count: int) -> None:
        """PostgreSQL refused a connection while `open_count` were open."""
        loop = asyncio.get_running_loop()
        if self.current >= self._size:
            logger.warning("PostgreSQL has no connection left: a pool of %d waits for its own", self._size)
        self._end_pause()
        self._refused_at = loop.time()
        self._set(open_count)
        self._pause = loop.call_later(REFUSED_SECONDS if open_count else EMPTY_SECONDS, self._try_another)

    def opened(self, open_count: int) -> None:
        """PostgreSQL gave one, and now `open_count` are open: the next may be tried, unless one was just refused."""
        if self.current >= self._size:
            return
        if self._pause is not None:
            self._set(max(self.current, open_count))
            return
        self._set(min(self._size, open_count + 1))
        self._when_raised()

    def was_refused(self, seconds: float) -> bool:
        """Return whether PostgreSQL refused a connection in the last so many seconds."""
        return asyncio.get_running_loop().time() - self._refused_at < seconds

    def close(self) -> None:
        """Forget what was refused; nothing is tried any more."""
        self._end_pause()
        self.current = self._size

    def _try_another(self) -> None:
        self._pause = None
        self._set(min(self._size, self.current + 1))
        self._when_raised()

    def _set(self, count: int) -> None:
        is_new, self.current = count != self.current, count
        if is_new and count and self._watcher is not None:
            self._watcher(count)

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
