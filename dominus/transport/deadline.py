"""Deadlines: `with dominus.deadline(2.0):` bounds every call of its block."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from types import TracebackType

from dominus.errors import ValidationError
from dominus.hints import refuses

__all__ = ["block_deadline", "check_timeout", "deadline"]

_LEFT: ContextVar[Callable[[], float] | None] = ContextVar("dominus_deadline", default=None)


def check_timeout(seconds: float) -> float:
    """Refuse what is no duration."""
    # What comes from an untyped caller may be anything; NaN is not greater than zero either.
    if not isinstance(seconds, (int, float)) or not seconds > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"timeout: {seconds!r} is not a positive number of seconds")
    return seconds


def deadline(
    seconds: float, now: Callable[[], float] = time.monotonic
) -> contextlib.AbstractContextManager[None]:
    """Bound all calls of the block together; blocks nest, the nearest end counts."""
    return _Deadline(_bounded(check_timeout(seconds), now))


@refuses("async with", "await", instead="with dominus.deadline(2.0):")
class _Deadline(contextlib.AbstractContextManager[None]):
    def __init__(self, block: contextlib.AbstractContextManager[None]) -> None:
        self._block = block

    def __repr__(self) -> str:
        return "a deadline"

    def __enter__(self) -> None:
        self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, trace)


@contextlib.contextmanager
def _bounded(seconds: float, now: Callable[[], float]) -> Generator[None]:
    ends = now() + seconds
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
