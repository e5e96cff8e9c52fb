"""Which column a refusal is about: PostgreSQL names some, of the others it is asked again, each value by itself.

Only after a failure: what succeeds pays nothing. The text of a message is no guide, since two columns may have
been given the same value.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from dominus.errors import DominusError
from dominus.orchestrator.engines.postgres.errors import FAILURES, attribute, from_postgres, sqlstate
from dominus.orchestrator.sql.tables import Table, quote

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Pool
    from dominus.orchestrator.sql.statements import Statement

__all__ = ["Blame", "explained", "find_blame", "read_row"]

logger = logging.getLogger("dominus.orchestrator.sql.blame")

_CHECKED = """
SELECT array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
WHERE c.conname = $1 AND c.conrelid = $2::int8::oid
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """How PostgreSQL reads a value for a column: an expression of its placeholder, for nothing but its errors."""

    column: str
    before: str
    value: Any
    after: str


@dataclass(frozen=True, slots=True)
class Blame:
    """What a failure is about. `error` is PostgreSQL's about just that value, where it was asked again."""

    error: BaseException
    columns: Sequence[str] = ()


def read_row(table: Table, row: Mapping[str, Any]) -> list[Reading]:
    """Return how the values of a row are read."""
    found: list[Reading] = []
    for name, value in row.items():
        column = table.columns.get(name)
        if column is not None:
            document = to_json({name: value}).decode()
            after = f"::text::json) AS g ({quote(name)} {column.type}))"
            found.append(
                Reading(name, f"(SELECT g.{quote(name)} IS NULL FROM json_to_record(", document, after)
            )
    return found


def _read_terms(statement: Statement) -> list[Reading]:
    return [Reading(name, "(", value, f"::{type_}) IS NULL") for name, value, type_ in statement.terms]


async def explained(pool: Pool, table: Table, statement: Statement, error: BaseException) -> DominusError:
    """Return (not raise) the typed error for a failed statement, its column named where it is about one."""
    if sqlstate(error) is None or not _is_about_values(error):
        return from_postgres(error)
    readings = [*_read_terms(statement), *read_row(table, statement.row)]
    try:
        async with pool.acquire() as connection:
            blame = await find_blame(connection, table, readings, error)
    except (DominusError, *FAILURES) as lost:
        logger.info("no second look at a refused statement: %s", type(lost).__name__)
        return from_postgres(error)
    return from_postgres(blame.error, columns=blame.columns)


def _is_about_values(error: BaseException) -> bool:
    return (sqlstate(error) or "")[:2] in {"22", "23", "44"} and attribute(error, "column_name") is None


async def find_blame(
    connection: Connection, table: Table, readings: Sequence[Reading], error: BaseException
) -> Blame:
    """Ask PostgreSQL which of the values it refuses; none of them when the failure has another cause."""
    state = sqlstate(error)
    constraint = attribute(error, "constraint_name")
    if state == "23514" and constraint and attribute(error, "table_name"):
        return Blame(error, await connection.fetchval(_CHECKED, constraint, table.oid) or ())
    if not _is_about_values(error) or state in {"23505", "23503", "23001", "23P01"}:
        return Blame(error)
    refused = await _refusal(connection, readings)
    if refused is None:
        return Blame(error)
    # Halves of a list: a table may have 1,600 columns.
    while len(readings) > 1:
        half = readings[: len(readings) // 2]
        first = await _refusal(connection, half)
        readings, refused = (half, first) if first is not None else (readings[len(half) :], refused)
    return Blame(refused, [readings[0].column])


async def _refusal(connection: Connection, readings: Sequence[Reading]) -> BaseException | None:
    parts = [f"{one.before}${number}{one.after}" for number, one in enumerate(readings, 1)]
    try:
        async with connection.transaction():
            await connection.fetchval(
                f"SELECT ARRAY[{', '.join(parts)}]::bool[]", *(one.value for one in readings)
            )
    except FAILURES as error:
        if (sqlstate(error) or "")[:2] not in {"22", "23"}:
            raise
        return error
    return None
