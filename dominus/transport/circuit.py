"""pybreaker behind the few words that a Breaker needs."""

from __future__ import annotations

from collections import deque
from typing import Literal, cast

import pybreaker

__all__ = ["BreakerName", "Circuit"]

BreakerName = Literal["closed", "open", "half-open"]


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
    """The state of one pybreaker.CircuitBreaker, told by a Breaker; its caller holds a lock."""

    def __init__(self) -> None:
        self._listener = _Listener()
        self._breaker = pybreaker.CircuitBreaker(listeners=[self._listener])

    @property
    def state(self) -> BreakerName:
        """`closed`, `open` or `half-open`."""
        return cast("BreakerName", self._breaker.current_state)

    def open(self) -> None:
        """Refuse what cannot wait."""
        self._breaker.open()

    def half_open(self) -> None:
        """Let a probe through."""
        self._breaker.half_open()

    def close(self) -> None:
        """Let everything through."""
        if self.state != pybreaker.STATE_CLOSED:
            self._breaker.close()

    def take_changes(self) -> list[tuple[BreakerName, BreakerName]]:
        """Return the changes since it was last asked, and forget them."""
        changes = self._listener.changes
        return [changes.popleft() for _ in range(len(changes))]
