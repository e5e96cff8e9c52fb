"""PostgreSQL as the orchestrator uses it: one pool for its own tables, one for users' statements."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.engines.postgres.connection_limit import FULL_HINT, FULL_STATE
from dominus.orchestrator.engines.postgres.data_login import (
    DataLogin,
    KeySource,
    check_powers,
    derive_login,
)
from dominus.orchestrator.engines.postgres.direct_pool import DirectPool
from dominus.orchestrator.engines.postgres.errors import from_postgres
from dominus.orchestrator.engines.postgres.listen import Callback, Listener
from dominus.orchestrator.engines.postgres.migrate import migrate
from dominus.orchestrator.engines.postgres.secure_role import secure_role_of
from dominus.orchestrator.engines.postgres.typing import Connection, Pool
from dominus.orchestrator.settings import ServerSettings

__all__ = ["Postgres", "connect", "describe_dsn", "secure_pool_size"]

logger = logging.getLogger("dominus.postgres")

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
MAX_STATEMENTS = 500_000
"""A connection is replaced after so many: its server process keeps what it learned about every table."""

_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_COMMON = {"timezone": "UTC", "datestyle": "ISO, YMD", "intervalstyle": "postgres"}
# What users made in `public` must not stand in for a function, operator or type in our statements.
_OURS = {**_COMMON, "search_path": "pg_catalog, pg_temp"}
# All that a function which users made can leave behind in a session, and what tells that it took one of asyncpg's
# prepared statements away to put its own there. RESET ROLE goes back to the role that the session started with.
_CLEAN = """
RESET ROLE;
RESET ALL;
CLOSE ALL;
UNLISTEN *;
DISCARD TEMP;
SELECT pg_catalog.pg_advisory_unlock_all();
SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql
"""
_IS_CLEAN = "SELECT 0"
# More than fits into the memory that it may use goes to a temporary file: nothing is left of it, no row and no log.
_SPILL = """
SET LOCAL work_mem = '64kB';
SET LOCAL temp_tablespaces = '';
SELECT count(*) FROM generate_series(1, 20000)
"""


class Postgres:
    """Both pools of one database, its system schema up to date.

    Attributes:
        system: connections of the owner, for the schema `dominus`.
        data: connections of a login of its own that run under the data role, for users' statements, with a
            statement timeout; cleaned of what users' functions left before anybody else has them.
    """

    def __init__(self, dsn: str, system: Pool, data: Pool, open_secure: Callable[[], Any]) -> None:
        self.system = system
        self.data = data
        self._dsn = dsn
        self._open_secure = open_secure
        self._secure: Pool | None = None
        self._opening = asyncio.Lock()
        self._listener = Listener(lambda: connect(dsn, application_name="dominus listen"))

    @classmethod
    async def open(cls, dsn: str, settings: ServerSettings, keys: KeySource) -> Self:
        """Connect, migrate, start the keys, and open the pools; connections are made when they are needed.

        Args:
            dsn: the owner's.
            settings: the orchestrator's.
            keys: what name and password of the data pool's login come from.

        Raises:
            ServiceError: the server is not reached or refuses us, or users' statements could do more than they may;
                the message names it, without the password.
            ValidationError: `dsn` is no PostgreSQL URL.
        """
        await _migrate(dsn, settings.data_role)
        async with contextlib.AsyncExitStack() as stack:
            try:
                size = max(2, settings.pool_size // 4)
                system = await _pool(dsn, size, {**_OURS, "application_name": "dominus system"})
                stack.push_async_callback(system.close)
                await keys.start(system)
                data = await _data_pool(dsn, settings, derive_login(keys, settings.data_role, system))
                stack.push_async_callback(data.close)
                async with data.acquire() as connection:
                    await check_powers(system, connection)
            except _FAILURES as error:
                raise _unreachable(dsn, error) from error
            stack.pop_all()
        secure_login = derive_login(keys, secure_role_of(settings.data_role), system)
        return cls(dsn, system, data, lambda: _secure_pool(dsn, settings, secure_login))

    async def secure(self) -> Pool:
        """Return the connections for secure tables: of a login of their own, opened at the first use.

        Nothing that users made runs there with its rights. With less it may, where a foreign key leads to a table of
        theirs (see secure_role.py): who writes to a table that has such cleans up with LEFT_BEHIND in its transaction.

        Raises:
            ServiceError: the login cannot be made (`secure_tables_unavailable`), or can do too much.
        """
        async with self._opening:
            if self._secure is None:
                self._secure = await self._checked_secure()
            return self._secure

    async def _checked_secure(self) -> Pool:
        try:
            pool: Pool = await self._open_secure()
        except ServiceError as error:
            if error.code != "data_login_missing":
                raise
            raise ServiceError(
                "secure tables need a database login of their own, which the user of DOMINUS_DATABASE_URL may not make",
                code="secure_tables_unavailable",
                retryable=False,
                hint="as an administrator: ALTER ROLE <this user> CREATEROLE;"
                " GRANT <DOMINUS_DATA_ROLE>_secure TO <this user> WITH ADMIN OPTION",
            ) from error
        try:
            async with pool.acquire() as connection:
                await check_powers(self.system, connection)
        except BaseException:
            pool.terminate()
            raise
        return pool

    async def check(self) -> None:
        """Ask the database for an answer."""
        await self.system.fetchval("SELECT 1")

    async def check_writes(self) -> None:
        """Write a temporary file of about 300 KB.

        Raises:
            DominusError: PostgreSQL refuses it, or does not answer; `disk_full` when there is no space for it.
        """
        try:
            async with self.system.acquire() as connection, connection.transaction():
                await connection.execute(_SPILL)
        except _FAILURES as error:
            raise from_postgres(error) from error

    async def connect(self, database: str) -> Connection:
        """Return a connection of the owner to another database of the server.

        Raises:
            ServiceError: the server refuses it.
        """
        return await connect(self._dsn, application_name="dominus system", database=database)

    async def listen(self, channel: str, callback: Callback) -> None:
        """Call `callback(payload)` for each notification of a channel, from when this returns on.

        After a lost connection it is called with None: notifications may have been missed.
        """
        await self._listener.listen(channel, callback)

    async def notify(self, channel: str, payload: str = "") -> None:
        """Send a notification to all listeners of all replicas; a payload has less than 8,000 bytes."""
        await self.system.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def aclose(self) -> None:
        """Close everything; what still runs after a few seconds is cut off."""
        await self._listener.aclose()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*(pool.close() for pool in self._pools()))
        except _FAILURES as error:
            logger.warning("PostgreSQL connections were cut off at the end: %s", type(error).__name__)
            for pool in self._pools():
                pool.terminate()

    def _pools(self) -> list[Pool]:
        return [self.system, self.data, *([self._secure] if self._secure is not None else [])]


def secure_pool_size(size: int) -> int:
    """Return how many connections secure tables have beside a data pool of this size."""
    return max(2, size // 2)


def _data_pool(dsn: str, settings: ServerSettings, login: DataLogin) -> Any:
    session = _session(settings, "dominus data", settings.data_role)
    given = settings.data_url.get_secret_value() if settings.data_url is not None else ""
    if given:
        return _pool(given, settings.pool_size, session, cleanup=_clean)
    made = {"user": login.user, "password": login.password, "connect": login.connect}
    return _pool(dsn, settings.pool_size, session, cleanup=_clean, **made)


def _secure_pool(dsn: str, settings: ServerSettings, login: DataLogin) -> Any:
    session = _session(settings, "dominus secure", login.data_role)
    made = {"user": login.user, "password": login.password, "connect": login.connect}
    return _pool(dsn, secure_pool_size(settings.pool_size), session, cleanup=_clean, **made)


def _session(settings: ServerSettings, name: str, role: str) -> dict[str, str]:
    milliseconds = str(max(1, round(settings.statement_timeout * 1000)))
    return {
        **_OURS,
        "application_name": name,
        # As a setting of the session's start it is also what RESET ROLE goes back to.
        "role": role,
        "statement_timeout": milliseconds,
        "lock_timeout": str(max(1, round(settings.lock_timeout * 1000))),
        "idle_in_transaction_session_timeout": milliseconds,
        "jit": "off",
    }


def _pool(dsn: str, size: int, server_settings: dict[str, str], **options: Any) -> Any:
    return DirectPool(
        dsn,
        min_size=0,
        init_size=1,
        max_size=size,
        max_queries=MAX_STATEMENTS,
        max_inactive_connection_lifetime=300.0,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        timeout=CONNECT_SECONDS,
        server_settings=server_settings,
        **options,
    )


async def _clean(connection: Any) -> None:
    """Undo what users' functions may have done to a session; raise when they replaced a prepared statement."""
    if await connection.execute(_CLEAN) != _IS_CLEAN:
        raise asyncpg.InterfaceError("a statement was prepared by what users made")


async def _migrate(dsn: str, data_role: str) -> None:
    connection = await connect(dsn, application_name="dominus migrate")
    try:
        await migrate(connection, data_role)
    except _FAILURES as error:
        raise _unreachable(dsn, error) from error
    finally:
        await connection.close(timeout=CLOSE_SECONDS)


async def connect(dsn: str, *, application_name: str, database: str | None = None) -> Connection:
    """Return one connection.

    Raises:
        ServiceError: the server is not reached or refuses us.
        ValidationError: `dsn` is no PostgreSQL URL.
    """
    # Not urlsplit: it quotes what it does not understand, password and all.
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise ValidationError(
            "the database URL is no PostgreSQL URL",
            hint="DOMINUS_DATABASE_URL looks like postgresql://user:password@host:5432/database",
        )
    open_one = cast("Callable[..., Awaitable[Connection]]", cast("Any", asyncpg).connect)
    try:
        return await open_one(
            dsn,
            database=database,
            timeout=CONNECT_SECONDS,
            server_settings={**_OURS, "application_name": application_name},
        )
    except (*_FAILURES, ValueError) as error:
        raise _unreachable(dsn, error, database) from None


def _unreachable(dsn: str, error: Exception, database: str | None = None) -> ServiceError:
    reason = str(error) if isinstance(error, asyncpg.PostgresError) else _reason(error)
    is_full = isinstance(error, asyncpg.TooManyConnectionsError)
    return ServiceError(
        f"PostgreSQL at {describe_dsn(dsn, database)} cannot be used: {reason}",
        code="database_busy" if is_full else "database_unavailable",
        status_code=503,
        details={"sqlstate": FULL_STATE} if is_full else None,
        hint=FULL_HINT if is_full else "check DOMINUS_DATABASE_URL and that the server runs",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno and error.errno > 0 else "it is not reached"
    # The rest is about the form of the URL, and may quote a part of it.
    return "the URL is not understood"


def describe_dsn(dsn: str, database: str | None = None) -> str:
    """Return host and database of a DSN, and nothing secret."""
    try:
        parts = urlsplit(dsn)
        options = parse_qs(parts.query)
        host = parts.hostname or options.get("host", ["the local socket"])[0]
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable URL"
    return f"{host}{port}, database {database or unquote(parts.path.lstrip('/')) or 'of the user'}"
