"""One local orchestrator for clients in several event loops: each loop has connections of its own."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.serving.assembly import ProcessResources, open_resources
from dominus.orchestrator.serving.in_process import EmbeddedTransport

__all__ = ["LoopsTransport"]

_log = logging.getLogger("dominus.testing")

CLOSE_SECONDS = 10.0
"""How long the end of a test waits for a loop of another thread."""


class LoopsTransport(httpx.AsyncBaseTransport):
    """Calls an orchestrator from any event loop.

    Connections belong to a loop. In the loop of the orchestrator calls go to its own app; another loop, such as the
    one in the thread of FastAPI's TestClient, gets an app of its own on the same database and cache while it lives.
    """

    def __init__(self, app: Orchestrator, process: ProcessResources, loop: asyncio.AbstractEventLoop) -> None:
        """Reach `app`, which runs in `loop`."""
        self._home = loop
        self._app = EmbeddedTransport(app)
        self._process = process
        self._elsewhere: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Elsewhere] = (
            weakref.WeakKeyDictionary()
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Run one request through the app of the running loop."""
        loop = asyncio.get_running_loop()
        if loop is self._home:
            return await self._app.handle_async_request(request)
        transport = await self._elsewhere.setdefault(loop, _Elsewhere(self._process)).open()
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what the running loop has; the app itself belongs to the orchestrator."""
        found = self._elsewhere.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.aclose()

    async def close_elsewhere(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `close` in every other loop that still runs: it may outlive the orchestrator."""
        for loop in list(self._elsewhere):
            if not loop.is_running():
                continue
            future = asyncio.run_coroutine_threadsafe(close(), loop)
            try:
                await asyncio.wait_for(asyncio.wrap_future(future), CLOSE_SECONDS)
            except TimeoutError:
                _log.warning(
                    "an event loop of another thread did not close its client in %g s", CLOSE_SECONDS
                )


class _Elsewhere:
    """What a loop has that is not the orchestrator's own."""

    def __init__(self, process: ProcessResources) -> None:
        self._process = process
        self._opening = asyncio.Lock()
        self._transport: EmbeddedTransport | None = None

    async def open(self) -> EmbeddedTransport:
        async with self._opening:
            if self._transport is None:
                transport = EmbeddedTransport(Orchestrator(lambda: open_resources(self._process)))
                await transport.open()
                self._transport = transport
        return self._transport

    async def aclose(self) -> None:
        async with self._opening:
            transport, self._transport = self._transport, None
            if transport is not None:
                await transport.aclose()
