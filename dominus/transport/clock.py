"""Time as a seam: everything that waits or measures asks a Clock, so that tests can move it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the transport knows of time; seconds throughout."""

    def monotonic(self) -> float:
        """Return a time that only grows."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Return a context manager that ends its block with TimeoutError after so many seconds."""
        ...


class SystemClock:
    """The time of this machine."""

    def monotonic(self) -> float:
        """Return a time that only grows."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Return a context manager that ends its block with TimeoutError after so many seconds."""
        return asyncio.timeout(seconds)
