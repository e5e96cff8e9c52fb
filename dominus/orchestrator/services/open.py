"""open: SQL of the caller's own under the data role, and logins for other programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from pydantic_core import to_json

from dominus.contract import open as contract
from dominus.contract.db import MAX_LIMIT
from dominus.contract.values import RowForm, wire_value
from dominus.errors import DominusError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres, sqlstate
from dominus.orchestrator.engines.postgres.typing import Connection
from dominus.orchestrator.handlers.context import Context, RawJson, RawLines
from dominus.orchestrator.handlers.idempotency import exactly_once, remembered
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.sql import open_sql
from dominus.orchestrator.sql.answer_size import MAX_ANSWER_BYTES
from dominus.orchestrator.sql.catalog import CHANNEL
from dominus.orchestrator.sql.open_sql import Given
from dominus.orchestrator.sql.outcomes import REMEMBER, as_outcome
from dominus.orchestrator.sql.tables import Column, Table

__all__ = ["handlers"]

handlers = Handlers(contract.open_sql)

# Names without a schema are those of `public`, as in a native session.
_SETTINGS = "SET LOCAL search_path = public; SET LOCAL statement_timeout = {milliseconds}"
_HAS_WRITTEN = "SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL"
_TYPES = """
SELECT t.oid::int8 AS oid, pg_catalog.format_type(t.oid, -1) AS type, t.typcategory::text AS category,
  coalesce(e.typname, t.typname) AS kind, t.typcategory = 'A' AS is_array
FROM pg_catalog.pg_type t
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE t.oid = ANY ($1::pg_catalog.oid[])
"""
_FIRST_OF_USERS = 16_384
"""The types below come with PostgreSQL and never change."""
_NOTIFY = "SELECT pg_catalog.pg_notify($1, '')"
_SHAPES = frozenset({"CREATE", "ALTER", "DROP"})
_BATCH_BYTES = 256 * 1024
_BATCH_ROWS = 256

_Type = tuple[str, str, str, bool]
_known_types: dict[int, _Type] = {}


@handlers(contract.EXECUTE)
async def execute(ctx: Context, request: contract.ExecuteRequest) -> RawJson:
    """Run a statement in a transaction of its own, which also keeps the answer to a write."""
    given = open_sql.read_sql(request)

    async def write() -> RawJson:
        async with (
            ctx.resources.data_share.of(ctx.principal.subject),
            ctx.resources.postgres.data.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(_settings(ctx, request))
            answer = await _run(connection, given, request.limit)
            known = remembered(ctx)
            # A read is not kept: to do it again does no harm, and its rows may be many.
            if known is not None and await connection.fetchval(_HAS_WRITTEN):
                await connection.execute(REMEMBER, *known, as_outcome(answer.decode(), answer.types))
            if given.command in _SHAPES:
                await connection.execute(_NOTIFY, CHANNEL)
        return answer

    try:
        return await exactly_once(ctx, write)
    except DominusError as error:
        raise _explained(error) from error.__cause__


def _settings(ctx: Context, request: contract.SqlRequest) -> str:
    seconds = min(
        request.statement_timeout or float("inf"),
        ctx.resources.settings.statement_timeout,
    )
    return _SETTINGS.format(milliseconds=max(1, round(seconds * 1000)))


async def _run(connection: Connection, given: Given, limit: int | None) -> RawJson:
    types, table = await _looked_at(connection, given)
    values = given.arguments(types)
    cap = limit or MAX_LIMIT + 1
    if given.is_wrapped and table.columns:
        prepared = await connection.prepare(open_sql.page(given, table, types, cap))
        items, count, touched = await prepared.fetchrow(*values)
        command = given.command
    else:
        prepared = await connection.prepare(given.text(types))
        rows = await prepared.fetch(*values)
        items, count = _as_json(rows), len(rows)
        command, touched = _tag_of(prepared.get_statusmsg())
    if items is None or len(items) > MAX_ANSWER_BYTES:
        raise _too_large()
    if limit is None and count > MAX_LIMIT:
        raise ValidationError(
            f"the statement gives more than {MAX_LIMIT:,} rows",
            code="too_many_rows",
            hint="pass limit= for the first of them, or read them all with open.stream",
        )
    shown = [{"name": column.name, "type": column.type} for column in table.columns.values()]
    body = b'{"items":%b,"row_count":%d,"columns":%b,"command":%b}' % (
        items,
        count if touched is None else touched,
        to_json(shown),
        to_json(command),
    )
    return RawJson.of(body, table.select_list()[1])


async def _looked_at(connection: Connection, given: Given) -> tuple[list[Column], Table]:
    """Return the types of a statement's parameters, and its rows as a table.

    It is prepared alone: PostgreSQL takes one statement here, no more, and says what they are.
    """
    alone = await connection.prepare(given.text())
    types = await _columns(
        connection, [(name, kind.oid) for name, kind in zip(given.names, alone.get_parameters(), strict=True)]
    )
    columns = await _columns(connection, [(item.name, item.type.oid) for item in alone.get_attributes()])
    return types, open_sql.result_of(columns)


async def _columns(connection: Connection, wanted: Sequence[tuple[str, int]]) -> list[Column]:
    """Return names and types, of parameters or of an answer, as columns."""
    known = {oid: _known_types[oid] for _, oid in wanted if oid in _known_types}
    if missing := [oid for _, oid in wanted if oid not in known]:
        for row in await connection.fetch(_TYPES, missing):
            known[row["oid"]] = (row["type"], row["category"], row["kind"], row["is_array"])
    _known_types.update({oid: kind for oid, kind in known.items() if oid < _FIRST_OF_USERS})
    return [_column(name, *known[oid]) for name, oid in wanted]


def _column(name: str, type_: str, category: str, kind: str, is_array: bool) -> Column:
    return Column(
        name=name,
        type=type_,
        cast=type_,
        category=category,
        kind=kind,
        is_array=is_array,
        is_nullable=True,
        is_generated=False,
        identity="",
        default=None,
        is_primary_key=False,
    )


def _as_json(rows: Sequence[Any]) -> bytes:
    """Write what EXPLAIN, SHOW and CALL give, few rows that cannot be asked for in another form."""
    return to_json([{name: _plain(value) for name, value in row.items()} for row in rows])


def _plain(value: object) -> Any:
    try:
        return wire_value(value, row=RowForm())
    except ValidationError:
        return str(value)


def _tag_of(tag: str) -> tuple[str, int | None]:
    """Return the command of a tag, and the rows that it touched: `UPDATE 3`, `INSERT 0 1`, `CREATE TABLE`."""
    words = tag.split()
    names = [word for word in words if not word.isdigit()]
    return " ".join(names), int(words[-1]) if words and words[-1].isdigit() else None


def _explained(error: DominusError) -> DominusError:
    state = sqlstate(error.__cause__) if error.__cause__ is not None else None
    if state == "42501" and error.hint is None and "for table" in error.message:
        error.hint = "secure tables are touched through `dominus.secure`, with a reason"
    if state == "25001":
        return ValidationError(
            str(error.message),
            code="sql_refused",
            hint="it runs in a native session, outside of a transaction",
        )
    if state == "25006":
        return ValidationError(
            "a stream reads, and the statement writes", code="read_only", hint="use open.execute"
        )
    return error


def _too_large() -> ValidationError:
    return ValidationError(
        f"the rows are more than {MAX_ANSWER_BYTES >> 20} MiB",
        code="answer_too_large",
        hint="ask for fewer with limit=, or read them with open.stream",
    )


@handlers(contract.STREAM)
async def stream(ctx: Context, request: contract.SqlRequest) -> RawLines:
    """Read a query's rows through a cursor, in a transaction that only reads, for as long as the client takes them."""
    given = open_sql.read_sql(request)
    if not given.is_wrapped:
        raise ValidationError(
            f"sql: a stream is for queries, {given.command} is none",
            code="sql_refused",
            hint="use open.execute",
        )
    parts = _typed_errors(_parts(ctx, request, given))
    # What is wrong with the statement is told as the answer's status.
    return RawLines(await anext(parts), parts)


async def _typed_errors(parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(parts):
        try:
            async for part in parts:
                yield part
        except FAILURES as error:
            failure = from_postgres(error)
            failure.__cause__ = error
            raise _explained(failure) from error


async def _parts(ctx: Context, request: contract.SqlRequest, given: Given) -> AsyncGenerator[bytes]:
    """Yield the types of the columns, then lists of rows. The client decides how long that takes, as with a load."""
    subject = ctx.principal.subject
    async with (
        ctx.resources.bulk_share.of(subject),
        ctx.resources.data_share.of(subject),
        ctx.resources.postgres.data.acquire() as connection,
        connection.transaction(readonly=True),
    ):
        await connection.execute(_settings(ctx, request))
        types, table = await _looked_at(connection, given)
        prepared = await connection.prepare(open_sql.lines(given, table, types))
        cursor = await prepared.cursor(*given.arguments(types))
        batch = cast("list[Any]", await cursor.fetch(1))
        yield table.select_list()[1] or b"{}"
        size = 1
        while batch:
            part = _joined(batch)
            yield part
            if len(batch) < size:
                return
            size = max(1, min(_BATCH_ROWS, size * 2, size * _BATCH_BYTES // len(part)))
            batch = await cursor.fetch(size)


def _joined(batch: Sequence[Any]) -> bytes:
    rows = [row[0] for row in batch]
    if None in rows:
        raise _too_large()
    return f"[{','.join(rows)}]".encode()


@handlers(contract.DSN)
async def dsn(ctx: Context, request: contract.DsnRequest) -> contract.Dsn:
    """Make a role that logs in until then, and may what the data role may."""
    login = await ctx.resources.credentials.create(ctx.principal, "postgres", seconds=request.expires_in)
    return {
        "dsn": ctx.resources.public_dsn(login.username, login.password, login.database or ""),
        "username": login.username,
        "expires_in": login.expires_in,
    }


@handlers(contract.REVOKE)
async def revoke(ctx: Context, request: contract.RevokeRequest) -> contract.Revoked:
    """End a login and its connections; nobody else's is touched."""
    return {"revoked": await ctx.resources.credentials.release(ctx.principal, request.username)}
