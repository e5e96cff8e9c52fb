"""What all loops and threads of one client share: settings, breakers, the retry budget, counters."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from dominus.errors import DominusConnectionError
from dominus.settings import Settings
from dominus.transport.breaker import Breaker
from dominus.transport.budget import Budget
from dominus.transport.clock import Clock
from dominus.transport.credentials import SharedToken
from dominus.transport.failure import Failure
from dominus.transport.retry import Policy
from dominus.transport.retry_policy import RetryPolicy
from dominus.transport.stale_cache import StaleCache

if TYPE_CHECKING:
    import httpx

    from dominus.transport.circuit import BreakerName

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
    on_breaker_change: Callable[[str, BreakerName, BreakerName], None] | None
    retry: RetryPolicy
    policy: Policy
    budget: Budget
    cache: StaleCache
    random: Callable[[], float] = random.random
    speaks_json: bool = False
    """The server is one of ours: known beforehand, or shown to any loop. A new loop begins with it."""
    token: SharedToken = field(default_factory=SharedToken)
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
    refused_at: float | None = None
    """When the latest attempt failed, if nobody was there to take it."""

    def breaker(self, service: str) -> Breaker:
        """Return the breaker of a service."""
        found = self.breakers.get(service)
        if found is None:
            settings = self.settings
            made = Breaker(
                self.clock,
                threshold=settings.breaker_threshold,
                longest_wait=settings.breaker_reset,
                random=self.random,
                on_change=partial(self._breaker_changed, service),
            )
            found = self.breakers.setdefault(service, made)
        return found

    def _breaker_changed(self, service: str, old: BreakerName, new: BreakerName) -> None:
        # Each failed probe opens it anew: that is no news.
        level = logging.INFO if new == "closed" else logging.WARNING if old == "closed" else logging.DEBUG
        _log.log(level, "the breaker of %s is %s", service, new)
        if self.on_breaker_change is not None:
            self.on_breaker_change(service, old, new)

    def is_cold(self, now: float) -> bool:
        """Return whether the server may be asleep: no success yet, or none used for five minutes."""
        if self.last_success is None:
            return True
        return self.last_used is not None and now - self.last_used > self.settings.cold_after_idle

    def succeeded(self, now: float) -> None:
        """Note an answer."""
        self.last_success = self.last_used = now
        self.is_cold_logged = False
        self.last_failure = self.refused_at = None
        self.budget.earn()

    def failed(self, now: float, failure: Failure) -> None:
        """Note a failed attempt."""
        self.last_used = now
        self.last_failure = failure.error.message
        is_away = failure.never_left and isinstance(failure.error, DominusConnectionError)
        self.refused_at = now if is_away else None

    def was_refused(self, now: float) -> bool:
        """Return whether the latest attempt, at most one back-off ago, found nobody."""
        return self.refused_at is not None and now - self.refused_at <= self.policy.backoff_cap + 1.0

    @property
    def waits_for_refused(self) -> bool:
        """Whether a refused connection may be a server that starts.

        Not on this machine, where nothing was ever there: that is a wrong port, which is told at once, unless the
        wait for a start was chosen.
        """
        return (
            self.last_success is not None
            or self.on_cold_start is not None
            or not self.settings.is_mere_loopback
        )

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
