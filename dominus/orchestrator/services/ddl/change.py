"""A change of a schema: its lock, its SQL and its record in one transaction of the data role.

The data role sees nothing of our tables. What is to be done is written before, by the owner, under a ticket; the
transaction that does it holds the key, locks the schema's row by it, and settles it as its last act (0006_ddl.sql).
What is not settled never happened, and goes with its ticket.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dominus.contract.suggestion import suggestion
from dominus.errors import NotFoundError, ServiceError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.ddl.reach import require_own_schemas
from dominus.orchestrator.services.ddl.records import checksum, place_of
from dominus.orchestrator.sql.catalog import CHANNEL, Catalog
from dominus.orchestrator.sql.changes import Change, in_place
from dominus.orchestrator.sql.grammar import SERIAL_TYPES
from dominus.orchestrator.sql.structure import Structure, describe, inside
from dominus.orchestrator.sql.tables import SYSTEM_SCHEMAS

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = [
    "SEE_OURS",
    "SESSION",
    "Changing",
    "Step",
    "Ticket",
    "changing",
    "drop_tickets",
    "no_schema",
    "open_ticket",
]

logger = logging.getLogger("dominus.orchestrator.services.ddl")

# standard_conforming_strings: our grammar takes a backslash for itself. lock_timeout: a change that waits for
# a long query makes everyone else wait behind it.
SESSION = "SET LOCAL standard_conforming_strings = on; SET LOCAL lock_timeout = '5s'"
# Our own statements see the system's names alone.
SEE_OURS = "SET LOCAL search_path = pg_catalog, pg_temp"
_UNKNOWN_TYPES = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regtype(name) IS NULL"
_NOTIFY = "SELECT pg_notify($1, $2)"
_MADE_TYPES = """
SELECT format_type(t.oid, NULL) AS name
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('d', 'e', 'r') AND n.nspname !~ '^pg_' AND n.nspname <> ALL ($1::text[])
ORDER BY name
LIMIT 100
"""
# Tickets that a crash left are of no use after a day.
_OPEN = """
WITH purged AS (
  DELETE FROM dominus.ddl_tickets WHERE created_at < now() - interval '1 day'
), known AS (
  INSERT INTO dominus.ddl_schemas (name)
  SELECT n.nspname::text
  FROM pg_catalog.pg_namespace n
  WHERE n.nspname = $3 AND $3 <> ALL ($6::text[]) AND $3 !~ '^pg_'
  ON CONFLICT DO NOTHING
)
INSERT INTO dominus.ddl_tickets (digest, schema, data_role, project, environment)
VALUES ($4, $3, $5, $1, $2)
RETURNING (
  SELECT d.project IS NULL OR (d.project, d.environment) = ($1::text, $2::text)
  FROM dominus.ddl_schemas d
  WHERE d.name = $3
)
"""
_DROP = "DELETE FROM dominus.ddl_tickets WHERE digest = ANY ($1::bytea[])"
_RECORD = """
WITH made AS (
  INSERT INTO dominus.ddl_migrations
    (project, environment, schema, version, name, operation, up, down, checksum, author, ticket)
  VALUES ($1, $2, $3, to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS'), $4, $5, $6, $7, $8, $9, $10)
  RETURNING id, version
), stepped AS (
  INSERT INTO dominus.ddl_steps (schema, migration_id, is_up, author, ticket)
  SELECT $3, id, true, $9, $10
  FROM made
)
SELECT version
FROM made
"""
_STEP = """
INSERT INTO dominus.ddl_steps (schema, migration_id, is_up, author, ticket)
SELECT $1, x.id, $3, $4, $5
FROM unnest($2::uuid[]) WITH ORDINALITY AS x (id, place)
ORDER BY x.place
"""
_TYPES = (
    *(
        "bigint",
        "bigserial",
        "boolean",
        "bytea",
        "char(n)",
        "cidr",
        "date",
        "double precision",
        "inet",
        "integer",
    ),
    *("interval", "json", "jsonb", "numeric(p,s)", "real", "serial", "smallint", "text", "time", "timestamp"),
    *("timestamptz", "uuid", "varchar(n)"),
)
_TYPE_HINTS = {
    "datetime": "timestamptz",
    "string": "text",
    "str": "text",
    "tinyint": "smallint",
    "double": "double precision",
    "blob": "bytea",
    "number": "numeric",
    "object": "jsonb",
    "dict": "jsonb",
    "list": "jsonb",
    "long": "bigint",
}


@dataclass(frozen=True, slots=True)
class Ticket:
    """What lets a transaction of the data role make one change."""

    key: bytes
    schema: str

    @property
    def digest(self) -> bytes:
        """What we keep of the key."""
        return hashlib.sha256(self.key).digest()


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded migration on its way up or down."""

    migration: Record
    is_up: bool

    @property
    def statements(self) -> tuple[str, ...]:
        """The SQL of this way."""
        return tuple(self.migration["up"] if self.is_up else self.migration["down"])


async def open_ticket(ctx: Context, schema: str) -> Ticket:
    """Return a ticket for a change of a schema, which need not be there.

    Raises:
        NotFoundError: it is another project's tenant's.
    """
    ticket = Ticket(os.urandom(32), schema)
    resources = ctx.resources
    try:
        is_ours = await resources.postgres.system.fetchval(
            _OPEN, *place_of(ctx), schema, ticket.digest, resources.settings.data_role, list(SYSTEM_SCHEMAS)
        )
    except FAILURES as error:
        raise from_postgres(error) from error
    if is_ours is False:
        await drop_tickets(ctx, ticket)
        raise no_schema(schema)
    return ticket


async def drop_tickets(ctx: Context, *tickets: Ticket) -> None:
    """Forget what was not done under tickets; what cannot be dropped now is purged later."""
    try:
        await ctx.resources.postgres.system.execute(_DROP, [ticket.digest for ticket in tickets])
    except FAILURES as error:
        logger.warning("a ticket of a change was not dropped: %s", type(error).__name__)


def no_schema(schema: str) -> NotFoundError:
    """Return (not raise) the error for a schema that is not there for the caller."""
    return NotFoundError(f"there is no schema {schema!r}", code="unknown_schema", details={"schema": schema})


@asynccontextmanager
async def changing(
    ctx: Context, schema: str, *, waits: bool = True, makes: bool = False
) -> AsyncGenerator[Changing | None]:
    """Lock a schema and give what changes it; the transaction is committed at the end of the block.

    At its end every orchestrator forgets what it knew of tables.

    Args:
        ctx: the request.
        schema: which one.
        waits: for another change of the schema; without it the block is given None while there is one.
        makes: make the schema. Its row is there already.

    Raises:
        NotFoundError: there is no such schema.
    """
    catalog = await ctx.resources.catalog.listening()
    ticket = await open_ticket(ctx, schema)
    is_done = False
    try:
        async with (
            ctx.resources.data_share.of(ctx.principal.subject, (schema, "")),
            ctx.resources.postgres.data.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(SESSION)
            if not makes:
                await catalog.require_schema(schema, connection, place=ctx.principal.place)
            if await connection.fetchval("SELECT dominus_api.begin_ddl($1, $2)", ticket.key, waits):
                if makes:
                    await connection.fetchval("SELECT dominus_api.make_schema($1)", ticket.key)
                made = Changing(ctx, connection, catalog, ticket)
                yield made
                await made.settle()
                is_done = True
            elif waits:
                raise no_schema(schema)
            else:
                yield None
    finally:
        if not is_done:
            await drop_tickets(ctx, ticket)
    # The notification is on its way; the caller's next request here shall not have to race with it.
    catalog.forget()


class Changing:
    """A schema that is locked for a change."""

    def __init__(self, ctx: Context, connection: Connection, catalog: Catalog, ticket: Ticket) -> None:
        self._ctx = ctx
        self._ticket = ticket
        self.connection = connection
        self.catalog = catalog
        self.schema = ticket.schema

    async def describe(self, table: str | None = None) -> list[Structure]:
        """Return the tables of the schema, or one of them, as they are now."""
        await self.connection.execute(inside(self.schema))
        found = await describe(self.connection, self.schema, table)
        await self.connection.execute(SEE_OURS)
        return found

    async def apply(self, change: Change, name: str | None = None) -> str:
        """Record a change of this schema alone and make it; return its version."""
        await require_own_schemas(self._ctx, change)
        up = [in_place(statement, self.schema) for statement in change.up]
        down = (
            None if change.down is None else [in_place(statement, self.schema) for statement in change.down]
        )
        record = (self.schema, name or change.name, change.operation, up, down, checksum(up, down))
        try:
            version: str = await self._ctx.resources.postgres.system.fetchval(
                _RECORD, *place_of(self._ctx), *record, self._ctx.principal.subject, self._ticket.digest
            )
        except FAILURES as error:
            raise from_postgres(error) from error
        await self.connection.execute(inside(self.schema))
        await require_types(self.connection, change.types)
        await run(self.connection, up, is_raw=change.is_raw)
        await self.connection.execute(SEE_OURS)
        return version

    async def go(self, steps: Sequence[Step]) -> None:
        """Apply recorded migrations, or roll them back, in this order."""
        if not steps:
            return
        ids = [step.migration["id"] for step in steps]
        author, digest = self._ctx.principal.subject, self._ticket.digest
        for is_up in {step.is_up for step in steps}:
            mine = [one for one, step in zip(ids, steps, strict=True) if step.is_up is is_up]
            await self._ctx.resources.postgres.system.execute(_STEP, self.schema, mine, is_up, author, digest)
        await self.connection.execute(inside(self.schema))
        for step in steps:
            statements = [in_place(statement, self.schema) for statement in step.statements]
            await run(self.connection, statements, is_raw=step.migration["operation"] == "execute_raw")
        await self.connection.execute(SEE_OURS)

    async def settle(self) -> None:
        """Say that it was done, and that tables have changed."""
        if not await self.connection.fetchval("SELECT dominus_api.settle_ddl($1)", self._ticket.key):
            raise ServiceError(
                "the change took longer than its ticket is good for", code="database_busy", status_code=503
            )
        await self.connection.fetchval(_NOTIFY, CHANNEL, self.schema)


async def run(connection: Connection, statements: Sequence[str], *, is_raw: bool = False) -> None:
    """Run statements under the search path that is set.

    What the grammar wrote goes as one text; of users' own text each statement goes as a prepared one, which
    PostgreSQL takes no second command in.
    """
    if is_raw:
        for statement in statements:
            await connection.fetch(statement)
    elif statements:
        await connection.execute(";\n".join(statements))


async def require_types(connection: Connection, types: Sequence[str]) -> None:
    """Raise ValidationError (`unknown_type`) where PostgreSQL knows no such type in this schema."""
    known = [name for name in types if name not in SERIAL_TYPES]
    if not known:
        return
    unknown: list[Any] = [record["name"] for record in await connection.fetch(_UNKNOWN_TYPES, known)]
    if unknown:
        base = unknown[0].partition("(")[0].partition("[")[0].strip()
        made = [record["name"] for record in await connection.fetch(_MADE_TYPES, list(SYSTEM_SCHEMAS))]
        known = [*_TYPES, *made]
        better = _TYPE_HINTS.get(base)
        raise ValidationError(
            f"there is no type {unknown[0]!r}",
            code="unknown_type",
            details={"types": unknown},
            hint=f"did you mean {better!r}? types are {', '.join(known)}"
            if better
            else suggestion(base, known, lists="types are"),
        )
