"""One event loop in a thread of its own, for what synchronous sessions need done: calls over HTTP, local endpoints.

It starts with the first such session of a process, and ends with the process.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["finish", "is_here", "run"]

T = TypeVar("T")


class _Background:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._work, name="dominus-sessions", daemon=True)
        self._thread.start()
        self.loop = self._ready.result()

    def _work(self) -> None:
        loop, executor = asyncio.new_event_loop(), ThreadPoolExecutor(thread_name_prefix="dominus-sessions")
        loop.set_default_executor(executor)
        try:
            loop.run_until_complete(self._live())
        finally:
            # As asyncio.Runner does, whose own end starts a thread: since Python 3.12 none starts while a program ends.
            # With the asynchronous generators the client's connections end.
            if tasks := asyncio.all_tasks(loop):
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            executor.shutdown()
            loop.close()

    async def _live(self) -> None:
        self._end = asyncio.Event()
        self._ready.set_result(asyncio.get_running_loop())
        await self._end.wait()

    def stop(self) -> None:
        """End the thread, unless it stayed behind in the parent of a fork."""
        if self.pid == os.getpid() and self._end is not None:
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join()


_lock = threading.Lock()
_current: _Background | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do some work on the loop of the thread, and wait for it."""
    global _current  # noqa: PLW0603 - one for each process
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = _Background()
        # Called last, so run first: what the loop holds open may stand on an embedded database that ends at exit too.
        atexit.unregister(_stop)
        atexit.register(_stop)
        future = asyncio.run_coroutine_threadsafe(work, _current.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def is_here() -> bool:
    """Tell whether the running loop is that of the thread."""
    return _current is not None and _current.loop is asyncio.get_running_loop()


async def finish(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do some last work on the loop of the thread, from another loop; nothing when it has ended, or is a parent's."""
    running = _current
    if running is not None and running.pid == os.getpid():
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), running.loop))


def _stop() -> None:
    global _current
    with _lock:
        ending, _current = _current, None
    if ending is not None:
        ending.stop()
