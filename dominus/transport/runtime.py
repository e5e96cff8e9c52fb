"""A Runtime belongs to one event loop and one process: the pool and the locks of that loop.

The singleton works across several `asyncio.run` calls, in threads with a loop each, and after `os.fork`, because
each loop of each process gets its own Runtime, while settings, breakers, the retry budget and the token are shared.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from dominus.hints import install_command
from dominus.settings import EMBEDDED
from dominus.transport.background import Background
from dominus.transport.carriers.aiohttp import AiohttpCarrier
from dominus.transport.carriers.httpx import HttpxCarrier
from dominus.transport.decode import Wire
from dominus.transport.pipeline import Pipeline
from dominus.transport.shared import Shared

if TYPE_CHECKING:
    import httpx

__all__ = ["Runtimes"]

EMBEDDED_URL = "http://embedded.dominus"


class _Runtime:
    """What one loop holds open."""

    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.background = Background()
        self.pipeline: Pipeline | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        self._last_resort: weakref.finalize[[], _Runtime] | None = None

    async def open(self, shared: Shared) -> Pipeline:
        async with self.opening:
            if self.pipeline is None:
                self.pipeline = await _make_pipeline(shared)
                # For loops that nobody shuts down, when no other loop comes after: at the end of client or program.
                self._last_resort = weakref.finalize(self, self.pipeline.abandon)
                self._guard = self._close_with_loop()
                await anext(self._guard)
        return self.pipeline

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        # asyncio.run ends the loop's async generators before the loop: a program that closes nothing itself
        # still leaves no open socket, and no 'unclosed' warning, behind.
        try:
            yield
        finally:
            pipeline, self.pipeline = self.pipeline, None
            if self._last_resort is not None:
                self._last_resort.detach()
            await self.background.aclose()
            if pipeline is not None:
                await pipeline.aclose()

    async def aclose(self) -> None:
        await self.background.aclose()
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.aclose()

    def abandon(self) -> None:
        """Close without the loop, which is closed."""
        self.pipeline = None
        if self._last_resort is not None:
            self._last_resort()


class Runtimes:
    """Finds or makes the Runtime of the running loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Runtime] = (
            weakref.WeakKeyDictionary()
        )
        _made.add(self)

    def leave_to_parent(self) -> object:
        """Begin anew in the child of a fork; return what is the parent's, to be kept as it is."""
        inherited = list(self._by_loop.items())
        self._lock = threading.Lock()
        self._by_loop = weakref.WeakKeyDictionary()
        return inherited

    def _current(self) -> _Runtime:
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            with self._lock:
                found = self._by_loop.setdefault(loop, _Runtime())
                over = [self._by_loop.pop(other) for other in [*self._by_loop] if other.is_closed()]
            # Whoever closed those loops did not shut them down (`shutdown_asyncgens`): no other moment tells us.
            for runtime in over:
                runtime.abandon()
        return found

    async def pipeline(self, shared: Shared) -> Pipeline:
        """Return the open pipeline of the running loop."""
        runtime = self._current()
        return runtime.pipeline or await runtime.open(shared)

    def background(self) -> Background | None:
        """Return the tasks of the running loop that outlive the calls which began them; None when it ends."""
        background = self._current().background
        return None if background.is_closed else background

    async def aclose(self) -> None:
        """Close what the running loop holds."""
        with self._lock:
            runtime = self._by_loop.pop(asyncio.get_running_loop(), None)
        if runtime is not None:
            await runtime.aclose()


_made: weakref.WeakSet[Runtimes] = weakref.WeakSet()
_of_the_parent: list[object] = []


def _after_fork() -> None:
    # Sockets and the epoll of a loop are shared with the parent: closing them here, which collecting them would
    # do, would deafen it. So they are neither closed nor collected.
    _of_the_parent.extend(runtimes.leave_to_parent() for runtimes in list(_made))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def _make_pipeline(shared: Shared) -> Pipeline:
    settings = shared.settings
    if settings.is_embedded and shared.transport is None:
        transport, psk = await _embedded(settings.home)
        wire = Wire(HttpxCarrier(EMBEDDED_URL, transport, settings))
        return Pipeline(shared, wire, psk, speaks_json=True)
    url = settings.checked_url()
    psk = settings.checked_token()
    if shared.transport is not None:
        wire = Wire(HttpxCarrier(url, shared.transport, settings))
    else:
        wire = Wire(await AiohttpCarrier.open(settings, url))
    return Pipeline(shared, wire, psk, speaks_json=shared.speaks_json)


async def _embedded(home: Any) -> tuple[httpx.AsyncBaseTransport, str]:
    """Open the lazy door to the orchestrator; nothing else in the SDK half knows it."""
    from dominus.errors import ServiceError

    try:
        from dominus.orchestrator.serving.in_process import open_embedded
    except ModuleNotFoundError as error:
        raise ServiceError(
            f"DOMINUS_URL={EMBEDDED} needs the orchestrator: {error.name} is not installed",
            code="extra_missing",
            retryable=False,
            hint=install_command("orchestrator"),
        ) from None
    return await open_embedded(home)
