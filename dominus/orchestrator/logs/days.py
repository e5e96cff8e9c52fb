"""The partitions of `dominus.logs`, one for each day (UTC): made ahead or when needed, dropped when they are old.

Any replica may do either at any time: the lock is on our own table, and lets lines in meanwhile.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dominus.orchestrator.engines.postgres.errors import FAILURES, sqlstate

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres

__all__ = ["DAYS_AHEAD", "LogDays", "first_id", "moment_of"]

_log = logging.getLogger("dominus.orchestrator.logs")
DAYS_AHEAD = 3
"""Made before they are needed; also how far the clock of a program may be ahead of ours."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PARTITION = re.compile(r"logs_(\d{4})(\d\d)(\d\d)")
_LOCK_NOT_AVAILABLE = "55P03"
# It keeps other replicas from this work, and no line from being stored.
_LOCK = "LOCK TABLE dominus.logs IN SHARE UPDATE EXCLUSIVE MODE"
_LIST = """
SELECT c.relname
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'dominus.logs'::regclass
ORDER BY c.relname
"""
# Attached when it is whole: making it as a partition at once would keep all lines waiting.
_MAKE = """
CREATE TABLE dominus.{name} (LIKE dominus.logs INCLUDING ALL);
ALTER TABLE dominus.logs ATTACH PARTITION dominus.{name} FOR VALUES FROM ('{first}') TO ('{end}');
"""
# Behind a long query it would keep all others waiting, too: the next hour tries again.
_DROP = "SET LOCAL lock_timeout = '2s'; DROP TABLE dominus.{name}"


def first_id(moment: dt.datetime) -> uuid.UUID:
    """Return the least id that a line of a moment can have."""
    milliseconds = max(0, (moment - _EPOCH) // dt.timedelta(milliseconds=1))
    return uuid.UUID(int=min(milliseconds, 2**48 - 1) << 80)


def moment_of(line_id: uuid.UUID) -> dt.datetime:
    """Return when a line was written: milliseconds, and what our own ids say of their fraction."""
    value = line_id.int
    microseconds = (value >> 80) * 1000 + ((value >> 64) & 0xFFF) * 1000 // 4096
    return _EPOCH + dt.timedelta(microseconds=microseconds)


class LogDays:
    """The days of which lines are kept."""

    def __init__(self, postgres: Postgres, retention_days: int) -> None:
        self._postgres = postgres
        self._retention = dt.timedelta(days=retention_days)
        self._known: set[dt.date] = set()

    def span(self) -> tuple[uuid.UUID, uuid.UUID]:
        """Return the first id that is kept, and the first that is too far in the future."""
        today = _today()
        return (
            first_id(_midnight(today - self._retention)),
            first_id(_midnight(today + dt.timedelta(days=DAYS_AHEAD + 1))),
        )

    async def ensure(self, days: Iterable[dt.date]) -> None:
        """Make the partitions of some days, where they are missing."""
        missing = set(days) - self._known
        if missing:
            await self._make(missing)
            self._known |= missing

    async def keep(self) -> list[str]:
        """Make the next days, and drop those that are older than the retention; return the names of the dropped."""
        today = _today()
        await self.ensure(today + dt.timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1))
        oldest = today - self._retention
        self._known = {day for day in self._known if day >= oldest}
        return [name for name in await self._names() if _day_of(name) < oldest and await self._drop(name)]

    def forget(self) -> None:
        """Look again which days there are: a partition was dropped behind our back."""
        self._known.clear()

    async def _names(self) -> list[str]:
        rows = await self._postgres.system.fetch(_LIST)
        return [row["relname"] for row in rows if _PARTITION.fullmatch(row["relname"])]

    async def _make(self, days: set[dt.date]) -> None:
        async with self._postgres.system.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK)
            there = {row["relname"] for row in await connection.fetch(_LIST)}
            for day in sorted(days):
                name = f"logs_{day:%Y%m%d}"
                if name not in there:
                    first, end = (first_id(_midnight(day + dt.timedelta(days=more))) for more in (0, 1))
                    await connection.execute(_MAKE.format(name=name, first=first, end=end))

    async def _drop(self, name: str) -> bool:
        try:
            async with self._postgres.system.acquire() as connection, connection.transaction():
                await connection.execute(_LOCK)
                if name not in {row["relname"] for row in await connection.fetch(_LIST)}:
                    return False
                await connection.execute(_DROP.format(name=name))
        except FAILURES as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            _log.info("%s is in use, and is dropped later", name)
            return False
        _log.info("dropped %s: its lines are older than DOMINUS_LOG_RETENTION_DAYS", name)
        return True


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def _day_of(name: str) -> dt.date:
    found = _PARTITION.fullmatch(name)
    return dt.date(*(int(part) for part in found.groups())) if found else dt.date.max
