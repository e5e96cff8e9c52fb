"""The orchestrator inside the user's own process: `DOMINUS_URL=embedded`. No port, no server, one process a home."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from pathlib import Path

import httpx

from dominus.errors import ConflictError
from dominus.orchestrator.app import Orchestrator
from dominus.orchestrator.opening import Foundation, lay_foundation, open_engines
from dominus.orchestrator.settings import ServerSettings

__all__ = ["open_embedded"]

_lock = threading.Lock()
_foundations: dict[Path, tuple[int, Foundation]] = {}


async def open_embedded(home: Path) -> tuple[httpx.AsyncBaseTransport, str]:
    """Return a transport to an orchestrator in this process, for the running loop, and its PSK.

    The embedded PostgreSQL starts with the first loop of a process and ends with the process; connections end with
    the transport.

    Raises:
        ConflictError: another process holds the home.
    """
    foundation = await asyncio.to_thread(_foundation, home)
    app = Orchestrator(lambda: open_engines(foundation))
    transport = EmbeddedTransport(app)
    await transport.open()
    return transport, foundation.root_token


def _foundation(home: Path) -> Foundation:
    # The key is where it is, so that two spellings of one folder share it.
    key = home.expanduser().resolve()
    with _lock:
        found = _foundations.get(key)
        if found is None:
            program = Path(sys.argv[0]).name or "python"
            # The settings of this home only: an orchestrator inside a process stands on nothing remote unless told.
            settings = ServerSettings(home=key, request_log=False)
            found = (os.getpid(), lay_foundation(settings, f"{program}, with DOMINUS_URL=embedded"))
            _foundations[key] = found
            atexit.register(found[1].close)
    if found[0] != os.getpid():
        raise ConflictError(
            "the embedded orchestrator belongs to the parent process of this fork",
            code="home_in_use",
            hint="start `dominus dev` and set DOMINUS_URL to its address, so that both processes share it",
        )
    return found[1]


class EmbeddedTransport(httpx.ASGITransport):
    """httpx's ASGI transport, with the life of the app tied to it."""

    def __init__(self, app: Orchestrator) -> None:
        super().__init__(app=app, raise_app_exceptions=True)  # pyright: ignore[reportArgumentType]
        self._orchestrator = app

    async def open(self) -> None:
        """Open the engines."""
        await self._orchestrator.start()

    async def aclose(self) -> None:
        """Close the engines."""
        await self._orchestrator.stop()
