"""The system schema: numbered .sql files, each run once however many replicas start together."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.quoting import quote_name
from dominus.orchestrator.engines.postgres.secure_role import prepare_secure_role
from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["LOCK", "Migration", "load_migrations", "migrate"]

logger = logging.getLogger("dominus.migrate")

LOCK = "SET LOCAL lock_timeout = '5min'; LOCK TABLE dominus.migrations IN SHARE ROW EXCLUSIVE MODE"
"""Not an advisory lock: those are everybody's, and a session could hold it for ever."""
BOOTSTRAP_ATTEMPTS = 10
_NAME = re.compile(r"(\d{4})_\w+\.sql")

_BOOTSTRAP = """
CREATE SCHEMA IF NOT EXISTS dominus;
CREATE TABLE IF NOT EXISTS dominus.migrations (
  number integer PRIMARY KEY,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
"""
_GRANTS = (
    "GRANT USAGE, CREATE ON SCHEMA public TO {role}",
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA dominus_api TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dominus_api TO {role}",
    # What the owner creates with psql is there for users' statements too.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}",
)
_RIGHTS = """
SELECT
  has_schema_privilege($1, 'public', 'USAGE')
    AND has_schema_privilege($1, 'public', 'CREATE')
    AND has_database_privilege($1, current_database(), 'TEMPORARY') AS public,
  has_schema_privilege($1, 'dominus_api', 'USAGE') AS api,
  has_schema_privilege($1, 'dominus', 'USAGE') OR has_schema_privilege($1, 'dominus', 'CREATE') AS system
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The digest under which it is recorded; the form of line ends does not matter."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """Return the migrations of this version, in order."""
    found: list[Migration] = []
    for file in importlib.resources.files("dominus.orchestrator.engines.postgres.migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(
    connection: Connection, data_role: str, *, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Bring the system schema up to date and give the data role its rights; return what was applied.

    Each migration is a transaction under a lock of our own table, so replicas that start together take turns.

    Args:
        connection: one connection of the schema's owner, who may lack superuser rights.
        data_role: the role of users' statements; made if it is missing and the owner may do so.
        migrations: other files than the package's own.

    Raises:
        ServiceError: an applied migration has other contents now, or the data role cannot have its rights,
            or has too many.
        ValidationError: `data_role` is no name for a role.
    """
    wanted = await asyncio.to_thread(load_migrations) if migrations is None else migrations
    role = quote_name(data_role)
    await _bootstrap(connection)
    applied = [one.name for one in wanted if await _apply(connection, one)]
    await _warn_of_newer(connection, wanted)
    async with connection.transaction():
        await connection.execute(LOCK)
        await _ensure_role(connection, data_role, role)
        await _grant(connection, role)
        await _check_rights(connection, data_role, role)
        await prepare_secure_role(connection, data_role)
    return applied


async def _bootstrap(connection: Connection) -> None:
    """Make what the lock is on. `IF NOT EXISTS` is no promise among replicas: the slower one fails, and looks again."""
    for attempt in range(BOOTSTRAP_ATTEMPTS):
        try:
            await connection.execute(_BOOTSTRAP)
        except (asyncpg.UniqueViolationError, asyncpg.DuplicateSchemaError, asyncpg.DuplicateTableError):
            if attempt == BOOTSTRAP_ATTEMPTS - 1:
                raise
        else:
            return


async def _apply(connection: Connection, migration: Migration) -> bool:
    async with connection.transaction():
        await connection.execute(LOCK)
        recorded: str | None = await connection.fetchval(
            "SELECT checksum FROM dominus.migrations WHERE number = $1", migration.number
        )
        if recorded == migration.checksum:
            return False
        if recorded is not None:
            raise ServiceError(
                f"the migration {migration.name} was applied to this database with other contents",
                code="migration_changed",
                retryable=False,
                hint="run the version of the package that applied it; a change needs a migration of its own",
            )
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO dominus.migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
    logger.info("applied migration %s", migration.name)
    return True


async def _warn_of_newer(connection: Connection, known: Sequence[Migration]) -> None:
    # During a rolling update an older replica may start after a newer one has migrated.
    rows = await connection.fetch(
        "SELECT name FROM dominus.migrations WHERE number <> ALL ($1::integer[])",
        [one.number for one in known],
    )
    if rows:
        logger.warning("this database has newer migrations: %s", ", ".join(row["name"] for row in rows))


async def _ensure_role(connection: Connection, name: str, role: str) -> None:
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
        try:
            async with connection.transaction():
                await connection.execute(f"CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            # Roles belong to the whole server, the lock to one database: another database was first.
            logger.debug("role %s was created by another database's start", name)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ServiceError(
                f"the role {name} does not exist and this user may not create it",
                retryable=False,
                hint=f"as an administrator: CREATE ROLE {role} NOLOGIN; GRANT {role} TO <this user>",
            ) from error
    version: int = await connection.fetchval("SELECT current_setting('server_version_num')::integer")
    privilege, options = ("SET", " WITH SET TRUE, INHERIT FALSE") if version >= 160_000 else ("MEMBER", "")
    if await connection.fetchval("SELECT pg_has_role(current_user, $1::name, $2)", name, privilege):
        return
    try:
        async with connection.transaction():
            await connection.execute(f"GRANT {role} TO CURRENT_USER{options}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise ServiceError(
            f"this user may not take the role {name}",
            retryable=False,
            hint=f"as an administrator: GRANT {role} TO <this user>",
        ) from error


async def _grant(connection: Connection, role: str) -> None:
    database = quote_name(await connection.fetchval("SELECT current_database()"))
    for grant in _GRANTS:
        try:
            async with connection.transaction():
                await connection.execute(grant.format(role=role, database=database))
        except asyncpg.InsufficientPrivilegeError as error:
            # An administrator may have granted it already; what is missing is found out next.
            logger.debug("%s: %s", grant, error)


async def _check_rights(connection: Connection, name: str, role: str) -> None:
    rights = await connection.fetchrow(_RIGHTS, name)
    if rights is None or not (rights["public"] and rights["api"]):
        raise ServiceError(
            f"the role {name} lacks rights on the schema public or to temporary tables, which this user "
            "may not grant",
            retryable=False,
            hint=f"as an administrator: GRANT USAGE, CREATE ON SCHEMA public TO {role}; "
            f"GRANT TEMPORARY ON DATABASE <this database> TO {role}",
        )
    if rights["system"]:
        raise ServiceError(
            f"the role {name} can see the system schema: users' statements would, too",
            code="data_role_too_powerful",
            retryable=False,
            hint="set DOMINUS_DATA_ROLE to a role of its own that is no superuser and no member of the owner",
        )
