"""asyncpg's connections and pools, going straight to the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import asyncpg

from dominus.errors import DominusConnectionError, DominusError
from dominus.sessions.access import Access
from dominus.sessions.logins import Logins

__all__ = ["open_connection", "open_pool"]

_asyncpg: Any = asyncpg  # it ships no types
_log = logging.getLogger("dominus.sessions")
CLOSE_SECONDS = 5.0
"""How long a database that is told goodbye is waited for."""
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class _GatewayLoop:
    """The running event loop, whose TCP connections are opened through the gateway.

    asyncpg takes no socket. It takes a loop, and opens its connections, those that cancel a query among them, with
    nothing else than the loop's `create_connection`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, access: Access) -> None:
        self._loop = loop
        self._access = access

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    # asyncio looks its tasks up by their loop.
    def __eq__(self, other: object) -> bool:
        return other is self or other is self._loop

    def __hash__(self) -> int:
        return hash(self._loop)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], *_: object
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        return await self._access.open(factory)


class _Connector:
    """Opens native connections; each one with a login that is good now."""

    def __init__(self, access: Access, logins: Logins, options: dict[str, Any]) -> None:
        self._access = access
        self._logins = logins
        self._options = options

    async def __call__(self, *_: object, loop: Any = None, **more: Any) -> Any:
        """Open one; also called by asyncpg's pool."""
        running = loop or asyncio.get_running_loop()
        login = await self._logins.current()
        native: dict[str, Any] = {
            **self._options,
            **more,
            "host": "gateway",
            "port": 5432,
            "user": login.username,
            "password": login.password,
            "database": login.database,
            "ssl": False,
            "loop": _GatewayLoop(running, self._access),
        }
        return await _asyncpg.connect(**native)


async def open_connection(
    access: Access, database: str | None, options: dict[str, Any], stack: contextlib.AsyncExitStack
) -> Any:
    """Open an `asyncpg.Connection`; `stack` closes it and releases its login."""
    connector = _Connector(access, await _logins(access, database, stack), options)
    try:
        opened = await connector()
    except DominusError:
        raise
    except _FAILURES as error:
        raise _not_connected(error) from error
    stack.push_async_callback(opened.close, timeout=CLOSE_SECONDS)
    return opened


async def open_pool(
    access: Access, database: str | None, options: dict[str, Any], stack: contextlib.AsyncExitStack
) -> Any:
    """Open an `asyncpg.Pool`; `stack` closes it and releases its logins."""
    connector = _Connector(access, await _logins(access, database, stack), {})
    pool = _asyncpg.create_pool(**{"min_size": 1, **options, "connect": connector})
    try:
        await pool
    except DominusError:
        raise
    except _FAILURES as error:
        raise _not_connected(error) from error
    stack.push_async_callback(_close_pool, pool)
    return pool


async def _close_pool(pool: Any) -> None:
    """Wait for connections that are still in use, but not for ever."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()
        _log.warning(
            "connections of a postgres pool were in use when its session was closed: they were ended"
        )


async def _logins(access: Access, database: str | None, stack: contextlib.AsyncExitStack) -> Logins:
    logins = Logins(access, database)
    stack.push_async_callback(logins.release)
    await logins.current()
    return logins


def _not_connected(error: Exception) -> DominusConnectionError:
    return DominusConnectionError(f"PostgreSQL does not answer through the gateway: {error}")
