"""pybreaker behind the few words that a Breaker needs."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

import pybreaker

from dominus.transport.clock import Clock

__all__ = ["BreakerName", "Circuit"]

BreakerName = Literal["closed", "open", "half-open"]


class _Failed(Exception):  # noqa: N818 - it is told to pybreaker and never leaves this file
    """Tells pybreaker of a failure."""


class _Storage(pybreaker.CircuitMemoryStorage):
    """Keeps the moment of the opening on our clock; pybreaker asks for it as wall time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(pybreaker.STATE_CLOSED)
        self._clock = clock
        self.moment: float | None = None

    @property
    def opened_at(self) -> datetime | None:
        """When it was opened: now, less its age."""
        if self.moment is None:
            return None
        return datetime.now(UTC) - timedelta(seconds=self._clock.monotonic() - self.moment)

    @opened_at.setter
    def opened_at(self, datetime: datetime | None) -> None:
        self.moment = None if datetime is None else self._clock.monotonic()


class _Listener(pybreaker.CircuitBreakerListener):
    """Collects the changes; pybreaker tells them under its lock, and before its own state follows."""

    def __init__(self) -> None:
        self.changes: deque[tuple[BreakerName, BreakerName]] = deque()

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        """Note a change."""
        del cb
        old = old_state.name if old_state is not None else pybreaker.STATE_CLOSED
        if old != new_state.name:
            self.changes.append((cast("BreakerName", old), cast("BreakerName", new_state.name)))


class Circuit:
    """One pybreaker.CircuitBreaker; its caller holds a lock."""

    def __init__(self, clock: Clock, threshold: int) -> None:
        self._clock = clock
        self._listener = _Listener()
        self._storage = _Storage(clock)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=threshold,
            state_storage=self._storage,
            listeners=[self._listener],
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> BreakerName:
        """`closed`, `open` or `half-open`."""
        return cast("BreakerName", self._breaker.current_state)

    @property
    def wait_left(self) -> float:
        """Seconds until a probe may go, 0 or less when it may."""
        opened = self._storage.moment
        if opened is None or self.state != pybreaker.STATE_OPEN:
            return 0.0
        return opened + self._breaker.reset_timeout - self._clock.monotonic()

    def half_open(self) -> None:
        """Let a probe through."""
        self._breaker.half_open()

    def succeed(self) -> None:
        """Note a success: it closes."""
        if self.state == pybreaker.STATE_OPEN:
            # A call of before the opening was answered after it.
            self._breaker.close()
        else:
            self._breaker.call(_nothing)

    def fail(self, wait: float) -> None:
        """Note a failure: it may open, and then for so many seconds."""
        self._breaker.reset_timeout = wait
        try:
            self._breaker.call(_fail)
        except _Failed:
            return

    def take_changes(self) -> list[tuple[BreakerName, BreakerName]]:
        """Return the changes since it was last asked, and forget them."""
        changes = self._listener.changes
        return [changes.popleft() for _ in range(len(changes))]


def _nothing() -> None:
    return


def _fail() -> None:
    raise _Failed
