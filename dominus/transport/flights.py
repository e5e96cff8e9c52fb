"""What many wait for is fetched once: a task of its own, which no single waiter's deadline or cancellation ends."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from dominus.errors import DominusError

__all__ = ["Flights"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """One task for each key, in each event loop."""

    def __init__(self) -> None:
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[K, asyncio.Task[T]]] = (
            WeakKeyDictionary()
        )

    def is_under_way(self, key: K) -> bool:
        """Return whether somebody fetches it in this loop."""
        return key in self._tasks.get(asyncio.get_running_loop(), {})

    def start(self, key: K, fetch: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Begin to fetch, whether or not anybody waits for it."""
        loop = asyncio.get_running_loop()
        tasks = self._tasks.setdefault(loop, {})
        # An empty context: the deadline of whoever came first must not end it for all.
        task = loop.create_task(fetch(), name="dominus-fetch", context=contextvars.Context())
        tasks[key] = task
        task.add_done_callback(lambda done: _landed(tasks, key, done))
        return task

    async def join(self, key: K, fetch: Callable[[], Coroutine[Any, Any, T]], limit: float | None) -> T:
        """Wait for what is under way, or begin it.

        Args:
            key: what is fetched.
            fetch: how.
            limit: seconds that this caller waits; without it, as long as it takes.

        Raises:
            TimeoutError: it took longer; it goes on for the others.
        """
        task = self._tasks.get(asyncio.get_running_loop(), {}).get(key) or self.start(key, fetch)
        try:
            return await asyncio.wait_for(asyncio.shield(task), limit)
        except DominusError as error:
            # One copy for each waiter: a shared exception would collect all their tracebacks.
            rebuild, arguments = error.__reduce__()
            raise rebuild(*arguments) from None


def _landed(tasks: dict[K, asyncio.Task[T]], key: K, task: asyncio.Task[T]) -> None:
    if tasks.get(key) is task:
        del tasks[key]
    # Every waiter may have gone by now; an exception that nobody reads would be reported by the loop.
    if not task.cancelled():
        task.exception()
