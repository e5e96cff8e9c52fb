"""New lines on to another place over HTTP: BetterStack's list of objects, or OTLP in JSON.

It is beside the way of a line: what is stored is stored whether or not the other place takes it. Lines wait in memory,
so many at most; what does not fit, or is refused for too long, is counted and told in our own log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx
from pydantic_core import to_json

from dominus.contract.logs import LEVELS
from dominus.orchestrator.net.tasks import end_task

if TYPE_CHECKING:
    from dominus.orchestrator.logs.store import Row

__all__ = ["Forwarder", "betterstack", "otlp"]

_log = logging.getLogger("dominus.orchestrator.logs")
MAX_WAITING = 20_000
MAX_BATCH = 500
TIMEOUT_SECONDS = 10.0
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.25, 30.0
TRIES = 6
TELL_SECONDS = 60.0
CLOSE_SECONDS = 2.0
# The severity numbers of OpenTelemetry: DEBUG, INFO, INFO2, WARN, ERROR, FATAL.
_SEVERITIES = (5, 9, 10, 13, 17, 21)
_LATER = frozenset({408, 425, 429})

Owner = Sequence[str]
"""Project, environment and principal."""


def betterstack(lines: Sequence[tuple[Owner, Row]]) -> bytes:
    """Return lines as BetterStack takes them: a list of objects with `dt`, `level` and `message`."""
    return to_json(
        [
            {
                "dt": row.logged_at.isoformat(),
                "level": LEVELS[row.level],
                "message": row.message,
                **_facts(owner, row),
                "context": row.context or {},
            }
            for owner, row in lines
        ],
        inf_nan_mode="strings",
    )


def otlp(lines: Sequence[tuple[Owner, Row]]) -> bytes:
    """Return lines as an OTLP collector takes them at `/v1/logs`."""
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for owner, row in lines:
        places.setdefault((owner[0], owner[1]), []).append(_record(owner, row))
    return to_json(
        {
            "resourceLogs": [
                {
                    "resource": {
                        "attributes": _attributes(
                            {"service.name": project, "deployment.environment.name": environment}
                        )
                    },
                    "scopeLogs": [{"scope": {"name": "dominus"}, "logRecords": records}],
                }
                for (project, environment), records in places.items()
            ]
        },
        inf_nan_mode="strings",
    )


def _record(owner: Owner, row: Row) -> dict[str, Any]:
    more = {f"context.{name}": value for name, value in (row.context or {}).items()}
    return {
        "timeUnixNano": str(int(row.logged_at.timestamp() * 1_000_000) * 1000),
        "severityNumber": _SEVERITIES[row.level],
        "severityText": LEVELS[row.level].upper(),
        "body": {"stringValue": row.message},
        "attributes": _attributes({**_facts(owner, row), **more}),
    }


def _facts(owner: Owner, row: Row) -> dict[str, Any]:
    facts = {
        "id": str(row.id),
        "category": row.category,
        "project": owner[0],
        "environment": owner[1],
        "file": row.file,
        "function": row.function,
        "line": row.line,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _attributes(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any_value(value)} for name, value in facts.items()]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    text = value if isinstance(value, str) else to_json(value, inf_nan_mode="strings").decode()
    return {"stringValue": text}


FORMATS = {"betterstack": betterstack, "otlp": otlp}


class Forwarder:
    """Sends lines on, from a task of its own."""

    def __init__(self, url: str, token: str | None, form: str) -> None:
        """Prepare; `open` begins.

        Args:
            url: where lines are posted.
            token: of the header `Authorization: Bearer`, if any.
            form: `betterstack` or `otlp`.
        """
        self._url = url
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._write = FORMATS[form]
        self._waiting: deque[tuple[Owner, Row]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told_at = float("-inf")
        self.forwarded_count = 0
        self.dropped_count = 0

    async def open(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name="dominus-log-forward")

    async def aclose(self) -> None:
        """Send what waits, for a moment at most, and end."""
        if self._task is None:
            return
        ends = time.monotonic() + CLOSE_SECONDS
        while self._waiting and not self._task.done() and time.monotonic() < ends:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.02)
        await end_task(self._task)

    def take(self, owner: Owner, rows: Sequence[Row]) -> None:
        """Take lines to be sent; what does not fit is dropped, and counted."""
        room = max(0, MAX_WAITING - len(self._waiting))
        self._waiting.extend((owner, row) for row in rows[:room])
        if len(rows) > room:
            self._tell(len(rows) - room, "it takes them too slowly")
        self._wake.set()

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers=self._headers) as client:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch = [self._waiting[at] for at in range(min(MAX_BATCH, len(self._waiting)))]
                    await self._send(client, batch)
                    for _ in batch:
                        self._waiting.popleft()

    async def _send(self, client: httpx.AsyncClient, batch: list[tuple[Owner, Row]]) -> None:
        delay, why = FIRST_DELAY_SECONDS, ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(delay)
                delay = min(LONGEST_DELAY_SECONDS, delay * 4)
            try:
                answer = await client.post(self._url, content=self._write(batch))
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                why = type(error).__name__
                continue
            if answer.is_success:
                self.forwarded_count += len(batch)
                return
            why = f"it answered {answer.status_code}"
            if answer.status_code < 500 and answer.status_code not in _LATER:
                break
        self._tell(len(batch), why)

    def _tell(self, count: int, why: str) -> None:
        self.dropped_count += count
        if time.monotonic() - self._told_at >= TELL_SECONDS:
            self._told_at = time.monotonic()
            _log.warning(
                "%d log lines were not forwarded so far, the last because %s", self.dropped_count, why
            )
