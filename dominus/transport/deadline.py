"""Deadlines: `with dominus.deadline(2.0):` bounds every call of its block."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar

from dominus.errors import ValidationError

__all__ = ["block_deadline", "check_timeout", "deadline"]

_LEFT: ContextVar[Callable[[], float] | None] = ContextVar("dominus_deadline", default=None)


def check_timeout(seconds: float) -> float:
    """Refuse what is no duration."""
    # What comes from an untyped caller may be anything; NaN is not greater than zero either.
    if not isinstance(seconds, (int, float)) or not seconds > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"timeout: {seconds!r} is not a positive number of seconds")
    return seconds


@contextlib.contextmanager
def deadline(seconds: float, now: Callable[[], float] = time.monotonic) -> Generator[None]:
    """Bound all calls of the block together; blocks nest, the nearest end counts."""
    ends = now() + check_timeout(seconds)
    outer = _LEFT.get()
    # Clients may have clocks of their own: what nests is what is left, not when it ends.
    mark = _LEFT.set(lambda: ends - now() if outer is None else min(ends - now(), outer()))
    try:
        yield
    finally:
        _LEFT.reset(mark)


def block_deadline() -> float | None:
    """Return the seconds that the enclosing block has left, or None outside of any."""
    left = _LEFT.get()
    return None if left is None else left()
