"""The login of the data pool: a member of the data role, and of nothing else.

So whoever leaves the data role (`SET ROLE NONE`, in a trigger that a session made) has less rights than with it, not
more. Name and password are derived from a key that every replica of an installation has, and no other installation:
replicas share the login without telling each other, and two installations on one server have two.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import asyncpg

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.migrate import LOCK
from dominus.orchestrator.engines.postgres.quoting import quote_literal, quote_name
from dominus.orchestrator.engines.postgres.scram import scram_verifier
from dominus.orchestrator.engines.postgres.typing import Connection, Executor, Pool

__all__ = ["PREFIX", "DataLogin", "KeySource", "check_powers", "derive_login"]

logger = logging.getLogger("dominus.postgres")

PREFIX = "dominus_p_"
_REFUSED = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)
_ATTRIBUTES = "LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
# What a role may do to itself is to change its password and its settings; both are put right again.
_MEND = """
ALTER ROLE {login} LOGIN PASSWORD {verifier};
ALTER ROLE {login} RESET ALL;
ALTER ROLE {login} IN DATABASE {database} RESET ALL;
"""
_HAS_SETTINGS = """
SELECT EXISTS (
  SELECT
  FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
  WHERE r.rolname = session_user
)
"""
_MAY_RESERVE = """
SELECT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')
FROM pg_roles
WHERE rolname = 'pg_use_reserved_connections'
"""
# All that the role could become, itself included, and the one among them that can do too much.
_TOO_POWERFUL = """
SELECT r.rolname
FROM pg_catalog.pg_roles r
WHERE pg_catalog.pg_has_role($1::name, r.oid, 'MEMBER')
  AND (r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls
    OR r.rolname = ANY ($2::name[])
    OR pg_catalog.has_schema_privilege(r.oid, 'dominus', 'USAGE')
    OR pg_catalog.has_schema_privilege(r.oid, 'dominus', 'CREATE'))
LIMIT 1
"""
_SEES = """
SELECT pg_catalog.has_schema_privilege(oid, 'USAGE')
FROM pg_catalog.pg_namespace
WHERE nspname = 'dominus'
"""
_POWERFUL = (
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_read_all_data",
    "pg_write_all_data",
    "pg_read_all_stats",
    "pg_monitor",
    "pg_signal_backend",
    "pg_create_subscription",
)


class KeySource(Protocol):
    """Where keys of the installation come from: its vault."""

    async def start(self, database: Executor) -> None:
        """Read the installation's key, or make it."""
        ...

    def fingerprint(self, *parts: bytes) -> str:
        """Return a keyed hash, equal on every replica."""
        ...


Connect = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class DataLogin:
    """How connections of the data pool log in, and what is done when that fails."""

    user: str
    password: str = field(repr=False)
    data_role: str
    system: Pool
    """The owner's, who makes the login."""

    async def connect(self, *args: Any, **options: Any) -> Any:
        """Open a connection; make the login, or put it right, where it is missing or was changed."""
        open_one = cast("Connect", cast("Any", asyncpg).connect)
        try:
            connection = await open_one(*args, **options)
        except _REFUSED:
            await self._put_right()
            return await open_one(*args, **options)
        try:
            is_changed = await connection.fetchval(_HAS_SETTINGS)
        except BaseException:
            connection.terminate()
            raise
        if not is_changed:
            return connection
        # They hold for new connections, this one included: a session may have left them, through a trigger.
        logger.warning("the settings of the login %s were changed, and are reset", self.user)
        connection.terminate()
        await self._put_right()
        return await open_one(*args, **options)

    async def _put_right(self) -> None:
        login, role = quote_name(self.user), quote_name(self.data_role)
        try:
            async with self.system.acquire() as connection, connection.transaction():
                await connection.execute(LOCK)
                if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", self.user):
                    await self._make(connection, login, role)
                verifier = quote_literal(scram_verifier(self.password, os.urandom(16)))
                database = quote_name(await connection.fetchval("SELECT current_database()"))
                await connection.execute(_MEND.format(login=login, verifier=verifier, database=database))
        except asyncpg.InsufficientPrivilegeError as error:
            raise self._unable() from error

    @staticmethod
    async def _make(connection: Connection, login: str, role: str) -> None:
        version: int = await connection.fetchval("SELECT current_setting('server_version_num')::integer")
        try:
            async with connection.transaction():
                await connection.execute(f"CREATE ROLE {login} {_ATTRIBUTES}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            logger.debug("the login %s was made by another database's start", login)
        only = " WITH INHERIT FALSE, SET TRUE" if version >= 160_000 else ""
        await connection.execute(f"GRANT {role} TO {login}{only}")
        if await connection.fetchval(_MAY_RESERVE):
            await connection.execute(
                f"GRANT pg_use_reserved_connections TO {login} WITH INHERIT TRUE, SET FALSE"
            )

    def _unable(self) -> ServiceError:
        role = quote_name(self.data_role)
        return ServiceError(
            "users' statements need a database login of their own, which the user of DOMINUS_DATABASE_URL may not make",
            code="data_login_missing",
            retryable=False,
            hint="as an administrator: ALTER ROLE <this user> CREATEROLE;"
            f" GRANT {role} TO <this user> WITH ADMIN OPTION - or: CREATE ROLE dominus_pool {_ATTRIBUTES}"
            f" PASSWORD '...'; GRANT {role} TO dominus_pool;"
            " and set DOMINUS_DATA_URL to the same database with that user",
        )


def derive_login(keys: KeySource, data_role: str, system: Pool) -> DataLogin:
    """Return the login of this installation. The keys are started."""
    role = data_role.encode()
    user = PREFIX + keys.fingerprint(b"data login", b"name", role)[:16]
    return DataLogin(user, keys.fingerprint(b"data login", b"password", role), data_role, system)


async def check_powers(system: Executor, data: Connection) -> None:
    """Prove that no way out of the data role leads anywhere, whoever made the login.

    Raises:
        ServiceError: code `data_role_too_powerful`.
    """
    user: str = await data.fetchval("SELECT session_user::text")
    name = await system.fetchval(_TOO_POWERFUL, user, list(_POWERFUL))
    async with data.transaction():
        await data.execute("SET LOCAL ROLE NONE")
        sees = await data.fetchval(_SEES)
    if name is None and sees is False:
        return
    raise ServiceError(
        f"the database login {user} of users' statements can become {name or 'one'} who may do more than users'"
        " statements may: the triggers and functions that users make could, too",
        code="data_role_too_powerful",
        retryable=False,
        hint="it may be a member of the data role only, and the data role of none that is a superuser, sees the schema"
        " dominus, makes roles, or reads the server's files",
    )
