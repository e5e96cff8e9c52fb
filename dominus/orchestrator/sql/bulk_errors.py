"""Which line of a refused load is at fault, and which of its columns: looked for after the failure, never before.

The staged lines are moved again, half by half, each half in a savepoint. What PostgreSQL takes stays, so that the next
half meets the rows before it as it would have; what it refuses is halved once more. That ends at one line after at
most one more pass over the rows. The transaction is then rolled back as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
from pydantic_core import from_json

from dominus.errors import DominusError
from dominus.orchestrator.engines.postgres.errors import attribute, from_postgres, is_raised, sqlstate
from dominus.orchestrator.engines.postgres.typing import Connection
from dominus.orchestrator.sql.blame import find_blame, read_row
from dominus.orchestrator.sql.statements import record_definition
from dominus.orchestrator.sql.tables import Table, quote

__all__ = ["SAVEPOINT", "refused"]

SAVEPOINT = "SAVEPOINT staged"
"""To be set before the staged lines are read: a failure is looked into from there."""
_ABOUT_ROWS = frozenset({"22", "23", "44", "54", "P0"})
_PAGES = "SELECT pg_relation_size('pg_temp.dominus_staging') / current_setting('block_size')::int8"
_LINE = "SELECT count(*) + 1 FROM pg_temp.dominus_staging WHERE ctid < $1::text::tid"
_ROW = "SELECT j::text FROM pg_temp.dominus_staging WHERE ctid = $1::text::tid AND octet_length(j::text) <= 1048576"
_PLACES_OF_A_PAGE = 1024
"""More than the lines that fit into one of 8 or 32 KiB: a place in the table is one number."""

Move = Callable[[str], str]
"""The statement for the lines under a condition on `s.ctid`."""


async def refused(connection: Connection, table: Table, move: Move, error: BaseException) -> DominusError:
    """Return (not raise) the typed error for a load that PostgreSQL refused, with line and column where they are found.

    Raises:
        Exception: one of FAILURES, when the connection is lost meanwhile.
    """
    # Of a secure table with foreign keys nothing else runs in a transaction in which these may have run what sessions
    # made, and which has not been cleaned of that: its refusal names no line.
    if not _is_about_rows(error) or (table.is_secure and table.has_foreign_keys):
        return from_postgres(error)
    await connection.execute(f"ROLLBACK TO {SAVEPOINT}")
    if _refers_to_own_table(error, table):
        place, found = await _unmet_reference(connection, table, error), error
    else:
        place, found = await _first_refused(connection, move)
    if found is None or place is None or not _is_same(found, error):
        return from_postgres(error)
    line: int = await connection.fetchval(_LINE, place)
    document: str | None = await connection.fetchval(_ROW, place)
    row: dict[str, Any] = from_json(document) if document else {}
    blame = await find_blame(connection, table, read_row(table, row), found)
    return from_postgres(blame.error, columns=blame.columns, line=line)


def _is_about_rows(error: BaseException) -> bool:
    return (sqlstate(error) or "")[:2] in _ABOUT_ROWS or is_raised(error)


def _tid(place: int) -> str:
    page, offset = divmod(place, _PLACES_OF_A_PAGE)
    return f"({page},{offset})"


async def _first_refused(connection: Connection, move: Move) -> tuple[str | None, BaseException | None]:
    low, high = 0, await connection.fetchval(_PAGES) * _PLACES_OF_A_PAGE
    found: BaseException | None = None
    while low < high:
        middle = max((low + high) // 2, low + 1)
        condition = f"s.ctid >= '{_tid(low)}'::tid AND s.ctid < '{_tid(middle)}'::tid"
        try:
            async with connection.transaction():
                await connection.execute(move(condition))
        except asyncpg.PostgresError as error:
            if not _is_about_rows(error):
                raise
            found = error
            if middle - low == 1:
                return _tid(low), found
            high = middle
        else:
            low = middle
    return None, found


def _is_same(found: BaseException, error: BaseException) -> bool:
    facts = ("sqlstate", "constraint_name", "table_name")
    return all(attribute(found, name) == attribute(error, name) for name in facts)


def _refers_to_own_table(error: BaseException, table: Table) -> bool:
    # Such a row may refer to one of a later line: to move the lines before it says nothing.
    detail = attribute(error, "detail") or ""
    return sqlstate(error) == "23503" and detail.endswith(f'is not present in table "{table.name}".')


async def _unmet_reference(connection: Connection, table: Table, error: BaseException) -> str | None:
    """Return the place of the first line with the key that DETAIL says is missing."""
    names, _, rest = (attribute(error, "detail") or "").removeprefix("Key (").partition(")=(")
    columns = [table.columns.get(name.strip().strip('"')) for name in names.split(",")]
    value = rest.rpartition(") is not present")[0]
    known = [column for column in columns if column is not None]
    if len(known) < len(columns):
        return None
    texts = ", ".join(f"r.{quote(column.name)}::text" for column in known)
    sql = (
        "SELECT s.ctid::text FROM pg_temp.dominus_staging AS s,"
        f" LATERAL json_to_record(s.j) AS r ({record_definition(known)})"
        f" WHERE concat_ws(', ', {texts}) = $1 ORDER BY s.ctid LIMIT 1"
    )
    return await connection.fetchval(sql, value)
