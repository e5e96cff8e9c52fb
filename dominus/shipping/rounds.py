"""A round of shipping: what is on disk, then what is in memory, then what processes left that have ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from dominus.shipping.delivery import Delivery
from dominus.shipping.redaction import Redactor
from dominus.shipping.spool import Spool
from dominus.shipping.waiting import BATCH_BYTES, BATCH_LINES, Waiting

__all__ = ["Rounds", "off_loop"]

CLEAN_AT_ONCE = 50
"""Lines that are redacted before the loop has its turn."""
ADOPT_SECONDS = 30.0


class Rounds:
    """Empties what waits, from the one task that ships."""

    def __init__(self, waiting: Waiting, delivery: Delivery) -> None:
        """Prepare.

        Args:
            waiting: what is emptied.
            delivery: where to.
        """
        self._waiting = waiting
        self._delivery = delivery
        self._adopt_at = 0.0

    @property
    def has_adopted(self) -> bool:
        """Whether it has looked for what others left."""
        return self._adopt_at > 0

    def begin_anew(self) -> None:
        """Look for what others left at the next round."""
        self._adopt_at = 0.0

    async def ship(self) -> bool:
        """Send all that waits, the oldest first; false when a batch failed."""
        waiting = self._waiting
        if not waiting.is_set_up() or waiting.redactor is None:
            self._delivery.failed(None)
            return False
        while waiting.has_lines:
            spool = waiting.spool
            if spool is not None and spool.has_lines:
                if not await self._sent_from_spool(spool):
                    return False
            elif not await self._sent_from_buffer(waiting.redactor):
                return False
        return True

    async def adopt(self) -> None:
        """Send what processes that have ended left in their spools, a file at a time."""
        waiting = self._waiting
        if waiting.spool is None or time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + ADOPT_SECONDS
        while found := cast("Spool | None", await off_loop(waiting.spool.left_behind)):
            try:
                while found.has_lines:
                    if not await self._sent_from_spool(found):
                        return
                    # Own lines do not wait for somebody else's.
                    while waiting.lines and waiting.redactor is not None:
                        if not await self._sent_from_buffer(waiting.redactor):
                            return
            finally:
                found.close()

    async def _sent_from_spool(self, spool: Spool) -> bool:
        lines = await off_loop(spool.read, BATCH_LINES, BATCH_BYTES)
        if lines and not await self._delivery.send(lines):
            return False
        await off_loop(spool.forget)
        return True

    async def _sent_from_buffer(self, redactor: Redactor) -> bool:
        lines = self._waiting.begin_batch()
        clean: list[bytes] = []
        is_sent = False
        try:
            for at in range(0, len(lines), CLEAN_AT_ONCE):
                clean += [redactor.clean(line) for line in lines[at : at + CLEAN_AT_ONCE]]
                await asyncio.sleep(0)
            self._waiting.batch_is(clean)
            is_sent = await self._delivery.send(clean)
        finally:
            if is_sent:
                self._waiting.end_batch()
            else:
                # It was cancelled, or nobody is there.
                self._waiting.put_back()
        return is_sent


async def off_loop(work: Callable[..., Any], *args: Any) -> Any:
    """Do what waits for the disk in a thread."""
    try:
        return await asyncio.to_thread(work, *args)
    except RuntimeError:
        # The program ends, and has no more threads.
        return work(*args)
