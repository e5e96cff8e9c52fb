"""Which engines refuse writes for lack of space, for those who ask after the orchestrator's health.

A full engine reads as ever, so that a question proves nothing: it is asked to write a little. That shows a full disk
before the first caller meets it, and space that is there again without any traffic. Tables may lie on other disks than
the one that is tried, so what callers were refused counts for some seconds, too.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from dominus.errors import DominusError

__all__ = ["RefusedWrites"]

TRY_SECONDS = 5.0
"""Health is asked by anyone, as often as they like: an engine is made to write no more often than this."""
SEEN_SECONDS = 5.0
"""What a caller was refused is told for so long."""


@dataclass(slots=True)
class _Engine:
    tried: str | None = None
    tried_until: float = 0.0
    seen: str | None = None
    seen_until: float = 0.0


class RefusedWrites:
    """The codes with which each engine refuses writes, as one worker knows them."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._engines = {"postgres": _Engine(), "redis": _Engine()}

    def note(self, error: DominusError) -> None:
        """Remember what a caller was told, when it says that an engine is full."""
        name = _full_engine(error)
        if name is not None:
            engine = self._engines[name]
            engine.seen, engine.seen_until = error.code, self._now() + SEEN_SECONDS

    def seen(self, name: str) -> str | None:
        """Return the code with which an engine refused a caller lately."""
        engine = self._engines[name]
        return engine.seen if self._now() < engine.seen_until else None

    async def code(self, name: str, write: Callable[[], Awaitable[object]]) -> str | None:
        """Return the code with which an engine refuses writes, None while it takes them.

        Args:
            name: the engine, `postgres` or `redis`.
            write: writes a little, or raises a DominusError.
        """
        engine = self._engines[name]
        if self._now() >= engine.tried_until:
            engine.tried_until = self._now() + TRY_SECONDS
            try:
                engine.tried = await _refusal(write)
            except BaseException:
                engine.tried_until = 0.0
                raise
        return engine.tried or self.seen(name)


async def _refusal(write: Callable[[], Awaitable[object]]) -> str | None:
    try:
        await write()
    except DominusError as error:
        # Other failures are not about space; whether the engine answers is asked beside this.
        return error.code if _full_engine(error) is not None else None
    return None


def _full_engine(error: DominusError) -> str | None:
    if error.code == "redis_full":
        return "redis"
    if error.code != "disk_full":
        return None
    details = cast("Mapping[str, Any]", error.details or {})
    name = details.get("engine", "postgres")
    # The store of files is none of the engines that health tells of.
    return name if name in {"postgres", "redis"} else None
