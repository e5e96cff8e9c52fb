"""One failed attempt, and what is known of it."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass

from dominus.errors import DominusError

__all__ = ["Failure", "parse_retry_after"]


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - it carries the error, it is not one that users meet
    """One failed attempt."""

    error: DominusError
    never_left: bool = False
    """The request certainly did not reach a server."""
    is_refused: bool = False
    """Nobody listens there, which is known at once."""
    is_system: bool = True
    """It counts in the breaker: the service failed, not the request."""
    is_cold_sign: bool = False
    """A server that is starting looks like this."""
    is_final: bool = False
    """Repeating cannot help, whatever the operation: a certificate that does not fit, for example."""


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date; None when it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else None  # noqa: PLR0124 - NaN
