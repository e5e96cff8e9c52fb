"""Ids of log lines: uuid7 (RFC 9562) that grow within a process, so that lines sort by when they were written."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

__all__ = ["LineIds"]


class LineIds:
    """Makes ids, each greater than the one before, from any thread.

    After the number of the millisecond stand twelve bits of its fraction (RFC 9562, method 3).
    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._last = 0
        self._seed()

    def _seed(self) -> None:
        # A random start for each process, and a counter: as unlikely to meet another's as random bits, and quicker.
        self._salt = int.from_bytes(os.urandom(4), "big") << 30
        self._counter = itertools.count(int.from_bytes(os.urandom(3), "big"))

    def begin_anew(self) -> None:
        """Take another random start, in the child of a fork."""
        self._seed()

    def make(self) -> str:
        """Return the next id, 32 hexadecimal digits."""
        milliseconds, rest = divmod(self._now(), 1_000_000)
        moment = milliseconds << 12 | rest * 4096 // 1_000_000
        if moment <= self._last:
            # A clock that went back, or two lines of one tick.
            moment = self._last + 1
        self._last = moment
        random = self._salt | next(self._counter) & 0x3FFFFFFF
        return f"{moment >> 12:012x}7{moment & 0xFFF:03x}{0x8000000000000000 | random:016x}"
