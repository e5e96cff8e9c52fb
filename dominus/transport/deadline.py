"""Deadlines: `with dominus.deadline(2.0):` bounds every call of its block."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from types import TracebackType

from dominus.errors import ValidationError
from dominus.hints import refuses

__all__ = ["block_deadline", "block_fails_fast", "check_timeout", "deadline"]

_LEFT: ContextVar[Callable[[], float] | None] = ContextVar("dominus_deadline", default=None)
_FAILS_FAST: ContextVar[bool | None] = ContextVar("dominus_fail_fast", default=None)


def check_timeout(seconds: float) -> float:
    """Refuse what is no duration."""
    # What comes from an untyped caller may be anything; NaN is not greater than zero either.
    if not isinstance(seconds, (int, float)) or not seconds > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"timeout: {seconds!r} is not a positive number of seconds")
    return seconds


def deadline(
    seconds: float | None, now: Callable[[], float] = time.monotonic, *, fail_fast: bool | None = None
) -> contextlib.AbstractContextManager[None]:
    """Bound all calls of the block together; blocks nest, the nearest end counts, and the inner `fail_fast`."""
    if fail_fast is not None and not isinstance(fail_fast, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValidationError(f"fail_fast: {fail_fast!r} is neither True nor False")
    return _Deadline(_bounded(None if seconds is None else check_timeout(seconds), now, fail_fast))


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
def _bounded(seconds: float | None, now: Callable[[], float], fail_fast: bool | None) -> Generator[None]:
    outer = _LEFT.get()
    mark = _LEFT.set(outer if seconds is None else _left(now() + seconds, now, outer))
    fails_fast = _FAILS_FAST.set(_FAILS_FAST.get() if fail_fast is None else fail_fast)
    try:
        yield
    finally:
        # What is collected with a task whose loop was closed ends in another context: there is nothing to put back.
        with contextlib.suppress(ValueError):
            _FAILS_FAST.reset(fails_fast)
            _LEFT.reset(mark)


def _left(ends: float, now: Callable[[], float], outer: Callable[[], float] | None) -> Callable[[], float]:
    # Clients may have clocks of their own: what nests is what is left, not when it ends.
    return lambda: ends - now() if outer is None else min(ends - now(), outer())


def block_deadline() -> float | None:
    """Return the seconds that the enclosing block has left, or None outside of any."""
    left = _LEFT.get()
    return None if left is None else left()


def block_fails_fast(default: bool) -> bool:
    """Return what the enclosing block says of waiting for a service that fails, or the default outside of any."""
    chosen = _FAILS_FAST.get()
    return default if chosen is None else chosen
