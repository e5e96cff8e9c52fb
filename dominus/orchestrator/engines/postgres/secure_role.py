"""The role that secure tables belong to, and how a table becomes its own.

Native sessions and open SQL run under the data role, and what they make runs in the data pool. So a secure table is
given to a role that the data role is no member of: without a reason its rows are out of reach by PostgreSQL's own
rights, whatever a server remembers of the table. Statements of the orchestrator on secure tables use connections of a
login of their own, where nothing may run that users made: such a function could be replaced by a session at any time.
A table that would run any, or that others change through foreign keys, does not become secure.
"""

from __future__ import annotations

import logging

import asyncpg

from dominus.errors import ConflictError, NotFoundError, ServiceError
from dominus.orchestrator.engines.postgres.quoting import quote_name
from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["LEFT_BEHIND", "make_plain", "make_secure", "prepare_secure_role", "secure_role_of"]

logger = logging.getLogger("dominus.postgres")

_SUFFIX = "_secure"
LEFT_BEHIND = "RESET ALL; SELECT dominus_secure.require_clean()"
"""Takes back what ran as the owner of a table at the other end of a foreign key, or fails; not to be prepared, as what
is prepared could be another's by then."""
_GRANTS = (
    "GRANT USAGE, CREATE ON SCHEMA public TO {role}",
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA dominus_api TO {role}",
    "GRANT EXECUTE ON FUNCTION dominus_api.remember(bytea, text, text) TO {role}",
    "GRANT EXECUTE ON FUNCTION dominus_api.secure_table(text, text) TO {role}",
    "GRANT EXECUTE ON FUNCTION dominus_api.schema_place(text) TO {role}",
    "GRANT USAGE ON SCHEMA dominus_secure TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dominus_secure TO {role}",
)
_REFUSED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)
_FIND = """
SELECT c.oid, r.rolname AS owner, o.rolname AS schema_owner
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
JOIN pg_roles o ON o.oid = n.nspowner
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
DEFERS_AS_WHO_WROTE = 180_000
"""From this version on, a deferred trigger runs as who wrote the row, before as whoever commits."""
# What stands against it, the first of it. PostgreSQL records no dependency on what is its own, so any on a function,
# type or operator is on users' or an extension's; a session cannot change those of an extension. Of PostgreSQL's own
# functions some run SQL or read a type that their arguments name (query_to_xml, pg_input_is_valid): of those that are
# volatile the harmless ones are listed, of the others the harmful ones.
_OBSTACLE = r"""
SELECT CASE
  WHEN c.relkind <> 'r' THEN 'it is no plain table'
  WHEN c.relrowsecurity THEN 'it has row-level security'
  WHEN c.relhasrules THEN 'it has rules'
  WHEN c.relhassubclass OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
    THEN 'it inherits from a table, or is inherited from'
  WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) THEN 'it has triggers'
  WHEN EXISTS (
    SELECT
    FROM pg_constraint k
    WHERE k.contype = 'f' AND (k.conrelid = c.oid OR k.confrelid = c.oid)
      AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'))
  ) THEN 'a foreign key to or from it changes rows by itself'
  WHEN current_setting('server_version_num')::integer < $3 AND EXISTS (
    SELECT
    FROM pg_constraint k
    JOIN pg_class o ON o.oid IN (k.conrelid, k.confrelid) AND o.oid <> c.oid
    JOIN pg_roles r ON r.oid = o.relowner
    WHERE k.contype = 'f' AND (k.conrelid = c.oid OR k.confrelid = c.oid) AND r.rolname <> $2
  ) THEN 'a foreign key links it to a table that is not secure, which needs PostgreSQL 18'
  WHEN EXISTS (
    SELECT
    FROM pg_attrdef a
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
    JOIN pg_class s ON d.refclassid = 'pg_class'::regclass AND s.oid = d.refobjid AND s.relkind = 'S'
    WHERE a.adrelid = c.oid AND NOT EXISTS (
      SELECT FROM pg_depend o WHERE o.classid = 'pg_class'::regclass AND o.objid = s.oid AND o.refobjid = c.oid
    )
  ) THEN 'it takes numbers from a sequence that is not its own (ALTER SEQUENCE ... OWNED BY)'
  WHEN EXISTS (
    WITH RECURSIVE above (oid, relkind, relowner) AS (
      SELECT c.oid, c.relkind, c.relowner
      UNION
      SELECT v.oid, v.relkind, v.relowner
      FROM above b
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = b.oid
        AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite w ON w.oid = d.objid
      JOIN pg_class v ON v.oid = w.ev_class
    )
    SELECT
    FROM above a
    JOIN pg_roles r ON r.oid = a.relowner
    WHERE a.oid <> c.oid
      AND (a.relkind = 'm' OR r.rolsuper OR (r.oid <> c.relowner AND pg_has_role(r.oid, $2::name, 'USAGE')))
  ) THEN 'a view of a superuser, or a materialized view, would go on showing its rows'
  WHEN EXISTS (
    WITH parts (class, id) AS (
      SELECT 'pg_class'::regclass, c.oid
      UNION ALL SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d WHERE d.adrelid = c.oid
      UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.conrelid = c.oid
      UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = c.oid
      UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s WHERE s.stxrelid = c.oid
    )
    SELECT
    FROM parts p
    JOIN pg_depend d ON d.classid = p.class AND d.objid = p.id
    WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass,
        'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_cast'::regclass)
      AND NOT EXISTS (
        SELECT FROM pg_depend e WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'
      )
  ) THEN 'it has a type or calls a function that users made'
  WHEN EXISTS (
    SELECT
    FROM (
      SELECT adbin::text FROM pg_attrdef WHERE adrelid = c.oid
      UNION ALL SELECT conbin::text FROM pg_constraint WHERE conrelid = c.oid
      UNION ALL SELECT indexprs::text FROM pg_index WHERE indrelid = c.oid
      UNION ALL SELECT indpred::text FROM pg_index WHERE indrelid = c.oid
      UNION ALL SELECT stxexprs::text FROM pg_statistic_ext WHERE stxrelid = c.oid
    ) AS t (tree)
    CROSS JOIN LATERAL regexp_matches(t.tree, ':(?:funcid|opfuncid) (\d+)', 'g') AS m (found)
    JOIN pg_proc p ON p.oid = m.found[1]::oid AND p.pronamespace = 'pg_catalog'::regnamespace
    WHERE p.proname ~ '_to_xml|^pg_input_' OR (p.provolatile = 'v' AND p.proname <> ALL (ARRAY['nextval', 'currval',
      'lastval', 'random', 'random_normal', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'clock_timestamp', 'timeofday',
      'txid_current', 'pg_current_xact_id']))
  ) THEN 'it calls a function of PostgreSQL that runs SQL, or changes a session'
END
FROM pg_class c
WHERE c.oid = $1
"""
_GRANTEES = """
SELECT DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC') AS name
FROM (
  SELECT a.grantee, c.relowner
  FROM pg_class c, LATERAL aclexplode(c.relacl) a
  WHERE c.oid = $1
  UNION ALL
  SELECT a.grantee, c.relowner
  FROM pg_class c
  JOIN pg_attribute t ON t.attrelid = c.oid, LATERAL aclexplode(t.attacl) a
  WHERE c.oid = $1
) g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE g.grantee <> g.relowner
"""
_NEEDS_NO_ROLE = "SELECT rolsuper OR rolname = $1 FROM pg_roles WHERE rolname = current_user"
_PATIENCE = "SET LOCAL lock_timeout = '5s'"


def secure_role_of(data_role: str) -> str:
    """Return the name of the role that secure tables belong to."""
    return data_role.encode()[: 63 - len(_SUFFIX)].decode(errors="ignore") + _SUFFIX


async def prepare_secure_role(connection: Connection, data_role: str) -> None:
    """Make the role and give it its rights; where the owner may not, no table can be made secure."""
    name = secure_role_of(data_role)
    role = quote_name(name)
    database = quote_name(await connection.fetchval("SELECT current_database()"))
    version: int = await connection.fetchval("SELECT current_setting('server_version_num')::integer")
    if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
        await _try(connection, f"CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS")
    privilege, options = ("SET", " WITH SET TRUE, INHERIT FALSE") if version >= 160_000 else ("MEMBER", "")
    is_known = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name)
    if is_known and not await connection.fetchval(
        "SELECT pg_has_role(current_user, $1::name, $2)", name, privilege
    ):
        await _try(connection, f"GRANT {role} TO CURRENT_USER{options}")
    for grant in _GRANTS if is_known else ():
        await _try(connection, grant.format(role=role, database=database))


async def _try(connection: Connection, statement: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(statement)
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        logger.debug("made by another start: %s", statement)
    except _REFUSED as error:
        logger.debug("%s: %s", statement, error)


async def make_secure(connection: Connection, data_role: str, schema: str, table: str) -> None:
    """Give a table to the secure role, in the transaction of the caller, and nobody else any right to it.

    Raises:
        NotFoundError: there is no such table.
        ConflictError: it cannot be secure (`cannot_be_secure`); the message says why.
        ServiceError: the orchestrator's user may not (`secure_tables_unavailable`).
    """
    secure = secure_role_of(data_role)
    await connection.execute(_PATIENCE)
    found = await connection.fetchrow(_FIND, schema, table)
    if found is None:
        raise NotFoundError(
            f"there is no table {table!r} in schema {schema!r}",
            code="unknown_table",
            details={"schema": schema, "table": table},
        )
    if found["owner"] == secure:
        return
    if await connection.fetchval("SELECT pg_has_role($1::name, $2::name, 'MEMBER')", data_role, secure):
        raise _unable(secure, f"the role {data_role} of sessions is a member of {secure}")
    if found["schema_owner"] == data_role:
        raise _obstacle(schema, table, "its schema belongs to the role of sessions, which could drop it")
    label = f"{quote_name(schema)}.{quote_name(table)}"
    try:
        await connection.execute(
            f"GRANT USAGE, CREATE ON SCHEMA {quote_name(schema)} TO {quote_name(secure)}"
        )
        async with _Giving(connection, found["owner"], secure):
            # Nothing is put into its way between the look and the change; and statements that run end before.
            await connection.execute(f"LOCK TABLE {label} IN ACCESS EXCLUSIVE MODE")
            obstacle = await connection.fetchval(_OBSTACLE, found["oid"], secure, DEFERS_AS_WHO_WROTE)
            if obstacle is not None:
                raise _obstacle(schema, table, obstacle)
            for row in await connection.fetch(_GRANTEES, found["oid"]):
                await connection.execute(f"REVOKE ALL ON TABLE {label} FROM {row['name']} CASCADE")
            await connection.execute(f"ALTER TABLE {label} OWNER TO {quote_name(secure)}")
    except asyncpg.WrongObjectTypeError:
        raise _obstacle(schema, table, "it is no plain table") from None
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedObjectError) as error:
        raise _unable(secure, str(error)) from error


async def make_plain(connection: Connection, data_role: str, schema: str, table: str) -> None:
    """Give a table to the data role again, in the transaction of the caller; one that is gone stays so."""
    secure = secure_role_of(data_role)
    await connection.execute(_PATIENCE)
    found = await connection.fetchrow(_FIND, schema, table)
    if found is None or found["owner"] != secure:
        return
    label = f"{quote_name(schema)}.{quote_name(table)}"
    try:
        async with _Giving(connection, secure, data_role):
            await connection.execute(f"ALTER TABLE {label} OWNER TO {quote_name(data_role)}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise _unable(secure, str(error)) from error


class _Giving:
    """Runs a block as a table's owner, who may give it to another role: a member of that role meanwhile.

    Nobody sees the membership: it ends with the block, in the same transaction. A superuser needs nothing of it.
    """

    def __init__(self, connection: Connection, owner: str, receiver: str) -> None:
        self._connection = connection
        self._owner, self._receiver = owner, receiver
        self._is_needed = False

    async def __aenter__(self) -> None:
        self._is_needed = not await self._connection.fetchval(_NEEDS_NO_ROLE, self._owner)
        if self._is_needed:
            owner, receiver = quote_name(self._owner), quote_name(self._receiver)
            await self._connection.execute(f"GRANT {receiver} TO {owner}; SET LOCAL ROLE {owner}")

    async def __aexit__(self, kind: object, *_: object) -> None:
        if self._is_needed and kind is None:
            owner, receiver = quote_name(self._owner), quote_name(self._receiver)
            await self._connection.execute(f"SET LOCAL ROLE NONE; REVOKE {receiver} FROM {owner}")


def _obstacle(schema: str, table: str, why: str) -> ConflictError:
    return ConflictError(
        f"the table '{schema}.{table}' cannot be a secure table: {why}",
        code="cannot_be_secure",
        details={"schema": schema, "table": table},
        hint="sessions could read it, or change it, past the audit trail: take that away first",
    )


def _unable(role: str, why: str) -> ServiceError:
    return ServiceError(
        f"the user of DOMINUS_DATABASE_URL may not make tables secure: {why}",
        code="secure_tables_unavailable",
        retryable=False,
        hint=f"as an administrator: CREATE ROLE {quote_name(role)} NOLOGIN;"
        f" GRANT {quote_name(role)} TO <this user> WITH ADMIN OPTION; then start the orchestrator again",
    )
