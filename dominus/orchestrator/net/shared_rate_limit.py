"""Token buckets by name that all workers and replicas share, without asking for each token.

A worker leases tokens from the bucket in Redis, about a tenth of a second's worth of what it uses, and asks for more
in the background before it has none. While the bucket was well filled at last, a worker also gives a little credit: it
lets a caller pass whose tokens are still on the way, and the bucket pays later. So `take` waits for nobody as long as a
caller is well within its rate; near the limit it is exact, and says None when an answer has to be awaited.

While Redis does not answer, each worker counts alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dominus.errors import DominusError
from dominus.orchestrator.net.rate_limit import MAX_NAMES, RateLimiter

__all__ = ["Ask", "SharedRateLimiter"]

_log = logging.getLogger("dominus.orchestrator")

Ask = Callable[[str, float, float], Awaitable[tuple[float, float]]]
"""(name, tokens wanted, tokens used on credit) -> (tokens given, level of the bucket afterwards).

Below zero, the tokens used on credit are tokens that come back."""

LEASE_SECONDS = 0.1
"""What a lease is to last at the pace of its use; more is asked for when half of it is gone."""
LEAST_SECONDS = 0.02
"""The least lease and the credit, as a part of the rate: a slow caller's requests share one question too."""
LIFE_SECONDS = 5.0
"""Leased tokens that are not used so long go back."""
PAUSE_SECONDS = 0.02
"""An empty bucket is not asked again sooner."""
ASK_SECONDS = 0.5
ALONE_SECONDS = 1.0
"""After a failure of Redis each worker counts alone for so long."""


@dataclass(slots=True)
class _Lease:
    credit: float
    """What `tokens` may fall below zero."""
    good_until: float
    asked_at: float
    tokens: float = 0.0
    closed_until: float = 0.0
    used: float = 0.0
    """Since `asked_at`."""
    low: float = 0.0
    """With fewer tokens, more are asked for."""
    waiting: int = 0
    task: asyncio.Task[None] | None = None


class SharedRateLimiter:
    """`rate` tokens a second, up to `burst` at once, for each name, over all who ask the same bucket."""

    def __init__(
        self, rate: float, burst: float, ask: Ask, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._ask, self._now = rate, burst, ask, now
        self._least = max(1.0, math.floor(min(rate * LEAST_SECONDS, burst / 16)))
        self._most = max(1.0, math.floor(min(rate * LEASE_SECONDS * 2, burst / 4)))
        self._pause = min(PAUSE_SECONDS, burst / rate / 2)
        self._leases: OrderedDict[str, _Lease] = OrderedDict()
        self._alone = RateLimiter(rate, burst, now)
        self._alone_until = 0.0

    def take(self, name: str) -> float | None:
        """Take a token: 0.0 when there was one, else the seconds until there may be; None: ask `wait_for`."""
        now = self._now()
        if now < self._alone_until:
            return self._alone.take(name)
        lease = self._leases.get(name)
        if lease is None:
            lease = self._begin(name, now)
        elif now >= lease.good_until and lease.task is None:
            # What is left goes back with the next question; until then it is credit that counts.
            lease.good_until, lease.credit = now + LIFE_SECONDS, self._least
            self._refill(name, lease, brought_back=lease.tokens)
            lease.tokens = 0.0
        if lease.tokens < 1.0 and now < lease.closed_until:
            return lease.closed_until - now
        if lease.tokens - 1.0 < -lease.credit:
            return None
        lease.tokens -= 1.0
        lease.used += 1.0
        if lease.task is None and lease.tokens < lease.low:
            self._refill(name, lease)
        return 0.0

    async def wait_for(self, name: str) -> float:
        """Take a token when the bucket has answered: 0.0 when there was one, else the seconds until there may be."""
        while True:
            wait = self.take(name)
            if wait is not None:
                return wait
            lease = self._leases[name]
            if lease.task is None:
                self._refill(name, lease)
            if lease.task is not None:
                lease.waiting += 1
                try:
                    # Not ours alone: others wait for the same answer.
                    await asyncio.shield(lease.task)
                finally:
                    lease.waiting -= 1

    async def aclose(self) -> None:
        """Ask nothing more."""
        tasks = [lease.task for lease in self._leases.values() if lease.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, name: str, now: float) -> _Lease:
        lease = self._leases[name] = _Lease(self._least, now + LIFE_SECONDS, now)
        if len(self._leases) > MAX_NAMES:
            self._leases.popitem(last=False)
        return lease

    def _wanted(self, lease: _Lease, now: float) -> float:
        pace = lease.used / max(now - lease.asked_at, LEASE_SECONDS / 2)
        return max(lease.waiting, min(self._most, max(self._least, math.ceil(pace * LEASE_SECONDS))))

    def _refill(self, name: str, lease: _Lease, brought_back: float = 0.0) -> None:
        now = self._now()
        wanted = self._wanted(lease, now)
        on_credit = -min(0.0, lease.tokens) - max(0.0, brought_back)
        lease.tokens = max(0.0, lease.tokens)
        lease.asked_at, lease.used, lease.low = now, 0.0, wanted / 2
        self._leases.move_to_end(name)
        lease.task = asyncio.create_task(self._ask_for(name, lease, wanted, on_credit))

    async def _ask_for(self, name: str, lease: _Lease, wanted: float, on_credit: float) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                given, level = await self._ask(name, wanted, on_credit)
        except (DominusError, TimeoutError) as error:
            if self._now() >= self._alone_until:
                _log.warning("rate limits are counted by each worker alone for now: %s", error)
            self._alone_until = self._now() + ALONE_SECONDS
            return
        finally:
            lease.task = None
        now = self._now()
        lease.tokens += given
        lease.good_until = now + LIFE_SECONDS
        # Credit is for callers far from their limit: at it, every token is counted before it is used.
        lease.credit = self._least if level >= self._burst / 4 else 0.0
        if level < 1.0:
            # What was given is the last for a while: who comes after it is refused at once, not made to wait.
            lease.closed_until = now + max((1.0 - level) / self._rate, self._pause)
