"""Any number of rows in one transaction, all or nothing, without a Python object for each row.

JSON lines go as they come into COPY of a staging table; one statement then moves them into the target.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial

from pydantic_core import to_json

from dominus.contract.db import NAIVE_KEY, Row
from dominus.errors import ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, copy_line, from_postgres
from dominus.orchestrator.engines.postgres.secure_role import LEFT_BEHIND
from dominus.orchestrator.engines.postgres.typing import Connection
from dominus.orchestrator.sql.bulk_errors import SAVEPOINT, refused
from dominus.orchestrator.sql.statements import MAX_TOUCHED, clipped, record_definition
from dominus.orchestrator.sql.tables import Column, Table, naive_datetime, quote

__all__ = ["as_lines", "copy_lines", "move", "touched"]

_TIMEOUT = "SET LOCAL statement_timeout = '1h'"
"""A slow client may feed a long COPY; the request's own deadline ends it, not the timeout of a statement."""
# json, not jsonb: it keeps a document as it was written, and costs less.
_STAGE = """
CREATE TEMP TABLE dominus_staging (
  j json NOT NULL CONSTRAINT "one JSON object a line" CHECK (json_typeof(j) = 'object')
) ON COMMIT DROP
"""
_TOUCHED = "CREATE TEMP TABLE dominus_touched (place bigserial, k json) ON COMMIT DROP"
_READ_TOUCHED = (
    f"SELECT {clipped('q.touched')}"
    " FROM (SELECT json_agg(t.k ORDER BY t.place) FILTER (WHERE t.k IS NOT NULL) AS touched"
    f" FROM pg_temp.dominus_touched AS t WHERE t.place <= {MAX_TOUCHED}) AS q"
)
_KEYS = "SELECT DISTINCT json_object_keys(s.j) AS key FROM pg_temp.dominus_staging AS s"
# Lines are stored in the order in which they come: the table is new, and only this transaction's.
_NAIVE = """
SELECT s.line, n.name
FROM (SELECT row_number() OVER (ORDER BY ctid) AS line, j FROM pg_temp.dominus_staging) AS s,
  LATERAL json_array_elements_text(s.j -> $1) AS n (name)
WHERE n.name = ANY ($2)
ORDER BY s.line
LIMIT 1
"""
_BATCH_BYTES = 256 * 1024


async def as_lines(rows: Iterable[Row]) -> AsyncIterator[bytes]:
    """Write rows as JSON lines."""
    batch = bytearray()
    for row in rows:
        batch += to_json(row)
        batch += b"\n"
        if len(batch) >= _BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


async def _escaped(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Escape JSON lines for COPY's text format.

    A backslash is all that needs it: delimiter and null are characters that JSON never holds as they are.
    A carriage return becomes a tab: both are white space between tokens, both forbidden inside a string.
    """
    async for chunk in lines:
        if chunk:
            yield chunk.replace(b"\\", b"\\\\").replace(b"\r", b"\t")


async def copy_lines(connection: Connection, lines: AsyncIterator[bytes]) -> int:
    """Read JSON lines, cut anywhere, into a staging table of this transaction; return their count.

    Raises:
        ValidationError: a line is not a JSON object; `details` has its number.
    """
    await connection.execute(_TIMEOUT)
    await connection.execute(_STAGE)
    try:
        tag = await connection.copy_to_table(
            "dominus_staging",
            schema_name="pg_temp",
            columns=["j"],
            source=_escaped(lines),
            format="text",
            delimiter="\x01",
            null="\x02",
        )
    except FAILURES as error:
        line = copy_line(error)
        if line is not None and isinstance(from_postgres(error), ValidationError):
            raise ValidationError(
                f"line {line} is not a JSON object", code="invalid_line", details={"line": line}
            ) from error
        raise
    return int(tag.rpartition(" ")[2])


def _literal(text: str) -> str:
    # For names out of the catalog. The form with E means the same whatever the session's settings are.
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _value(column: Column, table: Table) -> str:
    given = f"r.{quote(column.name)}"
    # A generated column gets here too: PostgreSQL's own error says that it takes no value.
    default = column.default
    key = _literal(column.name)
    if column.identity:
        default = f"nextval(pg_get_serial_sequence({_literal(table.sql)}, {key}))"
    if default is None:
        return given
    # The document is asked for the key only where there is no value: null, or left out.
    return f"CASE WHEN {given} IS NULL AND (s.j -> {key}) IS NULL THEN {default} ELSE {given} END"


def move_statement(table: Table, keys: Sequence[str], condition: str = "") -> str:
    """Return the statement that moves the staged rows; columns that no row has are left to their defaults.

    Args:
        table: where to.
        keys: all that the rows have.
        condition: of which rows (`s`); all without it.

    Raises:
        ValidationError: keys that are no columns.
    """
    unknown = [key for key in keys if key not in table.columns]
    if len(unknown) == 1:
        table.column(unknown[0])
    if unknown:
        raise ValidationError(
            f"table {table.label!r} has no columns {', '.join(map(repr, sorted(unknown)[:20]))}",
            code="unknown_column",
            details={"table": table.label, "columns": sorted(unknown)[:100]},
        )
    given = frozenset(keys)
    columns = [column for name, column in table.columns.items() if name in given]
    where = f" WHERE {condition}" if condition else ""
    if not columns:
        return f"INSERT INTO {table.sql} SELECT FROM pg_temp.dominus_staging AS s{where}"
    names = ", ".join(quote(column.name) for column in columns)
    values = ", ".join(_value(column, table) for column in columns)
    return (
        f"INSERT INTO {table.sql} ({names}) SELECT {values} FROM pg_temp.dominus_staging AS s,"
        f" LATERAL json_to_record(s.j) AS r ({record_definition(columns)}){where}"
    )


async def _refuse_naive(connection: Connection, table: Table) -> None:
    zoned = [column.name for column in table.columns.values() if column.kind == "timestamptz"]
    try:
        found = await connection.fetchrow(_NAIVE, NAIVE_KEY, zoned) if zoned else None
    except FAILURES as error:
        raise from_postgres(error) from error
    if found is not None:
        raise naive_datetime(table.columns[found["name"]], found["line"])


async def move(connection: Connection, table: Table, total: int) -> None:
    """Move the staged rows into their table.

    Raises:
        DominusError: PostgreSQL refuses a row; `details` has its line and column.
    """
    if total == 0:
        return
    if table.is_secure:
        await connection.execute(_TOUCHED)
    await connection.execute(SAVEPOINT)
    try:
        keys = [record["key"] for record in await connection.fetch(_KEYS)]
    except FAILURES as error:
        raise await refused(connection, table, _keys_where, error) from error
    if NAIVE_KEY in keys and NAIVE_KEY not in table.columns:
        await _refuse_naive(connection, table)
        keys.remove(NAIVE_KEY)
    # Sent as it is, not prepared: the statement is of one use, and may be long.
    try:
        await connection.execute(_moved_now(table, keys))
    except FAILURES as error:
        raise await refused(connection, table, partial(_moved_now, table, keys), error) from error


def _moved_now(table: Table, keys: Sequence[str], condition: str = "") -> str:
    # What a constraint puts off to the end of the transaction is looked at now, while there are lines to be named.
    moving = move_statement(table, keys, condition)
    if table.is_secure:
        moving = moving.replace(f"INSERT INTO {table.sql}", f"INSERT INTO {table.sql} AS t", 1)
        moving = (
            f"WITH moved AS ({moving} RETURNING {table.touched('t')} AS k)"
            " INSERT INTO pg_temp.dominus_touched (k) SELECT k FROM moved"
        )
    cleaning = f"; {LEFT_BEHIND}" if table.is_secure and table.has_foreign_keys else ""
    return f"{moving}; SET CONSTRAINTS ALL IMMEDIATE{cleaning}"


async def touched(connection: Connection) -> str | None:
    """Return which rows were moved into a secure table, the first of many, as a JSON list."""
    return await connection.fetchval(_READ_TOUCHED)


def _keys_where(condition: str) -> str:
    return f"SELECT count(*) FROM ({_KEYS} WHERE {condition}) AS k"
