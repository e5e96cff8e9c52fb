"""Sending batches of lines, and what follows from the answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic_core import from_json

from dominus.errors import AuthenticationError, AuthorizationError, DominusError, ValidationError

__all__ = ["Delivery"]

_log = logging.getLogger("dominus.logs")
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.25, 10.0
REFUSED_DELAY_SECONDS = 30.0
_REFUSED = frozenset({400, 413, 422})


class Delivery:
    """Sends batches; what may have been stored already is sent again, since each line has an id.

    Attributes:
        sent_count: lines that are stored.
        refused_count: lines that the server never takes.
        failure_count: batches that have to wait.
        delay_seconds: how long to wait before the next try; 0 when the last one succeeded.
    """

    def __init__(self, send: Callable[[list[Any]], Awaitable[Any]]) -> None:
        """Prepare.

        Args:
            send: stores a batch, once each line.
        """
        self._send = send
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what happened so far."""
        self.sent_count = self.refused_count = self.failure_count = 0
        self.delay_seconds = 0.0
        self._has_told = False

    def tell(self, message: str) -> None:
        """Log what is wrong, once until a batch is stored again."""
        if not self._has_told:
            self._has_told = True
            _log.warning("%s", message)

    async def send(self, lines: Sequence[bytes]) -> bool:
        """Return whether the lines are done: stored, or refused for good."""
        try:
            events = _events(lines)
            answer = await self._send(events)
        except Exception as error:  # noqa: BLE001 - whatever fails, the lines wait and the task goes on
            # Without a request id it is the client itself that is set up wrong.
            is_refusal = isinstance(error, DominusError) and error.request_id is not None
            if isinstance(error, DominusError) and is_refusal and error.status_code in _REFUSED:
                return await self._send_in_halves(lines, error)
            self.failed(error)
            return False
        failed: int = answer["failed"] + len(lines) - len(events)
        self.sent_count += len(lines) - failed
        self._refuse(failed, str(answer.get("errors")))
        self.delay_seconds, self._has_told = 0.0, self._has_told and failed > 0
        return True

    async def _send_in_halves(self, lines: Sequence[bytes], error: DominusError) -> bool:
        """Find the line that the server refuses, so that it holds up no other."""
        if len(lines) == 1:
            self._refuse(1, error.message)
            return True
        half = len(lines) // 2
        return await self.send(lines[:half]) and await self.send(lines[half:])

    def _refuse(self, count: int, why: str) -> None:
        if count:
            self.refused_count += count
            self.tell(f"the server refused {count} log lines: {why}")

    def failed(self, error: Exception | None) -> None:
        """Wait before the next try; without an error, the settings are wrong."""
        self.failure_count += 1
        if isinstance(error, (AuthenticationError, AuthorizationError, ValidationError)) or error is None:
            self.delay_seconds = REFUSED_DELAY_SECONDS
            self.tell(f"log lines wait: {error or 'the client is not set up'}")
            return
        self.delay_seconds = min(LONGEST_DELAY_SECONDS, max(FIRST_DELAY_SECONDS, self.delay_seconds * 2))
        _log.debug("log lines wait for %.3g s: %s", self.delay_seconds, error)


def _events(lines: Sequence[bytes]) -> list[Any]:
    """Read lines; one that a process wrote in part, or somebody else, is left out."""
    try:
        return from_json(b"[%b]" % b",".join(lines))
    except ValueError:
        return [event for line in lines if (event := _event(line)) is not None]


def _event(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        return None
