"""What tables there are, and of which columns: the only source of identifiers in users' statements.

A table is read from PostgreSQL's catalog once, kept for five seconds, and forgotten at once when
another session says so on the channel `dominus_catalog`. On the hot path this is one dict lookup.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from dominus.contract.suggestion import suggestion
from dominus.errors import NotFoundError, ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.sql.tables import SYSTEM_SCHEMAS, Column, Table, is_system_schema

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.postgres.typing import Executor

__all__ = ["CHANNEL", "Catalog", "Place"]

Place = tuple[str, str]
"""A project and an environment."""

CHANNEL = "dominus_catalog"
"""A NOTIFY here makes every orchestrator read its tables anew."""
_TTL_SECONDS = 5.0
_MAX_TABLES = 10_000
_LISTEN_AGAIN_SECONDS = 1.0

# has_hooks: triggers, those of foreign keys too, and constraints that compute something.
# is_inert: no view, rule or policy, no type of users' with a cast of theirs, no computed column, and nothing that the
# planner computes beforehand, the expressions of indexes and statistics.
# attnum orders the columns; a domain is followed down to its base type, which is what values are cast to.
_TABLE = """
WITH RECURSIVE relation AS (
  SELECT c.oid, c.relkind
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_schema_privilege(n.oid, 'USAGE')
), base (attnum, oid, needs_value) AS (
  SELECT a.attnum, a.atttypid, a.attnotnull
  FROM pg_catalog.pg_attribute a
  JOIN relation r ON r.oid = a.attrelid
  WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, t.typbasetype, b.needs_value OR t.typnotnull
  FROM base b
  JOIN pg_catalog.pg_type t ON t.oid = b.oid
  WHERE t.typtype = 'd'
)
SELECT r.oid::int8 AS oid, r.relkind::text AS relkind, (
  SELECT coalesce(json_agg(json_build_object(
    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'cast', format_type(t.oid, -1),
    'category', t.typcategory, 'kind', coalesce(e.typname, t.typname),
    'is_array', t.typcategory = 'A', 'is_nullable', NOT b.needs_value,
    'is_generated', a.attgenerated <> '', 'identity', a.attidentity,
    'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
    'is_primary_key', coalesce(a.attnum = ANY (p.indkey), false),
    'operators', CASE WHEN t.typnamespace <> 'pg_catalog'::regnamespace THEN (
      SELECT n.nspname
      FROM pg_catalog.pg_opclass c
      JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
      JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily AND o.amopstrategy = 3
        AND o.amoplefttype = t.oid AND o.amoprighttype = t.oid
      JOIN pg_catalog.pg_operator q ON q.oid = o.amopopr
      JOIN pg_catalog.pg_namespace n ON n.oid = q.oprnamespace
      WHERE c.opcintype = t.oid AND c.opcdefault
    ) END
  ) ORDER BY a.attnum), '[]')
  FROM pg_catalog.pg_attribute a
  JOIN base b ON b.attnum = a.attnum
  JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_catalog.pg_index p ON p.indrelid = a.attrelid AND p.indisprimary
  WHERE a.attrelid = r.oid
)::text AS columns, (
  SELECT coalesce(json_agg(k.names ORDER BY i.indisprimary DESC, i.indexrelid), '[]')
  FROM pg_catalog.pg_index i
  CROSS JOIN LATERAL (
    SELECT json_agg(a.attname ORDER BY x.place) AS names
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS x (attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = x.attnum
    WHERE x.place <= i.indnkeyatts
  ) k
  WHERE i.indrelid = r.oid AND i.indisunique AND i.indisvalid AND (i.indimmediate OR i.indisprimary)
    AND i.indpred IS NULL AND i.indexprs IS NULL
)::text AS unique_keys, (
  c.relkind = 'r' AND NOT c.relhassubclass AND NOT c.relhasrules AND NOT c.relrowsecurity
  AND NOT EXISTS (
    SELECT
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attgenerated NOT IN ('', 's') OR t.typnamespace <> 'pg_catalog'::regnamespace)
  )
  AND NOT EXISTS (
    SELECT
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = r.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
  )
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = r.oid)
) AS is_inert, (
  c.relhastriggers
  OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = r.oid AND k.contype NOT IN ('p', 'u', 'n'))
) AS has_hooks, pg_get_userbyid(c.relowner)::text AS owner, c.relhastriggers AS has_triggers,
  dominus_api.secure_table($1, $2) AS secure_scopes, dominus_api.schema_place($1) AS place
FROM relation r
JOIN pg_catalog.pg_class c ON c.oid = r.oid
"""
# $2 NULL: every project's. $3 NULL: all schemas, else this one.
_SCHEMAS = """
SELECT n.nspname
FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname <> ALL ($1::text[]) AND has_schema_privilege(n.oid, 'USAGE')
  AND ($3::text IS NULL OR n.nspname = $3)
  AND ($2::text[] IS NULL OR coalesce(dominus_api.schema_place(n.nspname) = $2, true))
ORDER BY n.nspname
"""
_NAMES = """
SELECT c.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname
LIMIT 5000
"""


def _as_table(schema: str, name: str, record: Any) -> Table:
    columns = {item["name"]: Column(**item) for item in json.loads(record["columns"])}
    unique_keys: list[list[str] | None] = json.loads(record["unique_keys"])
    keys = tuple(tuple(key) for key in unique_keys if key)
    has_primary_key = any(column.is_primary_key for column in columns.values())
    return Table(
        oid=record["oid"],
        schema=schema,
        name=name,
        relkind=record["relkind"],
        columns=columns,
        primary_key=keys[0] if keys and has_primary_key else (),
        unique_keys=keys,
        is_inert=record["is_inert"],
        is_inert_to_writes=record["is_inert"]
        and not record["has_hooks"]
        and all(column.is_plain_to_writes for column in columns.values()),
        owner=record["owner"],
        has_foreign_keys=record["has_triggers"],
        secure_scopes=None if record["secure_scopes"] is None else tuple(record["secure_scopes"]),
        place=None if record["place"] is None else tuple(record["place"]),
    )


def _is_hidden(table: Table, place: Place | None) -> bool:
    """Return whether a table is of another's tenant: for such a caller its schema is not there."""
    return place is not None and table.place is not None and table.place != place


class Catalog:
    """The tables of one database, cached."""

    def __init__(self, postgres: Postgres, clock: Callable[[], float] = time.monotonic) -> None:
        self._postgres = postgres
        self._clock = clock
        self._tables: dict[tuple[str, str], tuple[float, Table]] = {}
        self._generation = 0
        self._is_listening = False
        self._listen_at = float("-inf")

    async def listening(self) -> Self:
        """Return itself; the first call begins to listen for changes, or a later one when PostgreSQL is full."""
        if not self._is_listening and self._clock() >= self._listen_at:
            self._is_listening = True
            try:
                await self._postgres.listen(CHANNEL, self.forget)
            except BaseException as error:
                # Also when a caller's deadline ended it: the next one tries again.
                self._is_listening = False
                if isinstance(error, ServiceError) and error.code == "database_busy":
                    # As after a lost connection: what is known of a table is a few seconds old at most.
                    self._listen_at = self._clock() + _LISTEN_AGAIN_SECONDS
                    return self
                if isinstance(error, FAILURES):
                    raise from_postgres(error) from error
                raise
        return self

    async def table(
        self, schema: str, name: str, connection: Executor | None = None, *, place: Place | None = None
    ) -> Table:
        """Return a table; what is not known is read over `connection`, by default over any of the pool.

        Args:
            schema: its schema.
            name: its name.
            connection: where to read what is not known.
            place: for whom; for others' the schemas of their tenants are not there. None: for nobody, all are.

        Raises:
            NotFoundError: there is no such schema or table (`unknown_schema`, `unknown_table`) for users.
        """
        known = self._tables.get((schema, name))
        if known is not None and known[0] > self._clock():
            if _is_hidden(known[1], place):
                await self.require_schema(schema, connection, place=place)
            return known[1]
        return await self._load(schema, name, connection or self._postgres.data, place)

    async def latest(self, schema: str, name: str, *, place: Place | None = None) -> Table:
        """Return a table as it is now, for what cannot be tried again.

        Raises:
            NotFoundError: as for `table`.
        """
        return await self._load(schema, name, self._postgres.data, place)

    async def has_changed(self, table: Table) -> bool:
        """Read a table anew; return whether it differs from what was known."""
        return await self._load(table.schema, table.name, self._postgres.data) != table

    async def schemas(self, connection: Executor | None = None, *, place: Place | None = None) -> list[str]:
        """Return the names of users' schemas."""
        return await self._schemas(connection, place, None)

    async def require_schema(
        self, schema: str, connection: Executor | None = None, *, place: Place | None = None
    ) -> None:
        """Raise NotFoundError (`unknown_schema`) when there is no such schema for users."""
        if not await self._schemas(connection, place, schema):
            raise NotFoundError(
                f"there is no schema {schema!r}",
                code="unknown_schema",
                details={"schema": schema},
                hint=suggestion(schema, await self._schemas(connection, place, None)),
            )

    async def _schemas(self, connection: Executor | None, place: Place | None, only: str | None) -> list[str]:
        of = None if place is None else list(place)
        try:
            rows = await (connection or self._postgres.data).fetch(_SCHEMAS, list(SYSTEM_SCHEMAS), of, only)
        except FAILURES as error:
            raise from_postgres(error) from error
        return [row["nspname"] for row in rows]

    def forget(self, *_: Any) -> None:
        """Read everything anew from now on; also the callback of the channel."""
        self._generation += 1
        self._tables.clear()

    async def read(
        self, schema: str, name: str, connection: Executor, *, place: Place | None = None
    ) -> Table:
        """Read a table anew, for this caller alone: it may see what is not committed."""
        if is_system_schema(schema):
            await self.require_schema(schema, connection, place=place)
        try:
            record = await connection.fetchrow(_TABLE, schema, name)
        except FAILURES as error:
            raise from_postgres(error) from error
        if record is None:
            raise await self._missing(schema, name, connection, place)
        table = _as_table(schema, name, record)
        if _is_hidden(table, place):
            await self.require_schema(schema, connection, place=place)
        return table

    async def _load(self, schema: str, name: str, connection: Executor, place: Place | None = None) -> Table:
        generation = self._generation
        self._tables.pop((schema, name), None)
        table = await self.read(schema, name, connection, place=place)
        # What was read before a change was announced may be what it was before the change.
        if generation == self._generation:
            if len(self._tables) >= _MAX_TABLES:
                self._tables.clear()
            self._tables[schema, name] = (self._clock() + _TTL_SECONDS, table)
        return table

    async def _missing(
        self, schema: str, name: str, connection: Executor, place: Place | None
    ) -> NotFoundError:
        await self.require_schema(schema, connection, place=place)
        try:
            rows = await connection.fetch(_NAMES, schema)
        except FAILURES as error:
            raise from_postgres(error) from error
        first, dot, rest = name.partition(".")
        is_qualified = dot and first and rest
        return NotFoundError(
            f"there is no table {name!r} in schema {schema!r}",
            code="unknown_table",
            details={"schema": schema, "table": name},
            hint=f"the schema is an argument of its own: {rest!r}, schema={first!r}"
            if is_qualified
            else suggestion(name, [row["relname"] for row in rows]),
        )
