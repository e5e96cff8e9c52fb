"""The deadlines of all calls of an event loop, under one timer.

`asyncio.timeout` starts and cancels a timer of the loop for each call, which costs more than all the other guards of a
call together, for a deadline that hardly ever comes.
"""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType
from typing import Protocol

__all__ = ["Scope", "Scopes"]

GRAIN_SECONDS = 0.005
"""Deadlines that follow each other closer than this may end together, the earlier ones so much late."""


class Scope(Protocol):
    """A block with an end; `asyncio.Timeout` is one too."""

    async def __aenter__(self) -> object:
        """Begin."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        """End; a cancellation of ours becomes a TimeoutError."""
        ...

    def expired(self) -> bool:
        """Return whether the end came before the block was done."""
        ...


class Scopes:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: set[_Scope] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    def timeout(self, seconds: float) -> Scope:
        """Return a context manager that ends its block with TimeoutError after so many seconds."""
        return _Scope(self, seconds)

    def add(self, scope: _Scope) -> None:
        """Watch a block that was entered."""
        self._open.add(scope)
        if scope.ends < self._fires_at:
            self._arm(scope.ends)

    def discard(self, scope: _Scope) -> None:
        """Forget a block that was left; the timer is left as it is, and finds nothing."""
        self._open.discard(scope)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._fires_at = None, math.inf

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._fire)

    def _fire(self) -> None:
        now = time.monotonic()
        self._timer, self._fires_at = None, math.inf
        nearest = math.inf
        for scope in [*self._open]:
            if scope.ends <= now:
                self._open.discard(scope)
                scope.expire()
            else:
                nearest = min(nearest, scope.ends)
        if nearest < math.inf:
            self._arm(max(nearest, now + GRAIN_SECONDS))


class _Scope:
    """What `asyncio.Timeout` is, without a timer of its own."""

    __slots__ = ("_cancelling", "_is_expired", "_scopes", "_task", "ends")

    def __init__(self, scopes: Scopes, seconds: float) -> None:
        self._scopes = scopes
        self.ends = time.monotonic() + seconds
        self._is_expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is made inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._scopes.add(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scopes.discard(self)
        if not self._is_expired:
            return
        # The cancellation is taken back. Where somebody else cancelled as well, theirs goes on.
        is_ours_alone = self._task.uncancel() <= self._cancelling
        if is_ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def expired(self) -> bool:
        """Return whether the end came before the block was done."""
        return self._is_expired

    def expire(self) -> None:
        """Cancel the block."""
        self._is_expired = True
        self._task.cancel()
