"""Token buckets by name, in the memory of one worker: a limit is that of a worker (see shared_rate_limit.py)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["MAX_NAMES", "RateLimiter"]

MAX_NAMES = 10_000


class RateLimiter:
    """`rate` tokens a second, up to `burst` at once, for each name."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token: 0.0 when there was one, else the seconds until there is."""
        now = self._now()
        known = self._buckets.get(name)
        if known is None:
            level = self._burst
            if len(self._buckets) >= MAX_NAMES:
                self._buckets.popitem(last=False)
        else:
            level = min(self._burst, known[0] + (now - known[1]) * self._rate)
            self._buckets.move_to_end(name)
        if level < 1.0:
            self._buckets[name] = (level, now)
            return (1.0 - level) / self._rate
        self._buckets[name] = (level - 1.0, now)
        return 0.0
