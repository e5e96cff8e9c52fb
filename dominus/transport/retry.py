"""Whether and when a failed attempt is repeated: three pure answers, which repeats.py gives to tenacity."""

from __future__ import annotations

from dataclasses import dataclass

from dominus.contract.codes import ALIVE
from dominus.contract.kinds import Retry as RetryClass
from dominus.errors import RETRYABLE_STATUSES
from dominus.transport.failure import Failure

__all__ = ["Facts", "Policy", "back_off", "can_repeat", "is_awaited", "is_enough"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers of the retry loop; durations in seconds."""

    max_attempts: int = 4
    backoff_base: float = 0.05
    backoff_cap: float = 5.0
    cold_start_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when an attempt has failed."""

    retry: RetryClass
    keeps_keys: bool
    """The server stores outcomes under idempotency keys."""
    is_replayable: bool
    """The body can be sent once more; false for an iterator that was read."""
    left: float
    """Seconds until the deadline."""
    patience: float
    """Seconds that a server which starts, or is away, is still waited for; 0 when it is neither."""


def can_repeat(failure: Failure, facts: Facts) -> bool:
    """Return whether repeating is safe, and can help."""
    if failure.is_final or not facts.is_replayable:
        return False
    if failure.never_left:
        return True
    if not ALIVE.get(failure.error.code, True):
        return False
    status = failure.error.status_code
    if not failure.is_cold_sign and status is not None and status not in RETRYABLE_STATUSES:
        return False
    # It may have been done: repeating a write must not do it twice.
    return facts.retry is RetryClass.READ or (facts.retry is RetryClass.KEYED and facts.keeps_keys)


def back_off(failure: Failure, wait: float) -> float:
    """Return the seconds until the next attempt; the server's `Retry-After` is the least."""
    return max(failure.error.retry_after or 0.0, wait)


def is_enough(failure: Failure, facts: Facts, after: float, *, was_tried_enough: bool) -> bool:
    """Return whether to give up instead of waiting so long for another attempt."""
    if after >= facts.left:
        return True
    if is_awaited(facts, after):
        return False
    # A 401 is repeated only where a server that starts says so.
    return was_tried_enough or failure.error.status_code == 401


def is_awaited(facts: Facts, after: float) -> bool:
    """Return whether a server that starts, or is away, is waited for, instead of one that fails."""
    return facts.patience > after
