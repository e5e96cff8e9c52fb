"""db: rows of users' tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

from pydantic_core import to_json

from dominus.contract import db as contract
from dominus.contract.request import Empty
from dominus.errors import ConflictError, DominusError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres, is_stale_catalog, sqlstate
from dominus.orchestrator.engines.postgres.typing import Record
from dominus.orchestrator.handlers.audit import append
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, remembered
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.handlers.secure_access import access_of, audited, require_reason, witnessed
from dominus.orchestrator.sql import bulk, keyset
from dominus.orchestrator.sql import statements as sql
from dominus.orchestrator.sql.answer_size import MAX_ANSWER_BYTES, is_too_large
from dominus.orchestrator.sql.blame import explained
from dominus.orchestrator.sql.outcomes import REMEMBER, as_outcome
from dominus.orchestrator.sql.statements import Statement
from dominus.orchestrator.sql.tables import Table

__all__ = ["handlers"]

handlers = Handlers(contract.db)

# How often an insert looks again for the row that it ran into and cannot see yet.
_CONFLICT_ATTEMPTS = 5

_TABLES = """
SELECT coalesce(json_agg(json_build_object(
  'table_name', c.relname,
  'schema_name', n.nspname,
  'type', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                         WHEN 'f' THEN 'foreign table' ELSE 'table' END,
  'estimated_rows', CASE WHEN has_table_privilege(c.oid, 'SELECT') THEN greatest(c.reltuples, 0)::int8 ELSE 0 END
) ORDER BY c.relname), '[]')::text
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""


@handlers(contract.SCHEMAS)
async def schemas(ctx: Context, request: Empty) -> contract.SchemaList:
    """List users' schemas."""
    del request
    catalog = await ctx.resources.catalog.listening()
    return {"schemas": await catalog.schemas(place=ctx.principal.place)}


@handlers(contract.TABLES)
async def tables(ctx: Context, request: contract.TablesRequest) -> RawJson:
    """List the tables and views of a schema."""
    catalog = await ctx.resources.catalog.listening()
    await catalog.require_schema(request.schema_, place=ctx.principal.place)
    try:
        async with ctx.resources.data_share.of(ctx.principal.subject):
            found: str = await ctx.resources.postgres.data.fetchval(_TABLES, request.schema_)
    except FAILURES as error:
        raise from_postgres(error) from error
    return RawJson.of(b'{"tables":%b}' % found.encode())


@handlers(contract.COLUMNS)
async def columns(ctx: Context, request: contract.TableRequest) -> contract.ColumnList:
    """List the columns of a table."""
    catalog = await ctx.resources.catalog.listening()
    table = await catalog.table(request.schema_, request.table, place=ctx.principal.place)
    return {"columns": [column.info() for column in table.columns.values()]}


async def _run(
    ctx: Context, operation: str, request: contract.Values, build: Callable[[Table], Statement]
) -> tuple[Record | None, Statement]:
    """Build a statement for a table as it is known, and run it; once more when the table was altered."""
    postgres = ctx.resources.postgres
    catalog = await ctx.resources.catalog.listening()
    is_second = False
    while True:
        table = await catalog.table(request.schema_, request.table, place=ctx.principal.place)
        require_reason(ctx, table, request.reason)
        statement: Statement | None = None
        try:
            table.refuse_naive(request.naive or ())
            statement = build(table)
            share = ctx.resources.secure_share if table.is_secure else ctx.resources.data_share
            async with share.of(ctx.principal.subject, (table.schema, table.name)):
                if table.is_secure:
                    return await audited(ctx, operation, request, table, statement), statement
                asked = postgres.data.fetchrow(statement.sql, *statement.args, is_inert=statement.is_inert)
                return await asked, statement
        except (ValidationError, *FAILURES) as error:
            is_stale = is_stale_catalog(error) or getattr(error, "code", None) == "unknown_column"
            # It became secure, or is no longer: its owner is another.
            is_stale = is_stale or sqlstate(error) == "42501"
            if is_second or not is_stale or not await catalog.has_changed(table):
                if statement is None or isinstance(error, DominusError):
                    raise
                if is_too_large(error):
                    raise _row_too_large() from error
                raise await explained(postgres.data, table, statement, error) from error
            is_second = True


def _refuse_too_large(items: bytes | None) -> None:
    if items is None:
        raise ValidationError(
            f"the rows are more than {MAX_ANSWER_BYTES >> 20} MiB",
            code="answer_too_large",
            hint="ask for fewer at once with limit= or page_size=, or for less of each with columns=",
        )


def _row_too_large() -> ValidationError:
    return ValidationError(
        f"the row is more than {MAX_ANSWER_BYTES >> 20} MiB as it would be stored and returned; it was not stored",
        code="answer_too_large",
        hint="db.bulk_insert stores rows without returning them",
    )


@handlers(contract.QUERY)
async def query(ctx: Context, request: contract.QueryRequest) -> RawJson:
    """Read rows, and count what matches."""
    run = _run(ctx, "query", request, partial(sql.query, request=request))
    record, statement = await witnessed(ctx, "query", request, run)
    items, total = (record[0], record[1]) if record is not None else (b"[]", 0)
    _refuse_too_large(items)
    said = b"null" if total is None else b"%d" % total
    body = b'{"items":%b,"total":%b,"limit":%d,"offset":%d}' % (items, said, request.limit, request.offset)
    return RawJson.of(body, statement.types)


@handlers(contract.PAGE)
async def page(ctx: Context, request: contract.PageRequest) -> RawJson:
    """Read the rows after a cursor."""
    digest = ""

    def build(table: Table) -> Statement:
        nonlocal digest
        statement, digest = keyset.page(table, request)
        return statement

    record, statement = await witnessed(ctx, "page", request, _run(ctx, "page", request, build))
    items, count, last_key = (record[0], record[1], record[2]) if record is not None else (b"[]", 0, None)
    _refuse_too_large(items)
    # A full last page is followed by an empty one: cheaper than asking every page for one row more.
    is_end = count < request.page_size
    cursor = None if is_end or last_key is None else keyset.cursor_after(digest, last_key)
    return RawJson.of(b'{"items":%b,"cursor":%b}' % (items, to_json(cursor)), statement.types)


@handlers(contract.INSERT)
async def insert(ctx: Context, request: contract.InsertRequest) -> RawJson:
    """Store a row; answer with it as it was stored."""
    build = partial(sql.insert, request=request, key=remembered(ctx))

    async def write() -> RawJson:
        for _ in range(_CONFLICT_ATTEMPTS):
            record, statement = await _run(ctx, "insert", request, build)
            if record is not None:
                return RawJson.of(record[0], statement.types)
        # The conflicting row is neither taken away nor visible: a policy or a trigger hides it.
        raise ConflictError("the row conflicts with one that cannot be read", code="unique_violation")

    return await witnessed(ctx, "insert", request, exactly_once(ctx, write))


async def _change(
    ctx: Context, operation: str, request: contract.Values, build: Callable[[Table], Statement]
) -> RawJson:
    async def write() -> RawJson:
        record, _ = await _run(ctx, operation, request, build)
        return RawJson.of(record[0] if record else b'{"affected_rows":0}')

    return await witnessed(ctx, operation, request, exactly_once(ctx, write))


@handlers(contract.UPDATE)
async def update(ctx: Context, request: contract.UpdateRequest) -> RawJson:
    """Change the rows that match."""
    return await _change(ctx, "update", request, partial(sql.update, request=request, key=remembered(ctx)))


@handlers(contract.DELETE)
async def delete(ctx: Context, request: contract.DeleteRequest) -> RawJson:
    """Delete the rows that match."""
    return await _change(ctx, "delete", request, partial(sql.delete, request=request, key=remembered(ctx)))


@handlers(contract.BULK_INSERT)
async def bulk_insert(ctx: Context, request: contract.BulkInsertRequest) -> RawJson:
    """Store the rows of the body or of the stream in one transaction."""
    lines = ctx.stream
    if lines is None:
        if request.rows is None:
            raise ValidationError("rows: missing", code="validation")
        lines = bulk.as_lines(request.rows)
    elif request.rows is not None:
        raise ValidationError("rows come in the header line or after it, not both", code="validation")
    stored = exactly_once(ctx, partial(_store_lines, ctx, request, lines))
    return await witnessed(ctx, "bulk_insert", request, stored)


async def _store_lines(
    ctx: Context, request: contract.BulkInsertRequest, lines: AsyncIterator[bytes]
) -> RawJson:
    subject = ctx.principal.subject
    catalog = await ctx.resources.catalog.listening()
    known = await catalog.latest(request.schema_, request.table, place=ctx.principal.place)
    require_reason(ctx, known, request.reason)
    pool = await ctx.resources.postgres.secure() if known.is_secure else ctx.resources.postgres.data
    share = ctx.resources.secure_share if known.is_secure else ctx.resources.data_share
    async with (
        ctx.resources.bulk_share.of(subject),
        share.of(subject, (request.schema_, request.table)),
        pool.acquire(is_inert=known.is_secure and not known.has_foreign_keys) as connection,
        connection.transaction(),
    ):
        total = await bulk.copy_lines(connection, lines)
        if ctx.stream is not None and ctx.seal is not None:
            # Only now is it known what was sent; from here on a failure may be that of a repeat.
            ctx.idempotency = ctx.seal()
        # On this connection: all others may be held by such as this.
        table = await catalog.table(request.schema_, request.table, connection, place=ctx.principal.place)
        require_reason(ctx, table, request.reason)
        await bulk.move(connection, table, total)
        answer = b'{"inserted_count":%d}' % total
        if (key := remembered(ctx)) is not None:
            await connection.execute(REMEMBER, *key, as_outcome(answer.decode()))
        if table.is_secure:
            ids = await bulk.touched(connection) if total else None
            await append(ctx, connection, access_of("bulk_insert", table, request, total, ids))
    return RawJson.of(answer)
