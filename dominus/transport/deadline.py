"""Deadlines: `with dominus.deadline(2.0):` bounds every call of its block."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from contextvars import ContextVar

from dominus.errors import ValidationError

__all__ = ["block_deadline", "check_timeout", "deadline"]

_DEADLINE: ContextVar[float | None] = ContextVar("dominus_deadline", default=None)


def check_timeout(seconds: float) -> float:
    """Refuse what is no duration."""
    if not seconds > 0:
        raise ValidationError(f"timeout: {seconds} is not a positive number of seconds")
    return seconds


@contextlib.contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Bound all calls of the block together; blocks nest, the nearest end counts."""
    ends = time.monotonic() + check_timeout(seconds)
    outer = _DEADLINE.get()
    mark = _DEADLINE.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _DEADLINE.reset(mark)


def block_deadline() -> float | None:
    """Return the seconds that the enclosing block has left, or None outside of any."""
    ends = _DEADLINE.get()
    return None if ends is None else ends - time.monotonic()
