"""Logins of PostgreSQL: a role that expires, and whose objects belong to the data role."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import TYPE_CHECKING

import asyncpg

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.engines.postgres.migrate import quote_name

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.postgres.typing import Connection, Pool

__all__ = ["PostgresLogins", "scram_verifier"]

_ITERATIONS = 4096
"""The least that RFC 7677 allows: our passwords are random, there is nothing to guess."""
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
# What a session made without the data role (it may put it off) goes to the data role, which may take it over only
# while it is a member of the login.
_DROP = """
REVOKE {role} FROM {login};
GRANT {login} TO {role};
SET LOCAL ROLE {role};
REASSIGN OWNED BY {login} TO {role};
DROP OWNED BY {login};
SET LOCAL ROLE NONE;
DROP ROLE {login};
"""


class PostgresLogins:
    """Makes and ends the roles; `pool` is the owner's."""

    def __init__(self, pool: Pool, data_role: str, connection_limit: int) -> None:
        self._pool = pool
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
            drop = _DROP.format(login=quote_name(username), role=self._role)
            async with connection.transaction():
                await connection.execute(drop)

    @staticmethod
    async def _end_connections(connection: Connection, username: str) -> None:
        if not await connection.fetchval(_IS_USED, username):
            return
        if await connection.fetchval(_NEEDS_MEMBERSHIP, username):
            # Who made a role may grant it to himself; without, he may not end its connections.
            await connection.execute(f"GRANT {quote_name(username)} TO CURRENT_USER")
        await connection.execute(_TERMINATE, username)
        await connection.execute(_AWAIT_END, username, _END_MILLISECONDS)


def scram_verifier(password: str, salt: bytes) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803): it proves the password and does not tell it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    said = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{said[0]}${said[1]}:{said[2]}"
