"""What makes sessions: `dominus.sessions.redis()` and its like. Drivers are imported when a session connects."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dominus.errors import ServiceError, ValidationError
from dominus.hints import install_command
from dominus.sessions.background import run
from dominus.sessions.session import AsyncSession, Session

if TYPE_CHECKING:
    import asyncpg
    import psycopg
    import redis
    import redis.asyncio
    import tigerbeetle

    from dominus.sessions.access import Access, Routes

__all__ = ["NativeTypes", "PostgresSessions", "RedisSessions", "TigerBeetleSessions"]

_REDIS_WAYS = ("host", "port", "unix_socket_path", "connection_pool", "ssl")
_POSTGRES_WAYS = ("dsn", "conninfo", "host", "hostaddr", "port", "user", "password", "passfile",
    "service", "ssl", "direct_tls", "connect")  # fmt: skip


class _Factory:
    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    async def _access(self, target: str, stack: contextlib.AsyncExitStack) -> Access:
        stack.push_async_callback(self._routes.aclose)
        return await self._routes.access(target)

    def _sync_access(self, target: str, stack: contextlib.ExitStack) -> Access:
        stack.callback(lambda: run(self._routes.aclose()))
        return run(self._routes.access(target))


class RedisSessions(_Factory):
    """Sessions with Redis. Options are those of the native client."""

    def __call__(
        self, *, db: int = 0, decode_responses: bool = True, target: str = "redis", **options: Any
    ) -> AsyncSession[redis.asyncio.Redis]:
        """Return a session whose native client is `redis.asyncio.Redis`.

        Args:
            db: the number of the database, from 0.
            decode_responses: answer text instead of bytes.
            target: the gateway's name of the database.
            **options: what `redis.asyncio.Redis` takes, for example `max_connections`.

        Raises:
            ValidationError: an option says where the server is; the gateway knows that.

        Example:
            ```python
            async with dominus.sessions.redis() as rd:
                await rd.zadd("scores", {"ada": 36})
                print(await rd.zrange("scores", 0, -1, withscores=True))
            ```
        """
        _refuse(options, _REDIS_WAYS)
        native = {"db": db, "decode_responses": decode_responses, **options}

        async def opening(stack: contextlib.AsyncExitStack) -> redis.asyncio.Redis:
            with _needs("redis"):
                from dominus.sessions.drivers.redis_async import open_client
            return await open_client(await self._access(target, stack), native, stack)

        return AsyncSession(target, opening)

    def sync(
        self, *, db: int = 0, decode_responses: bool = True, target: str = "redis", **options: Any
    ) -> Session[redis.Redis]:
        """Return a session whose native client is `redis.Redis`.

        Args:
            db: the number of the database, from 0.
            decode_responses: answer text instead of bytes.
            target: the gateway's name of the database.
            **options: what `redis.Redis` takes, for example `max_connections`.

        Raises:
            ValidationError: an option says where the server is; the gateway knows that.

        Example:
            ```python
            with dominus.sessions.redis.sync() as rd:
                rd.set("key", "value", ex=60)
            ```
        """
        _refuse(options, _REDIS_WAYS)
        native = {"db": db, "decode_responses": decode_responses, **options}

        def opening(stack: contextlib.ExitStack) -> tuple[redis.Redis, None]:
            with _needs("redis"):
                from dominus.sessions.drivers.redis_sync import open_client
            return open_client(self._sync_access(target, stack), native, stack), None

        return Session(target, opening)


class PostgresSessions(_Factory):
    """Sessions with PostgreSQL, each with a login that ends with it. Options are those of the native client."""

    def __call__(
        self, *, database: str | None = None, target: str = "postgres", **options: Any
    ) -> AsyncSession[asyncpg.Connection]:
        """Return a session whose native client is an `asyncpg.Connection`: transactions, joins, any SQL.

        Args:
            database: another database than the orchestrator's.
            target: the gateway's name of the server.
            **options: what `asyncpg.connect` takes, for example `command_timeout`.

        Raises:
            ValidationError: an option says where the server is, or who logs in; the gateway knows that.

        Example:
            ```python
            async with dominus.sessions.postgres() as pg, pg.transaction():
                await pg.execute("UPDATE orders SET status = $1 WHERE customer = $2", "paid", "ada")
                print(await pg.fetchval("SELECT count(*) FROM orders WHERE status = 'paid'"))
            ```
        """
        _refuse(options, _POSTGRES_WAYS)

        async def opening(stack: contextlib.AsyncExitStack) -> asyncpg.Connection:
            with _needs("asyncpg"):
                from dominus.sessions.drivers.asyncpg import open_connection
            return await open_connection(await self._access(target, stack), database, options, stack)

        return AsyncSession(target, opening)

    def pool(
        self, *, database: str | None = None, target: str = "postgres", **options: Any
    ) -> AsyncSession[asyncpg.Pool]:
        """Return a session whose native client is an `asyncpg.Pool`.

        Args:
            database: another database than the orchestrator's.
            target: the gateway's name of the server.
            **options: what `asyncpg.create_pool` takes; `min_size` is 1 unless given.

        Raises:
            ValidationError: an option says where the server is, or who logs in; the gateway knows that.

        Example:
            ```python
            async with dominus.sessions.postgres.pool(max_size=20) as pool:
                rows = await pool.fetch("SELECT city, count(*) FROM people GROUP BY city")
            ```
        """
        _refuse(options, _POSTGRES_WAYS)

        async def opening(stack: contextlib.AsyncExitStack) -> asyncpg.Pool:
            with _needs("asyncpg"):
                from dominus.sessions.drivers.asyncpg import open_pool
            return await open_pool(await self._access(target, stack), database, options, stack)

        return AsyncSession(target, opening)

    def sync(
        self, *, database: str | None = None, target: str = "postgres", **options: Any
    ) -> Session[psycopg.Connection[Any]]:
        """Return a session whose native client is a `psycopg.Connection`.

        As with psycopg itself, the end of the `with` block commits, or rolls back after an exception.

        Args:
            database: another database than the orchestrator's.
            target: the gateway's name of the server.
            **options: what `psycopg.connect` takes, for example `autocommit`.

        Raises:
            ValidationError: an option says where the server is, or who logs in; the gateway knows that.

        Example:
            ```python
            with dominus.sessions.postgres.sync() as pg:
                pg.execute("UPDATE people SET city = %s WHERE name = %s", ("Oslo", "Ada"))
            ```
        """
        _refuse(options, _POSTGRES_WAYS)

        def opening(stack: contextlib.ExitStack) -> tuple[psycopg.Connection[Any], Any]:
            with _needs("psycopg"):
                from dominus.sessions.drivers.psycopg import open_connection
            opened = open_connection(self._sync_access(target, stack), database, options, stack)
            return opened, opened.__exit__

        return Session(target, opening)


class NativeTypes:
    """Hands out what the `tigerbeetle` package has: `Account`, `Transfer`, `AccountFlags`, `id` ..."""

    if TYPE_CHECKING:
        Account = tigerbeetle.Account
        AccountBalance = tigerbeetle.AccountBalance
        AccountFilter = tigerbeetle.AccountFilter
        AccountFilterFlags = tigerbeetle.AccountFilterFlags
        AccountFlags = tigerbeetle.AccountFlags
        CreateAccountResult = tigerbeetle.CreateAccountResult
        CreateAccountStatus = tigerbeetle.CreateAccountStatus
        CreateTransferResult = tigerbeetle.CreateTransferResult
        CreateTransferStatus = tigerbeetle.CreateTransferStatus
        QueryFilter = tigerbeetle.QueryFilter
        QueryFilterFlags = tigerbeetle.QueryFilterFlags
        Transfer = tigerbeetle.Transfer
        TransferFlags = tigerbeetle.TransferFlags
        AMOUNT_MAX = tigerbeetle.AMOUNT_MAX
        id = staticmethod(tigerbeetle.id)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with _needs("tigerbeetle"):
            import tigerbeetle
        return getattr(tigerbeetle, name)

    def __dir__(self) -> Iterable[str]:
        with _needs("tigerbeetle"):
            import tigerbeetle
        return sorted({*super().__dir__(), *tigerbeetle.__all__})


class TigerBeetleSessions(_Factory, NativeTypes):
    """Sessions with TigerBeetle, and all its native types: `dominus.sessions.tigerbeetle.Account(...)`."""

    def __call__(
        self, *, cluster_id: int = 0, target: str = "tigerbeetle"
    ) -> AsyncSession[tigerbeetle.ClientAsync]:
        """Return a session whose native client is a `tigerbeetle.ClientAsync`.

        Args:
            cluster_id: the number of the cluster, from 0.
            target: the gateway's name of the cluster.

        Example:
            ```py
            tigerbeetle = dominus.sessions.tigerbeetle
            async with tigerbeetle() as tb:
                await tb.create_accounts([tigerbeetle.Account(id=tigerbeetle.id(), ledger=1, code=1)])
            ```
        """

        async def opening(stack: contextlib.AsyncExitStack) -> tigerbeetle.ClientAsync:
            with _needs("tigerbeetle"):
                from dominus.sessions.drivers.tigerbeetle import open_async
            return await open_async(await self._access(target, stack), cluster_id, stack)

        return AsyncSession(target, opening)

    def sync(self, *, cluster_id: int = 0, target: str = "tigerbeetle") -> Session[tigerbeetle.ClientSync]:
        """Return a session whose native client is a `tigerbeetle.ClientSync`.

        Args:
            cluster_id: the number of the cluster, from 0.
            target: the gateway's name of the cluster.

        Example:
            ```py
            tigerbeetle = dominus.sessions.tigerbeetle
            with tigerbeetle.sync() as tb:
                tb.create_accounts([tigerbeetle.Account(id=tigerbeetle.id(), ledger=1, code=1)])
            ```
        """

        def opening(stack: contextlib.ExitStack) -> tuple[tigerbeetle.ClientSync, None]:
            with _needs("tigerbeetle"):
                from dominus.sessions.drivers.tigerbeetle import open_sync
            return open_sync(self._sync_access(target, stack), cluster_id, stack), None

        return Session(target, opening)


def _refuse(options: Mapping[str, Any], names: Iterable[str]) -> None:
    wrong = sorted(set(options).intersection(names))
    if wrong:
        raise ValidationError(
            f"{', '.join(wrong)}: a session goes through the gateway, which knows the server and the login",
            code="not_for_sessions",
        )


@contextlib.contextmanager
def _needs(driver: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ServiceError(
            f"this session needs {error.name or driver}, which is not installed",
            code="extra_missing",
            retryable=False,
            hint=install_command("sessions"),
        ) from None
