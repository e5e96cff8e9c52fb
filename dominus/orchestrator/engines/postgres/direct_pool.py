"""A pool of PostgreSQL connections that hands them from statement to statement."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, cast

import asyncpg
from asyncpg.pool import PoolAcquireContext

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.connection_limit import FULL_HINT, FULL_STATE, ConnectionLimit

__all__ = ["Cleanup", "DirectPool"]

logger = logging.getLogger("dominus.postgres")

ACQUIRE_SECONDS = 10.0
"""How long a request waits for a free connection, if its deadline is not sooner."""
RELEASE_EVERY = 1000
"""So often a kept connection goes through the pool, which retires the old ones."""
CLEANUP_SECONDS = 5.0
FRESH_SECONDS = 1.0
_FAILURES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_Base: Any = asyncpg.Pool

Cleanup = Callable[[Any], Awaitable[None]]
"""Gets a connection, and raises when it must not be used again."""


async def _keep(_connection: Any) -> None:
    # In place of asyncpg's reset, a round trip for each statement: for connections on which only our own run.
    return


class DirectPool(_Base):
    """A pool whose callers do not wait for ever, and whose statements do not pay for giving a connection back.

    asyncpg gives one back, and waits for one, in a task of its own: a fifth of what a ten-row query costs here. So a
    connection is handed to whoever waits longest, or kept at hand for the next statement, and goes through asyncpg's
    own queue only to be retired.

    When PostgreSQL has no connection left, callers wait in line for those that are there, and the pool stays smaller
    for some seconds (`ConnectionLimit`).

    With `cleanup`, a connection is cleaned before it is anybody else's: what ran on it may have been more than our own
    statement, by a trigger, a view's function, a cast. Who asked does not wait for that. It costs PostgreSQL as much as
    a ten-row query, so after a statement that is known to run nothing of users' (`is_inert`) it waits, for a second at
    most: somebody may have altered the table since it was looked at.
    """

    def __init__(self, *args: Any, cleanup: Cleanup | None = None, **options: Any) -> None:
        _Base.__init__(self, *args, reset=cleanup or _keep, **options)
        self._cleanup = cleanup
        self._cleaning: set[asyncio.Task[None]] = set()
        self._cleaned_at: dict[Any, float] = {}
        self._kept: list[Any] = []
        self._line: deque[asyncio.Future[Any]] = deque()
        self._out_count = 0
        """Connections that asyncpg gave us: kept, or in use."""
        self._served = 0
        self.limit = ConnectionLimit(self.get_max_size(), self._wake)

    async def fetchrow(self, query: str, *args: Any, is_inert: bool = False, **options: Any) -> Any:
        """Run one statement and return its first row; `is_inert`: nothing that users made runs with it."""
        try:
            return await self._fetchrow(query, args, is_inert, options)
        except asyncpg.InvalidSQLStatementNameError:
            # It did not run: what was prepared for it is gone, and with it now the connection.
            return await self._fetchrow(query, args, is_inert, options)

    async def _fetchrow(
        self, query: str, args: tuple[Any, ...], is_inert: bool, options: dict[str, Any]
    ) -> Any:
        connection = self._at_hand() or await _Acquire(self, ACQUIRE_SECONDS)
        try:
            row = await connection.fetchrow(query, *args, **options)
        except asyncpg.PostgresError as error:
            if getattr(error, "severity_en", "") == "ERROR" and not _has_lost_statements(error):
                await self.release(connection)
            else:
                self._end(connection)
            raise
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            self._end(connection)
            raise
        except BaseException:
            # Cancelled: asyncpg stops the statement on the server before it gives the connection to another.
            await self._retire(connection)
            raise
        if not (is_inert and self._is_fresh(connection) and self._pass_on(connection)):
            await self.release(connection)
        return row

    async def take(self, seconds: float) -> Any:
        """Return a connection, waiting in line for so long at most."""
        async with asyncio.timeout(seconds):
            while True:
                connection = self._at_hand()
                if connection is None and self._out_count < self.limit.current:
                    connection = await self._more()
                elif connection is None:
                    connection = await self._stand_in_line()
                if connection is not None:
                    return connection

    async def _more(self) -> Any:
        """Return another connection; None: PostgreSQL has none left."""
        self._out_count += 1
        try:
            connection = await self._acquire(None)
        except asyncpg.TooManyConnectionsError:
            self._out_count -= 1
            self.limit.refused(self.get_size())
            return None
        except BaseException:
            self._is_free()
            raise
        self.limit.opened(self.get_size())
        return connection

    async def _stand_in_line(self) -> Any:
        """Return the connection that was passed on; None: there is room for another."""
        place: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # It was passed on to a caller who is gone.
                connection = place.result()
                if connection is None:
                    self._wake()
                elif not self._pass_on(connection):
                    self._end(connection)
            raise

    def acquire(self, *, timeout: float | None = None, is_inert: bool = False) -> PoolAcquireContext:
        """Return a context manager that holds a connection; `is_inert`: nothing that users made runs on it."""
        return _Acquire(self, timeout or ACQUIRE_SECONDS, is_inert=is_inert)

    async def release(self, connection: Any, *, timeout: float | None = None, is_inert: bool = False) -> None:
        """Take a connection back; it is cleaned in the background, unless nothing that users made ran on it."""
        if self._cleanup is None or is_inert or not _is_usable(connection):
            if not self._pass_on(connection):
                await self._retire(connection, timeout)
            return
        task = asyncio.create_task(self._clean(self._cleanup, connection))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    def _is_fresh(self, connection: Any) -> bool:
        cleaned_at = self._cleaned_at.get(connection, float("-inf"))
        return self._cleanup is None or asyncio.get_running_loop().time() - cleaned_at < FRESH_SECONDS

    async def _clean(self, cleanup: Cleanup, connection: Any) -> None:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await cleanup(connection)
        except BaseException as error:
            self._end(connection)
            if not isinstance(error, _FAILURES):
                raise
            logger.warning("a connection could not be cleaned, and is closed: %s", type(error).__name__)
            return
        self._cleaned_at[connection] = asyncio.get_running_loop().time()
        if not self._pass_on(connection):
            await self._retire(connection)

    def _pass_on(self, connection: Any) -> bool:
        """Give a connection to the first in line, or keep it; false when it must go back to asyncpg."""
        self._served += 1
        if self.is_closing() or self._served % RELEASE_EVERY == 0 or not _is_usable(connection):
            return False
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(connection)
                return True
        self._kept.append(connection)
        return True

    async def _retire(self, connection: Any, timeout: float | None = None) -> None:
        self._cleaned_at.pop(connection, None)
        try:
            await _Base.release(self, connection, timeout=timeout)
        finally:
            self._is_free()

    def discard(self, connection: Any) -> None:
        """Take a connection back to close it."""
        self._end(connection)

    def _end(self, connection: Any) -> None:
        # A fatal error comes a moment before the end of its connection, which until then looks alive. Where asyncpg
        # knows of the end already, it refuses, and the caller shall see the error itself.
        self._cleaned_at.pop(connection, None)
        with contextlib.suppress(asyncpg.InterfaceError):
            connection.terminate()
        self._is_free()

    def _at_hand(self) -> Any:
        while self._kept:
            connection = self._kept.pop()
            if _is_usable(connection):
                return connection
            self._end(connection)
        return None

    def _is_free(self) -> None:
        self._out_count -= 1
        self._wake()

    def _wake(self) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return

    async def close(self) -> None:
        """Close all connections, when their statements have ended."""
        while self._cleaning:
            await asyncio.gather(*self._cleaning, return_exceptions=True)
        while self._kept:
            await self._retire(self._kept.pop())
        try:
            await _Base.close(self)
        finally:
            self.limit.close()
            self._wake()

    def terminate(self) -> None:
        """Cut off all connections."""
        _Base.terminate(self)
        self.limit.close()
        self._wake()


def _has_lost_statements(error: BaseException | None) -> bool:
    # Somebody deallocated what asyncpg had prepared: all that it sends would fail.
    return isinstance(error, asyncpg.InvalidSQLStatementNameError)


def _is_usable(connection: Any) -> bool:
    try:
        return not connection.is_closed() and not connection.is_in_transaction()
    except asyncpg.InterfaceError:
        # asyncpg took it back: it was lost.
        return False


class _Acquire(PoolAcquireContext):
    def __init__(self, pool: Any, timeout: float, *, is_inert: bool = False) -> None:
        super().__init__(pool, timeout)
        self._is_inert = is_inert

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        connection: Any = self.connection
        if connection is not None and _has_lost_statements(error):
            self.connection = None
            self.done = True
            cast("DirectPool", self.pool).discard(connection)
            return
        if connection is not None and self._is_inert:
            self.connection = None
            self.done = True
            await cast("DirectPool", self.pool).release(connection, is_inert=True)
            return
        await super().__aexit__(kind, error, trace)

    async def __aenter__(self) -> Any:
        return await self._take()

    def __await__(self) -> Any:
        return self._take().__await__()

    async def _take(self) -> Any:
        pool = cast("DirectPool", self.pool)
        seconds = self.timeout or ACQUIRE_SECONDS
        try:
            self.connection = await pool.take(seconds)
        except TimeoutError as error:
            raise _busy(pool) from error
        return self.connection


def _busy(pool: Any) -> ServiceError:
    size, open_count = pool.get_max_size(), pool.get_size()
    message, code, details, hint = "the database does not answer", "database_unavailable", None, None
    if open_count >= size:
        message, code = f"all {size} database connections are busy", "database_busy"
        hint = "raise DOMINUS_POOL_SIZE, or find the slow statements"
    elif pool.limit.was_refused(ACQUIRE_SECONDS):
        message, code = "PostgreSQL has no connection left for this server", "database_busy"
        if open_count:
            message += f", whose own {open_count} are busy"
        details = {"sqlstate": FULL_STATE}
        hint = FULL_HINT
    return ServiceError(message, code=code, status_code=503, details=details, retry_after=1.0, hint=hint)
