"""Lines of the standard `logging` and of structlog, on the same way as the client's own."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from dominus.shipping.lines import MAX_TRACEBACK, call_site, make_line, place_of
from dominus.shipping.shipper import IS_SHIPPING, Shipper

__all__ = ["LogHandler", "StructlogProcessor"]

OWN = "dominus"
_LEVELS = ((50, "critical"), (40, "error"), (30, "warn"), (25, "notice"), (20, "info"))
# What every record has; the rest was given as `extra=`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES = {
    "warning": "warn",
    "exception": "error",
    "fatal": "critical",
    "msg": "info",
    "err": "error",
    "log": "info",
}
_KNOWN = frozenset({"debug", "info", "notice", "warn", "error", "critical"})
_LOGGERS = ("structlog", "logging")


class LogHandler(logging.Handler):
    """A `logging.Handler` that ships records. The category is the logger's name; `extra=` is the context."""

    def __init__(self, shipper: Shipper, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._shipper = shipper

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; what this package says itself is left to other handlers, or a line would make the next."""
        if record.name.partition(".")[0] == OWN or IS_SHIPPING.get():
            return
        try:
            line = _line_of(record)
        except Exception:  # noqa: BLE001 - logging's own rule: a bad log call must not break what it reports
            self.handleError(record)
            return
        self._shipper.take(line)


def _line_of(record: logging.LogRecord) -> bytes:
    context: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _USUAL}
    if record.exc_text and not record.exc_info:
        # A queue's handler has written the traceback, and let go of the exception.
        context["exception"] = {"traceback": record.exc_text[-MAX_TRACEBACK:]}
    return make_line(
        _level_of(record.levelno),
        record.getMessage(),
        context or None,
        record.name,
        (place_of(record.pathname), record.funcName, record.lineno),
        record.exc_info[1] if record.exc_info else None,
    )


def _level_of(number: int) -> str:
    return next((name for least, name in _LEVELS if number >= least), "debug")


class StructlogProcessor:
    """A processor of structlog that ships events and hands them on. Put it before the one that renders."""

    def __init__(self, shipper: Shipper) -> None:
        self._shipper = shipper

    def __call__(
        self, _logger: Any, method_name: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Take an event, and return it as it is."""
        facts = dict(event_dict)
        message, category = facts.pop("event", ""), facts.pop("logger", None)
        level = str(facts.pop("level", method_name)).lower()
        level = _NAMES.get(level, level)
        given = facts.pop("exc_info", None)
        facts.pop("timestamp", None)
        line = make_line(
            level if level in _KNOWN else "info",
            message,
            facts or None,
            category,
            call_site(sys._getframe(1), _LOGGERS),  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            _exception_of(given),
        )
        self._shipper.take(line)
        return event_dict


def _exception_of(given: Any) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple) and len(given) == 3:  # pyright: ignore[reportUnknownArgumentType]
        given = given[1]  # pyright: ignore[reportUnknownVariableType]
        return given if isinstance(given, BaseException) else None
    return sys.exc_info()[1] if given else None
