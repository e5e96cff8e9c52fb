"""Background tasks."""

from __future__ import annotations

import asyncio

__all__ = ["end_task"]


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a background task and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
