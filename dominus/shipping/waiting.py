"""Lines that are not stored yet: in memory, in flight, and on disk where they must wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypedDict

from dominus.errors import DominusError
from dominus.shipping.redaction import Redactor
from dominus.shipping.spool import Spool

__all__ = ["BATCH_BYTES", "BATCH_LINES", "ShippingOptions", "Waiting"]

BATCH_LINES = 500
BATCH_BYTES = 1024 * 1024
SPILL_LINES = 200
"""Moved to the spool at once when the buffer is full: about two milliseconds."""
DEFAULT_LIMIT = 10_000


class ShippingOptions(TypedDict):
    """What the settings say."""

    limit: int
    spool: Spool | None
    redactor: Redactor


class Waiting:
    """A buffer that any thread appends to, the batch that one task has taken from it, and the spool.

    Attributes:
        lines: the buffer; `append` needs no lock.
        limit: of lines in the buffer.
        spool: None before the settings were read, and where there is no server.
        redactor: None before the settings were read.
    """

    def __init__(self, options: Callable[[], ShippingOptions], tell: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            options: reads the settings; it may raise while they are wrong.
            tell: says what is wrong.
        """
        self._options = options
        self._tell = tell
        self.limit = DEFAULT_LIMIT
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.lines: deque[bytes] = deque()
        self.spool: Spool | None = None
        self.redactor: Redactor | None = None
        self._lock = threading.RLock()
        self._in_flight: list[bytes] = []
        self._is_clean = False

    def after_fork(self) -> list[object]:
        """Begin anew in the child of a fork: what waits is the parent's, and is returned to be left alone."""
        kept: list[object] = [self.lines, self._in_flight]
        if self.spool is not None:
            self.spool.leave_to_parent()
        self._begin_anew()
        return kept

    @property
    def has_lines(self) -> bool:
        """Whether lines wait in memory or on disk."""
        return bool(self.lines) or (self.spool is not None and self.spool.has_lines)

    def is_set_up(self, *, is_quiet: bool = False) -> bool:
        """Read the settings once; False while they are wrong."""
        if self.redactor is None:
            try:
                options = self._options()
            except DominusError as error:
                if not is_quiet:
                    self._tell(f"lines wait: {error.message}")
                return False
            self.limit, self.spool, self.redactor = options["limit"], options["spool"], options["redactor"]
        return True

    def made_room(self) -> bool:
        """Move the oldest lines to the spool; False when there is no room there either."""
        with self._lock:
            if not self.is_set_up() or self.spool is None:
                return False
            return len(self.lines) < self.limit or self.spill(SPILL_LINES) > 0

    def spill(self, count: int) -> int:
        """Move so many lines from the buffer to the spool; return how many there was room for."""
        with self._lock:
            if self.spool is None or self.redactor is None:
                return 0
            lines = self._pop(count)
            written = self._to_spool([self.redactor.clean(line) for line in lines])
            self.lines.extendleft(reversed(lines[written:]))
            return written

    def begin_batch(self) -> list[bytes]:
        """Take a batch in flight; until `end_batch` or `put_back` it still waits, and `close` saves it."""
        with self._lock:
            self._in_flight, self._is_clean = self._pop(BATCH_LINES), False
            return self._in_flight

    def batch_is(self, clean: list[bytes]) -> None:
        """Keep the batch in flight as it is sent: redacted."""
        with self._lock:
            if self._in_flight:
                self._in_flight, self._is_clean = clean, True

    def end_batch(self) -> None:
        """The batch in flight is stored."""
        with self._lock:
            self._in_flight = []

    def put_back(self) -> None:
        """Let the batch in flight wait on disk, or in the buffer where that is not possible."""
        with self._lock:
            lines, self._in_flight = self._in_flight, []
            written = self._to_spool(lines) if self._is_clean else 0
            self.lines.extendleft(reversed(lines[written:]))

    def close(self) -> int:
        """Spool what waits, and let go of the file; return how many lines are lost."""
        with self._lock:
            self.put_back()
            if self.lines and self.is_set_up():
                while self.lines and self.spill(len(self.lines)):
                    pass
            lost = len(self.lines)
            self.lines.clear()
            if self.spool is not None:
                self.spool.close()
            # The next line reads the settings again.
            self.redactor = self.spool = None
            return lost

    def _to_spool(self, lines: Sequence[bytes]) -> int:
        if self.spool is None or not lines:
            return 0
        try:
            return self.spool.append(lines)
        except (OSError, ImportError) as error:
            self._tell(f"lines cannot be spooled: {error}")
            return 0

    def _pop(self, count: int) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        while self.lines and len(taken) < count and size < BATCH_BYTES:
            taken.append(self.lines.popleft())
            size += len(taken[-1])
        return taken
