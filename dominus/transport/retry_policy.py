"""What users may say about retries. Free of tenacity, so that a client can be made without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dominus.errors import ValidationError

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Your own tenacity waits and conditions: `Dominus(retry=RetryPolicy(wait=tenacity.wait_fixed(1)))`.

    What is safe to repeat stays the client's decision: a condition can forbid a retry and never allow one. The deadline
    and the retry budget hold as without it, and a server's `Retry-After` is the least wait. Each is asked
    only after an attempt has failed, with tenacity's `RetryCallState`; its outcome is the DominusError of that attempt.

    Args:
        wait: the seconds until the next attempt, instead of the client's back-off, for example `wait_exponential(0.1)`.
        stop: whether it was tried enough, instead of `DOMINUS_MAX_ATTEMPTS`, for example `stop_after_delay(10)`. The
            wait for a server that starts has an end of its own, `cold_start_timeout`.
        retry: whether to repeat, in addition to the client's rules, for example
            `retry_if_exception_type(DominusConnectionError)`.

    Raises:
        ValidationError: one of them cannot be called.
    """

    wait: Callable[[RetryCallState], float] | None = None
    stop: Callable[[RetryCallState], bool] | None = None
    retry: Callable[[RetryCallState], bool | Awaitable[bool]] | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value: Any = getattr(self, one.name)
            if value is not None and not callable(value):
                raise ValidationError(
                    f"RetryPolicy: {one.name} is {type(value).__name__}, not one of tenacity's {one.name} objects"
                )
