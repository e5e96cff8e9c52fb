"""Native clients of databases, through the gateway: every method of the driver, and no database password here.

async with dominus.sessions.redis() as rd:        # redis.asyncio.Redis
    await rd.set("key", "value")
with dominus.sessions.redis.sync() as rd: ...      # redis.Redis
async with dominus.sessions.postgres() as pg: ...  # asyncpg.Connection; .pool(), .sync() for psycopg
with dominus.sessions.tigerbeetle.sync() as tb: ...

With a token in hand, without a client: `from dominus.sessions import redis, tigerbeetle`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dominus.errors import (
    AuthenticationError,
    CredentialError,
    DominusConnectionError,
    GatewayError,
    GatewayResolutionError,
    ProxyError,
)
from dominus.sessions.access import MintedRoutes
from dominus.sessions.calls import TOKEN_SECONDS, Calls
from dominus.sessions.factories import PostgresSessions, RedisSessions, TigerBeetleSessions
from dominus.sessions.session import AsyncSession, Session
from dominus.sessions.with_token import TigerBeetle, postgres, redis

if TYPE_CHECKING:
    from dominus.caller import Caller
    from dominus.contract.sessions import DatabaseCredentials, Released, Resolved

__all__ = [
    "AsyncSession",
    "AuthError",
    "ConnectionError",
    "CredentialError",
    "GatewayError",
    "GatewayResolutionError",
    "ProxyError",
    "Session",
    "Sessions",
    "postgres",
    "redis",
    "tigerbeetle",
]

# The published client's names of errors that have others here.
AuthError = AuthenticationError
ConnectionError = DominusConnectionError  # noqa: A001 - it is one, and its name is published

tigerbeetle = TigerBeetle()


class Sessions:
    """The native, unwrapped client of a database, through the orchestrator's gateway: transactions, joins, any command.

    Making a session sends nothing; `async with` or `with` connects, gives the native client, and closes. `options` are
    those of the native client; host, port, user, password and their like are refused (ValidationError
    `not_for_sessions`). `target` is the gateway's name of the database; the scope `gateway:<target>` is needed. The
    drivers come with `pip install "dominus-sdk[sessions]"` (without: ServiceError `extra_missing`), and `dominus serve`
    needs `DOMINUS_GATEWAY_PORT` (without: `no_gateway`). Errors of connecting are DominusErrors; what the native
    client's methods raise is the driver's own.
    """

    def __init__(self, caller: Caller) -> None:
        self._calls = Calls(caller)
        self._routes = MintedRoutes(caller)

    def __repr__(self) -> str:
        return "<dominus.sessions>"

    @cached_property
    def redis(self) -> RedisSessions:
        """Redis: `redis()` is asynchronous, `redis.sync()` is not."""
        return RedisSessions(self._routes)

    @cached_property
    def postgres(self) -> PostgresSessions:
        """PostgreSQL: `postgres()` and `postgres.pool()` are asyncpg's, `postgres.sync()` is psycopg's."""
        return PostgresSessions(self._routes)

    @cached_property
    def tigerbeetle(self) -> TigerBeetleSessions:
        """TigerBeetle: `tigerbeetle()`, `tigerbeetle.sync()`, and its native types."""
        return TigerBeetleSessions(self._routes)

    async def token(
        self, target: str, *, expires_in: int = TOKEN_SECONDS, timeout: float | None = None
    ) -> str:
        """Mint a session token, for any client of the published protocol.

        Args:
            target: the gateway's name of a database: `redis`, `postgres`, or one of the server's own.
            expires_in: the seconds in which it opens connections, 60 to 3600; those live on.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            AuthorizationError: the scope `gateway:<target>` is missing.
            NotFoundError: there is no such target.

        Example:
            ```python
            token = await dominus.sessions.token("redis", expires_in=900)
            ```
        """
        return (await self._calls.token(target, expires_in, timeout))["access_token"]

    async def resolve(self, token: str, *, timeout: float | None = None) -> Resolved:
        """Ask where the gateway listens; sessions do so by themselves.

        Args:
            token: a session token.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            GatewayResolutionError: there is no answer, or no gateway.

        Example:
            ```python
            token = await dominus.sessions.token("postgres")
            where = await dominus.sessions.resolve(token)
            print(where["dns"], where["port"])
            ```
        """
        return await self._calls.resolve(token, timeout)

    async def credentials(
        self,
        token: str,
        *,
        database: str | None = None,
        db_type: str | None = None,
        timeout: float | None = None,
    ) -> DatabaseCredentials:
        """Make a database login that ends by itself; sessions do so by themselves.

        Args:
            token: a session token.
            database: another database than the orchestrator's.
            db_type: the target; the token's own without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            CredentialError: there is no login.

        Example:
            ```python
            token = await dominus.sessions.token("postgres")
            login = await dominus.sessions.credentials(token)
            print(login["username"], login["expires_in"])
            await dominus.sessions.release(token, login["username"])
            ```
        """
        return await self._calls.credentials(token, database, db_type, timeout)

    async def release(self, token: str, username: str, *, timeout: float | None = None) -> Released:
        """End a login made by `credentials`, and the connections that it opened.

        Args:
            token: a session token of the same caller.
            username: whose login.
            timeout: seconds for the whole call; the client's without it.

        Returns:
            `{"released": bool}`, false when this caller has no such login.

        Example:
            ```python
            token = await dominus.sessions.token("postgres")
            login = await dominus.sessions.credentials(token)
            assert (await dominus.sessions.release(token, login["username"]))["released"]
            ```
        """
        return await self._calls.release(token, username, timeout)
