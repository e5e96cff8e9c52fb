"""Changes of one schema: each is a recorded migration."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from dominus.contract import ddl as contract
from dominus.errors import ConflictError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, attribute, from_postgres, sqlstate
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, remembered
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.ddl.change import SEE_OURS, Changing, changing, require_types
from dominus.orchestrator.services.ddl.reach import require_own_schemas
from dominus.orchestrator.services.ddl.records import checksum, content
from dominus.orchestrator.sql.changes import Change, change_of, in_place, parse
from dominus.orchestrator.sql.outcomes import REMEMBER, as_outcome
from dominus.orchestrator.sql.raw_ddl import decode_sql, read_statements
from dominus.orchestrator.sql.structure import describe as described
from dominus.orchestrator.sql.structure import inside
from dominus.orchestrator.sql.tables import Table

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection
    from dominus.orchestrator.sql.catalog import Catalog

__all__ = ["answer", "create_table", "handlers", "in_its_turn"]

handlers = Handlers(contract.ddl)
_RACES = 3


async def in_its_turn(change: Callable[[], Awaitable[RawJson]]) -> RawJson:
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


async def answer(ctx: Context, change: Changing, data: object) -> RawJson:
    """Return the answer of a change, kept in its transaction for a repeat."""
    said = to_json(data)
    if (key := remembered(ctx)) is not None:
        await change.connection.execute(REMEMBER, *key, as_outcome(said.decode()))
    return RawJson.of(said)


Done = Callable[[Changing], Awaitable[contract.TableChanged]]


async def _made(ctx: Context, operation: str, request: Any, done: Done) -> RawJson:
    """Make the change that a request asks for, exactly once; `done` says what there is afterwards."""
    parse(operation, request)

    async def make() -> RawJson:
        async with changing(ctx, request.schema_) as change:
            assert change is not None  # noqa: S101 - it waits
            table = getattr(request, "table", None)
            if table is not None and operation != "create_table":
                # Names it, or what is near, where it is not there.
                _refuse_secure(await change.catalog.read(request.schema_, table, change.connection))
            before = await change.describe(table) if operation in _LOOKS else []
            version = await change.apply(change_of(operation, request, before))
            said = await done(change)
            known = (
                {"schema": request.schema_, "table": table}
                if table is not None
                else {"schema": request.schema_}
            )
            return await answer(ctx, change, {**known, **said, "migration_version": version})

    return await exactly_once(ctx, partial(in_its_turn, make))


def _refuse_secure(table: Table) -> None:
    if table.is_secure:
        raise ConflictError(
            f"{table.label!r} is a secure table, which does not change",
            code="table_is_secure",
            details={"schema": table.schema, "table": table.name},
            hint="delete its record (auth.delete_secure_table), change it, and make it secure again:"
            " both are entries of the audit trail",
        )


_LOOKS = {"drop_table", "drop_column", "alter_column", "drop_index", "drop_constraint"}
"""What takes something away, which has to be described before."""


async def _columns(change: Changing, table: str, *names: str) -> list[dict[str, Any]]:
    known = await change.catalog.read(change.schema, table, change.connection)
    return [dict(known.column(name).info()) for name in names or known.columns]


@handlers(contract.CREATE_TABLE)
async def create_table(ctx: Context, request: contract.CreateTable) -> RawJson:
    """Create a table."""

    async def done(change: Changing) -> contract.TableChanged:
        return {"created": True, "columns": await _columns(change, request.table)}

    return await _made(ctx, "create_table", request, done)


@handlers(contract.DROP_TABLE)
async def drop_table(ctx: Context, request: contract.DropTable) -> RawJson:
    """Drop a table with its rows; one that others refer to stays."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"dropped": True}

    return await _made(ctx, "drop_table", request, done)


@handlers(contract.TRUNCATE_TABLE)
async def truncate_table(ctx: Context, request: contract.TruncateTable) -> RawJson:
    """Delete all rows of a table; one that others refer to stays."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"truncated": True}

    return await _made(ctx, "truncate_table", request, done)


@handlers(contract.ADD_COLUMN)
async def add_column(ctx: Context, request: contract.AddColumn) -> RawJson:
    """Add a column to a table."""

    async def done(change: Changing) -> contract.TableChanged:
        columns = await _columns(change, request.table, request.column)
        return {"column": request.column, "created": True, "columns": columns}

    try:
        return await _made(ctx, "add_column", request, done)
    except ValidationError as error:
        if error.code != "not_null_violation":
            raise
        table = f"{request.schema_}.{request.table}"
        raise ValidationError(
            f"column {request.column!r} cannot be NOT NULL: {table!r} has rows, which need a value",
            code="not_null_violation",
            details={"table": table, "column": request.column},
            hint="pass a default, or nullable=True",
        ) from error


@handlers(contract.DROP_COLUMN)
async def drop_column(ctx: Context, request: contract.DropColumn) -> RawJson:
    """Drop a column with its values."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"column": request.column, "dropped": True}

    return await _made(ctx, "drop_column", request, done)


@handlers(contract.ALTER_COLUMN)
async def alter_column(ctx: Context, request: contract.AlterColumn) -> RawJson:
    """Change a column."""

    async def done(change: Changing) -> contract.TableChanged:
        columns = await _columns(change, request.table, request.column)
        return {"column": request.column, "altered": True, "columns": columns}

    return await _made(ctx, "alter_column", request, done)


@handlers(contract.RENAME_COLUMN)
async def rename_column(ctx: Context, request: contract.RenameColumn) -> RawJson:
    """Rename a column."""

    async def done(change: Changing) -> contract.TableChanged:
        columns = await _columns(change, request.table, request.new_name)
        return {"column": request.new_name, "renamed": True, "columns": columns}

    return await _made(ctx, "rename_column", request, done)


@handlers(contract.CREATE_INDEX)
async def create_index(ctx: Context, request: contract.CreateIndex) -> RawJson:
    """Create an index."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"index": request.index_name, "created": True}

    return await _made(ctx, "create_index", request, done)


@handlers(contract.DROP_INDEX)
async def drop_index(ctx: Context, request: contract.DropIndex) -> RawJson:
    """Drop an index."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"index": request.index_name, "dropped": True}

    return await _made(ctx, "drop_index", request, done)


@handlers(contract.ADD_CONSTRAINT)
async def add_constraint(ctx: Context, request: contract.AddConstraint) -> RawJson:
    """Add a constraint, which all rows must meet."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"constraint": request.constraint_name, "created": True}

    return await _made(ctx, "add_constraint", request, done)


@handlers(contract.DROP_CONSTRAINT)
async def drop_constraint(ctx: Context, request: contract.DropConstraint) -> RawJson:
    """Drop a constraint."""

    async def done(_: Changing) -> contract.TableChanged:
        return {"constraint": request.constraint_name, "dropped": True}

    return await _made(ctx, "drop_constraint", request, done)


@handlers(contract.EXECUTE_RAW)
async def execute_raw(ctx: Context, request: contract.ExecuteRaw) -> RawJson:
    """Run SQL of the caller's own under the data role, recorded as it is."""
    up = read_statements(decode_sql(request.sql, "sql"), "sql")
    down = None if request.down is None else tuple(read_statements(decode_sql(request.down, "down"), "down"))
    raw = Change("execute_raw", up[0].partition("\n")[0][:80], tuple(up), down, is_raw=True)

    async def make() -> RawJson:
        async with changing(ctx, request.schema_) as change:
            assert change is not None  # noqa: S101 - it waits
            version = await change.apply(raw)
            said = {"schema": request.schema_, "executed": True, "migration_version": version}
            return await answer(ctx, change, said)

    return await exactly_once(ctx, make)


@handlers(contract.PREVIEW_CHANGE)
async def preview_change(ctx: Context, request: contract.PreviewChange) -> contract.ChangePreview:
    """Write the SQL of a change of a table as it is now. Nothing is run, so that no table is locked for it."""
    shape: Any = contract.SHAPES[request.operation](**request.params)
    parse(request.operation, shape)
    schema, table = request.schema_, getattr(shape, "table", None)
    async with _looking(ctx, schema) as (catalog, connection):
        if table is not None and request.operation != "create_table":
            await catalog.read(schema, table, connection)
        await connection.execute(inside(schema))
        before = await described(connection, schema, table) if request.operation in _LOOKS else []
        change = change_of(request.operation, shape, before)
        await require_types(connection, change.types)
        await connection.execute(SEE_OURS)
    await require_own_schemas(ctx, change)
    up = [in_place(statement, schema) for statement in change.up]
    down = None if change.down is None else [in_place(statement, schema) for statement in change.down]
    return {
        "schema": schema,
        "operation": request.operation,
        "name": change.name,
        "up": up,
        "down": down,
        "checksum": checksum(up, down),
        "is_reversible": down is not None,
        "content": content(up, down),
    }


@asynccontextmanager
async def _looking(ctx: Context, schema: str) -> AsyncGenerator[tuple[Catalog, Connection]]:
    """Give a transaction that reads what there is in a schema."""
    catalog = await ctx.resources.catalog.listening()
    try:
        async with (
            ctx.resources.data_share.of(ctx.principal.subject),
            ctx.resources.postgres.data.acquire() as connection,
            connection.transaction(readonly=True),
        ):
            await catalog.require_schema(schema, connection, place=ctx.principal.place)
            yield catalog, connection
    except FAILURES as error:
        raise from_postgres(error) from error


@handlers(contract.DESCRIBE)
async def describe(ctx: Context, request: contract.Describe) -> contract.SchemaStructure:
    """Describe the tables of a schema."""
    async with _looking(ctx, request.schema_) as (catalog, connection):
        if request.table is not None:
            await catalog.read(request.schema_, request.table, connection)
        await connection.execute(inside(request.schema_))
        tables = await described(connection, request.schema_, request.table)
        await connection.execute(SEE_OURS)
    return {"schema": request.schema_, "tables": tables}
