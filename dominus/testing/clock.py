"""Time that tests move: deadlines, back-off, expiry and leases without waiting."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import weakref

from dominus.errors import ValidationError

__all__ = ["MovableClock"]

IDLE_TURNS = 64
"""Turns of the event loop that tasks get to come to rest; enough for what waits for nothing outside the process."""


class MovableClock:
    """A clock for `Dominus(clock=...)` that stands still until it is moved. It belongs to one event loop.

    With `auto=True` sleeping moves the clock by itself, at once: back-off costs no time, and `slept` tells how
    long it was. That is for code that sleeps now and then; a task that sleeps in an endless loop, as a lock's
    renewal does, wants `advance`.

    Attributes:
        slept: the seconds of every `sleep`, in the order of their calls.
    """

    def __init__(self, start: float = 1000.0, *, auto: bool = False) -> None:
        self.slept: list[float] = []
        self._now = start
        self._auto = auto
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._scopes: list[tuple[float, int, weakref.ref[asyncio.Timeout]]] = []

    def monotonic(self) -> float:
        """Return the time it shows."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved that far."""
        self.slept.append(seconds)
        if self._auto:
            self._move(self._now + max(0.0, seconds))
            await asyncio.sleep(0)
            return
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Return a context manager that ends its block with TimeoutError once the clock was moved that far."""
        scope = asyncio.timeout(0 if seconds <= 0 else None)
        if math.isfinite(seconds):
            heapq.heappush(self._scopes, (self._now + seconds, next(self._order), weakref.ref(scope)))
        return scope

    async def advance(self, seconds: float) -> None:
        """Move the clock; what falls due on the way happens in order, and tasks run until they rest.

        Raises:
            ValidationError: time does not go back.
        """
        if not 0 <= seconds < math.inf:
            raise ValidationError(f"seconds: {seconds} is not a positive number; time does not go back")
        target = self._now + seconds
        await _rest()
        while (due := self._next_due()) <= target:
            self._move(due)
            await _rest()
        self._now = max(self._now, target)
        await _rest()

    @property
    def sleeper_count(self) -> int:
        """How many tasks sleep."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def _next_due(self) -> float:
        return min(
            self._sleepers[0][0] if self._sleepers else math.inf,
            self._scopes[0][0] if self._scopes else math.inf,
        )

    def _move(self, to: float) -> None:
        self._now = max(self._now, to)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
        while self._scopes and self._scopes[0][0] <= self._now:
            _expire(heapq.heappop(self._scopes)[2]())


async def _rest() -> None:
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)


def _expire(scope: asyncio.Timeout | None) -> None:
    if scope is None:
        return
    try:
        scope.reschedule(asyncio.get_running_loop().time())
    except RuntimeError:
        # Its block has ended, as most blocks do.
        return
