"""Whether a failed attempt is repeated, and when: decided here, done in pipeline.py.

tenacity was measured and left out: its loop alone costs 11 to 13 microseconds a call, and the whole happy path
of deadline, budget, breaker and retry has 10 (docs/architecture.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from dominus.contract.kinds import Retry as RetryClass
from dominus.errors import RETRYABLE_STATUSES
from dominus.transport.failure import Failure

__all__ = ["Again", "Facts", "Policy", "Stop", "decide"]


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

    attempt: int
    """1 for the first."""
    retry: RetryClass
    keeps_keys: bool
    """The server stores outcomes under idempotency keys."""
    is_replayable: bool
    """The body can be sent once more; false for an iterator that was read."""
    left: float
    """Seconds until the deadline."""
    cold_left: float
    """Seconds that a cold start may still take; 0 when the server was warm."""
    jitter: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class Again:
    """Repeat after so many seconds; a cold start does not charge the budget."""

    after: float
    is_charged: bool = True


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up, and say why."""

    reason: str


def decide(failure: Failure, facts: Facts, policy: Policy) -> Again | Stop:  # noqa: C901, PLR0911 - a table of rules
    """Return what to do after a failed attempt. Pure: the budget is asked by the caller."""
    if failure.is_final:
        return Stop("repeating cannot help")
    status = failure.error.status_code
    if not failure.never_left:
        if not failure.is_cold_sign and status is not None and status not in RETRYABLE_STATUSES:
            return Stop("the answer is final")
        if facts.retry is RetryClass.NEVER or (facts.retry is RetryClass.KEYED and not facts.keeps_keys):
            return Stop("it may have been done, and repeating it could do it twice")
    if not facts.is_replayable:
        return Stop("its rows came from an iterator that was already read")
    ceiling = min(policy.backoff_cap, policy.backoff_base * 2 ** min(facts.attempt - 1, 16))
    after = facts.jitter * ceiling
    if failure.error.retry_after is not None:
        after = max(after, failure.error.retry_after)
    if after >= facts.left:
        return Stop("the deadline would pass first")
    if failure.is_cold_sign and facts.cold_left > after:
        return Again(after, is_charged=False)
    if status == 401:
        return Stop("the answer is final")
    if facts.attempt >= policy.max_attempts:
        return Stop(f"{facts.attempt} attempts")
    return Again(after)
