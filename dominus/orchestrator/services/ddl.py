"""ddl: the shape of users' tables."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from pydantic_core import to_json

from dominus.contract import ddl as contract
from dominus.contract.suggestion import suggestion
from dominus.errors import ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, attribute, sqlstate
from dominus.orchestrator.engines.postgres.typing import Connection
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, remembered
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.sql.catalog import CHANNEL, Catalog
from dominus.orchestrator.sql.grammar import (
    SERIAL_TYPES,
    ColumnRules,
    check_name,
    default_expression,
    read_constraints,
    read_type,
)
from dominus.orchestrator.sql.outcomes import REMEMBER, as_outcome
from dominus.orchestrator.sql.tables import SYSTEM_SCHEMAS, quote

__all__ = ["handlers"]

handlers = Handlers(contract.ddl)

# standard_conforming_strings: our grammar takes a backslash for itself. lock_timeout: a change that waits for
# a long query makes everyone else wait behind it.
_SESSION = "SET LOCAL standard_conforming_strings = on; SET LOCAL lock_timeout = '5s'"
# What users write may name their own types and functions, bound once and for all where it is read. Our own statements
# see the system's alone.
_SEE_PUBLIC = "SET LOCAL search_path = pg_catalog, public, pg_temp"
_SEE_OURS = "SET LOCAL search_path = pg_catalog, pg_temp"
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


@asynccontextmanager
async def _altering(ctx: Context, catalog: Catalog, schema: str, table: str) -> AsyncGenerator[Connection]:
    """Give a connection in a transaction; at its end, every orchestrator forgets what it knew of tables."""
    async with (
        ctx.resources.data_share.of(ctx.principal.subject, (schema, table)),
        ctx.resources.postgres.data.acquire() as connection,
        connection.transaction(),
    ):
        await connection.execute(_SESSION)
        await catalog.require_schema(schema, connection)
        yield connection
        await connection.fetchval(_NOTIFY, CHANNEL, schema)
    # The notification is on its way; the caller's next request here shall not have to race with it.
    catalog.forget()


async def _in_its_turn(change: Callable[[], Awaitable[RawJson]]) -> RawJson:
    """Make a change; once more when another made the same thing at that moment.

    PostgreSQL then complains about an index of its own catalog, or that the type of the table's rows exists. The second
    time it sees what is there, and says so.
    """
    for _ in range(_RACES):
        try:
            return await change()
        except FAILURES as error:
            is_race = sqlstate(error) == "23505" and attribute(error, "schema_name") == "pg_catalog"
            if not is_race and sqlstate(error) != "42710":
                raise
    return await change()


_RACES = 3
_VERSION = "SELECT to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS')"


async def _answer(ctx: Context, connection: Connection, changed: contract.TableChanged) -> RawJson:
    version: str = await connection.fetchval(_VERSION)
    answer = to_json(changed | {"migration_version": version})
    if (key := remembered(ctx)) is not None:
        await connection.execute(REMEMBER, *key, as_outcome(answer.decode()))
    return RawJson.of(answer)


async def _require_types(connection: Connection, types: list[str]) -> None:
    known = [name for name in types if name not in SERIAL_TYPES]
    unknown = [record["name"] for record in await connection.fetch(_UNKNOWN_TYPES, known)]
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


def _rules(column: contract.Column, schema: str) -> ColumnRules:
    what = f"column {column.name!r}"
    rules = ColumnRules(is_primary_key=bool(column.primary_key), is_unique=bool(column.unique))
    for text in column.constraints or ():
        read_constraints(text, f"{what}, constraint", schema, rules)
    if column.nullable is False:
        rules.is_nullable = False
    if column.default is not None:
        if rules.default is not None:
            raise ValidationError(f"{what}: there are two defaults", code="invalid_sql")
        rules.default = default_expression(column.default, f"{what}, default")
    return rules


@handlers(contract.CREATE_TABLE)
async def create_table(ctx: Context, request: contract.CreateTable) -> RawJson:
    """Create a table."""
    schema = request.schema_
    check_name(request.table, "table")
    names = [check_name(column.name, "column") for column in request.columns]
    types = [read_type(column.type, f"column {column.name!r}, type") for column in request.columns]
    rules = [_rules(column, schema) for column in request.columns]
    parts = [f"{name} {type_}{rule.clauses()}" for name, type_, rule in zip(names, types, rules, strict=True)]
    keys = [name for name, rule in zip(names, rules, strict=True) if rule.is_primary_key]
    if keys:
        parts.append(f"PRIMARY KEY ({', '.join(keys)})")
    statement = f"CREATE TABLE {quote(schema)}.{quote(request.table)} ({', '.join(parts)})"
    return await exactly_once(ctx, partial(_in_its_turn, partial(_create, ctx, request, types, statement)))


async def _create(ctx: Context, request: contract.CreateTable, types: list[str], statement: str) -> RawJson:
    catalog = await ctx.resources.catalog.listening()
    async with _altering(ctx, catalog, request.schema_, request.table) as connection:
        await connection.execute(_SEE_PUBLIC)
        await _require_types(connection, types)
        await connection.execute(statement)
        await connection.execute(_SEE_OURS)
        table = await catalog.read(request.schema_, request.table, connection)
        columns = [dict(column.info()) for column in table.columns.values()]
        return await _answer(
            ctx,
            connection,
            {"schema": request.schema_, "table": request.table, "created": True, "columns": columns},
        )


@handlers(contract.DROP_TABLE)
async def drop_table(ctx: Context, request: contract.DropTable) -> RawJson:
    """Drop a table with its rows; one that others refer to stays."""
    return await exactly_once(ctx, partial(_in_its_turn, partial(_drop, ctx, request)))


async def _drop(ctx: Context, request: contract.DropTable) -> RawJson:
    catalog = await ctx.resources.catalog.listening()
    async with _altering(ctx, catalog, request.schema_, request.table) as connection:
        table = await catalog.read(request.schema_, request.table, connection)
        await connection.execute(f"DROP TABLE {table.sql}")
        return await _answer(
            ctx, connection, {"schema": request.schema_, "table": request.table, "dropped": True}
        )


@handlers(contract.ADD_COLUMN)
async def add_column(ctx: Context, request: contract.AddColumn) -> RawJson:
    """Add a column to a table."""
    return await exactly_once(ctx, partial(_in_its_turn, partial(_add, ctx, request)))


async def _add(ctx: Context, request: contract.AddColumn) -> RawJson:
    name = check_name(request.column, "column")
    type_ = read_type(request.type, f"column {request.column!r}, type")
    default = request.default
    rules = ColumnRules(
        is_nullable=request.nullable,
        default=default_expression(default, f"column {request.column!r}, default")
        if default is not None
        else None,
    )
    catalog = await ctx.resources.catalog.listening()
    async with _altering(ctx, catalog, request.schema_, request.table) as connection:
        table = await catalog.read(request.schema_, request.table, connection)
        await connection.execute(_SEE_PUBLIC)
        await _require_types(connection, [type_])
        try:
            await connection.execute(f"ALTER TABLE {table.sql} ADD COLUMN {name} {type_}{rules.clauses()}")
        except FAILURES as error:
            if sqlstate(error) != "23502":
                raise
            raise ValidationError(
                f"column {request.column!r} cannot be NOT NULL: {table.label!r} has rows, which need a value",
                code="not_null_violation",
                details={"table": table.label, "column": request.column},
                hint="pass a default, or nullable=True",
            ) from error
        await connection.execute(_SEE_OURS)
        added = (await catalog.read(request.schema_, request.table, connection)).column(request.column)
        changed: contract.TableChanged = {
            "schema": request.schema_,
            "table": request.table,
            "column": request.column,
            "created": True,
            "columns": [dict(added.info())],
        }
        return await _answer(ctx, connection, changed)
