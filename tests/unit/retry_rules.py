"""The three answers about a retry, asked in the order in which tenacity asks them."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryCallState, wait_exponential

from dominus.transport.failure import Failure
from dominus.transport.retry import Facts, Policy, back_off, can_repeat, is_awaited, is_enough


@dataclass(frozen=True)
class Again:
    after: float
    is_charged: bool = True


class Stop:
    pass


def decide(
    failure: Failure, facts: Facts, policy: Policy, *, attempt: int = 1, jitter: float = 0.5
) -> Again | Stop:
    """Return what happens after a failed attempt, the budget and the user's own conditions left out."""
    if not can_repeat(failure, facts):
        return Stop()
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = attempt
    ceiling = wait_exponential(multiplier=policy.backoff_base, max=policy.backoff_cap)(state)
    after = back_off(failure, jitter * ceiling)
    if is_enough(failure, facts, after, was_tried_enough=attempt >= policy.max_attempts):
        return Stop()
    return Again(after, is_charged=not is_awaited(facts, after))
