"""Logins of PostgreSQL: a role that expires, and whose objects belong to the data role."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import asyncpg

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.engines.postgres.pools import CLOSE_SECONDS
from dominus.orchestrator.engines.postgres.quoting import quote_name
from dominus.orchestrator.engines.postgres.scram import scram_verifier

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.postgres.typing import Connection, Pool

__all__ = ["PostgresLogins"]

_END_MILLISECONDS = 5000
"""How long a terminated connection may take to end."""
_ADMIN = (
    "as an administrator: ALTER ROLE <this user> CREATEROLE; GRANT {role} TO <this user> WITH ADMIN OPTION"
)

_CREATE = """
CREATE ROLE {login}
  LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
  CONNECTION LIMIT {limit}
  PASSWORD '{verifier}'
  VALID UNTIL '{until}'
  IN ROLE {role}
"""
_EXISTS = """
SELECT true
FROM pg_roles
WHERE rolname = $1
"""
_IS_USED = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1)
"""
_TERMINATE = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE usename = $1
"""
_AWAIT_END = """
SELECT pg_terminate_backend(pid, $2)
FROM pg_stat_activity
WHERE usename = $1
"""
_NEEDS_MEMBERSHIP = """
SELECT NOT pg_has_role(current_user, $1::name, 'USAGE')
"""
# What it left in databases that it was not made for: its password opens those too, where they are within reach.
_ELSEWHERE = """
SELECT DISTINCT d.datname
FROM pg_shdepend s
JOIN pg_database d ON d.oid = s.dbid
JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass
WHERE r.rolname = $1 AND d.datname <> current_database() AND d.datallowconn
"""
# What a session made without the data role (it may put it off) goes to the data role, which may take it over only
# while it is a member of the login. lock_timeout: another session may hold on to it.
_HAND_OVER = """
SET LOCAL lock_timeout = '5s';
REVOKE {role} FROM {login};
GRANT {login} TO {role};
SET LOCAL ROLE {role};
REASSIGN OWNED BY {login} TO {role};
DROP OWNED BY {login};
SET LOCAL ROLE NONE;
REVOKE {login} FROM {role};
"""
_DROP = """
DROP ROLE {login};
"""


class PostgresLogins:
    """Makes and ends the roles."""

    def __init__(self, postgres: Postgres, data_role: str, connection_limit: int) -> None:
        self._postgres = postgres
        self._pool: Pool = postgres.system
        self._data_role = data_role
        self._role = quote_name(data_role)
        self._connection_limit = connection_limit

    async def database(self) -> str:
        """Return the database that a login is for."""
        return await self._pool.fetchval("SELECT current_database()")

    async def make(self, username: str, password: str, expires_at: dt.datetime) -> None:
        """Make a role that logs in until it expires, and then runs under the data role.

        Raises:
            ServiceError: the owner may not make roles; the hint says what an administrator has to grant.
        """
        login = quote_name(username)
        create = _CREATE.format(
            login=login,
            limit=self._connection_limit,
            # Not the password: statements are logged, and this is all the server keeps of it anyway.
            verifier=scram_verifier(password, os.urandom(16)),
            until=expires_at.isoformat(),
            role=self._role,
        )
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(create)
                # What its sessions create belongs to the data role, as what `dominus.db` creates.
                setting = await connection.fetchval("SELECT quote_literal($1)", self._data_role)
                await connection.execute(f"ALTER ROLE {login} SET role = {setting}")
        except asyncpg.InsufficientPrivilegeError as error:
            raise ServiceError(
                "the orchestrator's database user may not make logins for sessions",
                code="credentials_unavailable",
                retryable=False,
                hint=_ADMIN.format(role=self._role),
            ) from error
        except FAILURES as error:
            raise from_postgres(error) from error

    async def lock(self, username: str) -> None:
        """Let a login open no more connections."""
        if await self._pool.fetchval(_EXISTS, username):
            await self._pool.execute(f"ALTER ROLE {quote_name(username)} NOLOGIN")

    async def is_used(self, username: str) -> bool:
        """Return whether a login has connections."""
        return await self._pool.fetchval(_IS_USED, username)

    async def drop(self, username: str) -> None:
        """End a login's connections and the login; `lock` it first."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval(_EXISTS, username):
                return
            await self._end_connections(connection, username)
            names = {"login": quote_name(username), "role": self._role}
            for row in await connection.fetch(_ELSEWHERE, username):
                await self._hand_over_elsewhere(row["datname"], names)
            async with connection.transaction():
                await connection.execute(_HAND_OVER.format(**names) + _DROP.format(**names))

    async def _hand_over_elsewhere(self, database: str, names: dict[str, str]) -> None:
        connection = await self._postgres.connect(database)
        try:
            async with connection.transaction():
                await connection.execute(_HAND_OVER.format(**names))
        finally:
            await connection.close(timeout=CLOSE_SECONDS)

    @staticmethod
    async def _end_connections(connection: Connection, username: str) -> None:
        if not await connection.fetchval(_IS_USED, username):
            return
        if await connection.fetchval(_NEEDS_MEMBERSHIP, username):
            # Who made a role may grant it to himself; without, he may not end its connections.
            await connection.execute(f"GRANT {quote_name(username)} TO CURRENT_USER")
        await connection.execute(_TERMINATE, username)
        await connection.execute(_AWAIT_END, username, _END_MILLISECONDS)
