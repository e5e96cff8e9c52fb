"""What all loops and threads of one client share: settings, breakers, the retry budget, counters."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from dominus.settings import Settings
from dominus.transport.breaker import Breaker
from dominus.transport.budget import Budget
from dominus.transport.clock import Clock
from dominus.transport.retry import Policy
from dominus.transport.stale_cache import StaleCache

if TYPE_CHECKING:
    import httpx

__all__ = ["ColdStart", "Shared", "Stats"]

_log = logging.getLogger("dominus.transport")


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What the progress hook is told while a server wakes up."""

    attempt: int
    waited_seconds: float
    reason: str


class Stats(TypedDict):
    """Counters since the client was made."""

    calls: int
    attempts: int
    retries: int
    mints: int
    cache_hits: int
    retry_budget_left: float
    breakers: dict[str, str]


@dataclass(slots=True)
class Shared:
    """One per client; safe to touch from several threads."""

    settings: Settings
    clock: Clock
    transport: httpx.AsyncBaseTransport | None
    """The user's own wire, or None for a pool per loop."""
    on_cold_start: Callable[[ColdStart], None] | None
    policy: Policy
    budget: Budget
    cache: StaleCache
    random: Callable[[], float] = random.random
    breakers: dict[str, Breaker] = field(default_factory=dict[str, Breaker])
    calls: int = 0
    attempts: int = 0
    retries: int = 0
    mints: int = 0
    last_success: float | None = None
    last_used: float | None = None
    is_cold_logged: bool = False
    last_failure: str | None = None
    """Why the latest attempt failed; None after a success."""

    def breaker(self, service: str) -> Breaker:
        """Return the breaker of a service."""
        found = self.breakers.get(service)
        if found is None:
            settings = self.settings
            made = Breaker(
                self.clock, threshold=settings.breaker_threshold, reset_seconds=settings.breaker_reset
            )
            found = self.breakers.setdefault(service, made)
        return found

    def is_cold(self, now: float) -> bool:
        """Return whether the server may be asleep: no success yet, or none used for five minutes."""
        if self.last_success is None:
            return True
        return self.last_used is not None and now - self.last_used > self.settings.cold_after_idle

    def succeeded(self, now: float) -> None:
        """Note an answer."""
        self.last_success = self.last_used = now
        self.is_cold_logged = False
        self.last_failure = None
        self.budget.earn()

    def failed(self, now: float, reason: str) -> None:
        """Note a failed attempt."""
        self.last_used = now
        self.last_failure = reason

    def tell_cold_start(self, attempt: int, waited: float, reason: str) -> None:
        """Log once that a server is waited for, and call the progress hook every time."""
        if not self.is_cold_logged:
            self.is_cold_logged = True
            _log.warning(
                "the orchestrator does not answer yet (%s): waiting up to %g s for it to start",
                reason,
                self.settings.cold_start_timeout,
            )
        if self.on_cold_start is not None:
            self.on_cold_start(ColdStart(attempt, waited, reason))

    def stats(self) -> Stats:
        """Return the counters."""
        return {
            "calls": self.calls,
            "attempts": self.attempts,
            "retries": self.retries,
            "mints": self.mints,
            "cache_hits": self.cache.hits,
            "retry_budget_left": self.budget.left,
            "breakers": {name: breaker.state for name, breaker in sorted(self.breakers.items())},
        }
