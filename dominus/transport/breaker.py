"""A circuit breaker per service.

    closed --5 system failures in a row--> open --30 s--> half open --one success--> closed
                                             ^------------- one failure -----------'

pybreaker was measured and left out: it has no asyncio support but Tornado's, holds a lock while the guarded call
runs, reads the wall clock, and lets every waiting caller through when it is half open (docs/architecture.md).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from dominus.transport.clock import Clock

__all__ = ["Breaker", "BreakerState"]


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What a breaker knows; `transition` functions make new ones."""

    failure_count: int = 0
    opened_at: float | None = None
    is_probing: bool = False

    def name(self, now: float, reset_seconds: float) -> str:
        """Return `closed`, `open` or `half-open`."""
        if self.opened_at is None:
            return "closed"
        return "half-open" if self.is_probing or now - self.opened_at >= reset_seconds else "open"


CLOSED = BreakerState()


def enter(state: BreakerState, now: float, reset_seconds: float) -> BreakerState | float:
    """Return the state after an attempt is let through, or the seconds until one may be."""
    if state.opened_at is None:
        return state
    wait = state.opened_at + reset_seconds - now
    if wait > 0:
        return wait
    # One probe at a time: the others learn how it went a moment later.
    return 1.0 if state.is_probing else replace(state, is_probing=True)


def after_failure(state: BreakerState, now: float, threshold: int) -> BreakerState:
    """Return the state after a system failure."""
    count = state.failure_count + 1
    if state.is_probing or (state.opened_at is None and count >= threshold):
        return BreakerState(failure_count=count, opened_at=now)
    return replace(state, failure_count=count)


class Breaker:
    """Shared by the loops and threads of a process. `enter`, then exactly one of the other three."""

    def __init__(self, clock: Clock, *, threshold: int = 5, reset_seconds: float = 30.0) -> None:
        self._clock = clock
        self._threshold = threshold
        self._reset_seconds = reset_seconds
        self._lock = threading.Lock()
        self._state = CLOSED

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return self._state.name(self._clock.monotonic(), self._reset_seconds)

    def enter(self) -> float | None:
        """Return None when an attempt may go out, else the seconds until it makes sense to ask again."""
        if self._state is CLOSED:
            return None
        with self._lock:
            after = enter(self._state, self._clock.monotonic(), self._reset_seconds)
            if isinstance(after, BreakerState):
                self._state = after
                return None
            return after

    def success(self) -> None:
        """Close: the service answered."""
        if self._state is not CLOSED:
            with self._lock:
                self._state = CLOSED

    def failure(self) -> None:
        """Count a system failure."""
        with self._lock:
            self._state = after_failure(self._state, self._clock.monotonic(), self._threshold)

    def abandon(self) -> None:
        """Free the probe's place: its outcome is not known (cancelled, or the deadline passed)."""
        if self._state.is_probing:
            with self._lock:
                self._state = replace(self._state, is_probing=False)
