"""Which caller is next for one of a few connections: nobody has all of them, and who has fewest goes first."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

from dominus.errors import DominusError, RateLimitError, ServiceError

__all__ = ["FairShare", "TableName"]

TableName = tuple[str, str]
"""Schema and table."""
_Key = tuple[str, TableName | None]
_Line = deque[asyncio.Future[None]]


class FairShare:
    """A line before a pool of `size` connections. A connection that is free and not needed by others is had at once.

    One caller holds three quarters at most, so that statements which wait for a lock, or bodies that drip, never keep
    everybody else out. One table holds three quarters of those: what waits for a locked row does not keep out the same
    caller's statements of other tables. Both bounds hold while nobody else wants a connection, too, since a statement
    that waits for a lock does not give its connection back.

    When several wait, the caller that holds least is next, and of its tables the one that holds least: two that ask for
    more than there is have half each.
    """

    def __init__(
        self,
        size: int,
        *,
        wait_seconds: float,
        what: str,
        code: str = "database_busy",
        own_code: str | None = None,
        hint: str = "raise DOMINUS_POOL_SIZE, or find the slow statements",
    ) -> None:
        """Prepare.

        Args:
            size: connections.
            wait_seconds: how long a caller waits at most.
            what: names them in the error, for example `database connections`.
            code: of the error (503) when none becomes free in time.
            own_code: of the error (429) when the caller itself has all that one may have; None: as the other.
            hint: of both.
        """
        self._wait_seconds, self._what = wait_seconds, what
        self._code, self._own_code, self._hint = code, own_code, hint
        self._size = self._free = 0
        self._held: dict[str, int] = {}
        self._held_of: dict[_Key, int] = {}
        self._waiting: dict[str, dict[TableName | None, _Line]] = {}
        self.resize(size)

    def resize(self, size: int) -> None:
        """Have more or fewer from now on; who holds one keeps it."""
        self._free += size - self._size
        self._size = size
        self.most_each = _three_quarters(size)
        self.most_of_table = _three_quarters(self.most_each)
        self._hand_out()

    def held_by(self, subject: str, table: TableName | None = None) -> int:
        """Return how many a caller holds, or it holds for a table."""
        return self._held.get(subject, 0) if table is None else self._held_of.get((subject, table), 0)

    def of(self, subject: str, table: TableName | None = None) -> _Place:
        """Return a context manager that holds one of them for a caller; None: for no table in particular."""
        return _Place(self, (subject, table))

    async def take(self, subject: str, table: TableName | None = None) -> None:
        """Take one; raises ServiceError (503) when none becomes free in time."""
        if not self.take_now((subject, table)):
            await self.wait((subject, table))

    def take_now(self, key: _Key) -> bool:
        """Take one that is free."""
        # Who waits while one is free may not have more: nobody is overtaken.
        if self._free <= 0 or not self._may_have(key):
            return False
        self._free -= 1
        self._held[key[0]] = self._held.get(key[0], 0) + 1
        self._held_of[key] = self._held_of.get(key, 0) + 1
        return True

    async def wait(self, key: _Key) -> None:
        """Stand in line for one; raises as `take` does."""
        subject, table = key
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(subject, {}).setdefault(table, deque()).append(place)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.give(subject, table)
            else:
                self._leave(key, place)
            if isinstance(error, TimeoutError):
                raise self._busy(key) from error
            raise

    def give(self, subject: str, table: TableName | None = None) -> None:
        """Give one back, to who is next."""
        self._free += 1
        _take_one_off(self._held, subject)
        _take_one_off(self._held_of, (subject, table))
        if self._waiting:
            self._hand_out()

    def _may_have(self, key: _Key) -> bool:
        return self._held.get(key[0], 0) < self.most_each and (
            self._held_of.get(key, 0) < self.most_of_table or key[1] is None
        )

    def _hand_out(self) -> None:
        while self._free > 0 and (key := self._next()) is not None:
            line = self._waiting[key[0]][key[1]]
            place = line.popleft()
            self._drop_empty(key, line)
            if not place.done():
                self.take_now(key)
                place.set_result(None)

    def _next(self) -> _Key | None:
        best, least = None, self.most_each
        for subject, lines in self._waiting.items():
            held = self._held.get(subject, 0)
            if held < least:
                keys: list[_Key] = [(subject, table) for table in lines if self._may_have((subject, table))]
                if keys:
                    best, least = min(keys, key=self._holds), held
        return best

    def _holds(self, key: _Key) -> int:
        return self._held_of.get(key, 0)

    def _leave(self, key: _Key, place: asyncio.Future[None]) -> None:
        line = self._waiting.get(key[0], {}).get(key[1])
        if line is not None and place in line:
            line.remove(place)
            self._drop_empty(key, line)

    def _drop_empty(self, key: _Key, line: _Line) -> None:
        subject, table = key
        if not line:
            del self._waiting[subject][table]
        if not self._waiting[subject]:
            del self._waiting[subject]

    def _busy(self, key: _Key) -> DominusError:
        subject, table = key
        message = f"all {self._size} {self._what} are busy"
        if self.held_by(subject) >= self.most_each:
            message = f"this caller uses {self.most_each} {self._what}, the most that one may have"
            if self._own_code is not None:
                return RateLimitError(message, code=self._own_code, retry_after=1.0, hint=self._hint)
        elif table is not None and not self._may_have(key):
            message = f"this caller uses {self.most_of_table} {self._what} for the table {'.'.join(table)},"
            message += " the most that one table may have"
        return ServiceError(
            message,
            code=self._code,
            status_code=503,
            retry_after=1.0,
            hint=self._hint,
        )


def _three_quarters(count: int) -> int:
    return max(1, count - max(1, count // 4))


def _take_one_off(counts: dict[Any, int], key: Any) -> None:
    if counts[key] > 1:
        counts[key] -= 1
    else:
        del counts[key]


class _Place:
    __slots__ = ("_key", "_share")

    def __init__(self, share: FairShare, key: _Key) -> None:
        self._share, self._key = share, key

    async def __aenter__(self) -> None:
        if not self._share.take_now(self._key):
            await self._share.wait(self._key)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._share.give(*self._key)
