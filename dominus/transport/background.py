"""Tasks that go on when the call which began them has ended; those of one client in one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

__all__ = ["Background"]

_log = logging.getLogger("dominus.transport")
T = TypeVar("T")


class Background:
    """Keeps its tasks alive, and ends them without a word when the client or its loop closes."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._singles: dict[type[Any], Any] = {}
        self.is_closed = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that no `dominus.deadline` of its beginner ends. What it raises is logged."""
        task = asyncio.create_task(work, name=name, context=contextvars.Context())
        # A loop that is closed without being shut down would complain of a task that nobody misses.
        cast("Any", task)._log_destroy_pending = False  # noqa: SLF001 - as asyncio.gather does; there is no other way
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def single(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return the one object of a kind of this client and loop, made at the first call."""
        found = self._singles.get(kind)
        if found is None:
            found = self._singles[kind] = make()
        return found

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        """End all tasks."""
        self.is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
