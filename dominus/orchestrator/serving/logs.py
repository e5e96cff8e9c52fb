"""Where log lines go: stderr, as JSON for machines or as text for people, without holding up a request."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["ACCESS", "JsonFormatter", "LineHandler", "TextFormatter", "configure_logging", "flush_logs"]

ACCESS = "dominus.access"
"""The logger of requests; its messages are JSON objects."""
GATHER_SECONDS = 0.05
"""Lines of one moment are written together: a write for each costs more than making it."""
FLUSH_SECONDS = 2.0
MAX_LINES = 20_000
STDERR = 2


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `ts`, `level`, `logger`, `message`; a request's facts in place of the message."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._stamp = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        second = int(record.created)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        head = f'{{"ts":"{self._stamp}.{int(record.msecs):03d}Z","level":"{record.levelname.lower()}",'
        message = record.getMessage()
        if record.name == ACCESS and message.startswith("{"):
            return _visible(f'{head}"logger":"{ACCESS}",{message[1:]}')
        facts: dict[str, Any] = {"logger": record.name, "message": message}
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return _visible(head + to_json(facts, fallback=str, inf_nan_mode="strings").decode()[1:])


class TextFormatter(logging.Formatter):
    """Lines for people at a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage()
        if record.name != ACCESS or not message.startswith("{"):
            return _visible(super().format(record), kept="\n\t")
        facts: dict[str, Any] = from_json(message)
        return _visible(
            f"{self.formatTime(record, self.datefmt)} {facts['status']} {facts['ms']:>8.2f} ms  "
            f"{facts['method']} {facts['path']}  {facts['operation']}  {facts['request_id']}"
        )


def _visible(line: str, kept: str = "") -> str:
    """Write what a terminal would obey, or show in another order, as an escape; in JSON it stays the same text."""
    if line.isprintable():
        return line
    return "".join(
        character if character.isprintable() or character in kept else _escape(character)
        for character in line
    )


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    # JSON has no escape for these but the two halves.
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


class LineHandler(logging.Handler):
    """Writes lines from a thread of its own. A reader that does not read costs lines, which are counted, not time."""

    def __init__(self, descriptor: int = STDERR, *, max_lines: int = MAX_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: deque[str] = deque()
        self._max_lines = max_lines
        self._dropped_count = 0
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._hurry = threading.Event()
        threading.Thread(target=self._run, name="dominus-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - logging's own rule: a bad log call must not break what it reports
            self.handleError(record)
            return
        if len(self._lines) >= self._max_lines:
            self._dropped_count += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._idle.clear()
            self._wake.set()

    def flush(self) -> None:
        """Wait until all is written, for a moment at most."""
        self._hurry.set()
        self._idle.wait(FLUSH_SECONDS)
        self._hurry.clear()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._hurry.wait(GATHER_SECONDS)
            self._wake.clear()
            self._drain()
            if not self._wake.is_set():
                self._idle.set()

    def _drain(self) -> None:
        taken = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped, self._dropped_count = self._dropped_count, 0
        if dropped:
            record = logging.LogRecord(
                "dominus.log",
                logging.WARNING,
                __file__,
                0,
                "%d log lines dropped: stderr is slow",
                (dropped,),
                None,
            )
            taken.append(self.format(record))
        rest = memoryview(("\n".join(taken) + "\n").encode(errors="backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # The terminal was made non-blocking by another program that shares it.
                time.sleep(GATHER_SECONDS)
            except OSError:
                # stderr is closed: there is no place left to say so.
                return


def configure_logging(level: str, *, is_json: bool) -> None:
    """Send all log lines of this process to stderr; `level` is for our own, others speak from warning on."""
    handler = LineHandler()
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("dominus").setLevel(level.upper())


def flush_logs() -> None:
    """Write what is waiting: before an end that runs no exit handlers."""
    for handler in logging.getLogger().handlers:
        handler.flush()
