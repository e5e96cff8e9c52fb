"""How large an answer becomes is known while its rows are read, before any JSON of them is built.

A running sum of the rows' sizes stands beside each row, and rows past the bound are not written. The size of a text is
read without the text: a value that PostgreSQL keeps compressed in a table of its own stays there. The memory of the
server process then depends on the bound and on one row, not on how much was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dominus.orchestrator.engines.postgres.errors import attribute, sqlstate
from dominus.orchestrator.sql.tables import Column, Table, quote

__all__ = ["BOUNDED", "MAX_ANSWER_BYTES", "Measured", "is_too_large", "measured", "row_or_refusal"]

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Of rows in one answer; the client reads no more either."""
BOUNDED = (
    f"CASE WHEN (q.size > {MAX_ANSWER_BYTES}) IS NOT TRUE AND octet_length(q.j) <= {MAX_ANSWER_BYTES}"
    " THEN convert_to(q.j, 'UTF8') END"
)
"""NULL when the rows (`q.j`, of `q.size` bytes) are too many bytes, which then stay in PostgreSQL."""

_TEXTS = frozenset({"text", "character varying", "bpchar"})
_SHORT_CATEGORIES = frozenset("BDEIT")
"""Booleans, dates and times, enums, network addresses, intervals: none is written in more than 64 bytes."""
_SHORT = frozenset({"smallint", "integer", "bigint", "real", "double precision", "uuid", "oid", "money"})
_SHORT_BYTES = 64
_REFUSAL = "dominus: the row is larger than an answer"


@dataclass(frozen=True, slots=True)
class Measured:
    """Parts of a SELECT over rows: `r` is a row of the answer, `w` the row it was made of."""

    source: str
    """For FROM."""
    rows: str
    """The JSON of the rows up to the bound."""
    size: str
    """The bytes of all of them."""


def measured(table: Table, names: Sequence[str] | None, rows: str, extra: str | None = None) -> Measured:
    """Return how to write rows as JSON up to the bound.

    Args:
        table: whose rows they are.
        names: of the columns of the answer; all without it.
        rows: a SELECT of these columns, as the table's select list has them.
        extra: a text column that it has besides.
    """
    columns = [table.column(name) for name in dict.fromkeys(names or table.columns)]
    size = "size"
    while size in table.columns or size == extra:
        size += "_"
    bytes_of_row = _bytes(columns, "p")
    if extra is not None:
        bytes_of_row += f" + octet_length(p.{extra})"
    answer = ", ".join(f"w.{quote(column.name)}" for column in columns)
    source = (
        f"(SELECT p.*, sum({bytes_of_row}) OVER (ROWS UNBOUNDED PRECEDING) AS {size} FROM ({rows}) AS p) AS w,"
        f" LATERAL (SELECT {answer}) AS r"
    )
    written = f"json_agg(row_to_json(r.*)) FILTER (WHERE w.{size} <= {MAX_ANSWER_BYTES})"
    return Measured(source, f"coalesce(({written})::text, '[]')", f"max(w.{size})")


def row_or_refusal(table: Table, alias: str) -> str:
    """Return the expression of a row's JSON, which fails where it is too large: what was written is taken back."""
    # Not an error that the planner meets: concat is no constant to it.
    return (
        f"CASE WHEN {_bytes(list(table.columns.values()), alias)} <= {MAX_ANSWER_BYTES}"
        f" THEN row_to_json({alias}.*)::text ELSE concat('{_REFUSAL}')::int8::text END"
    )


def is_too_large(error: BaseException) -> bool:
    """Return whether a statement failed since `row_or_refusal` refused."""
    return sqlstate(error) == "22P02" and f'"{_REFUSAL}"' in (attribute(error, "message") or "")


def _bytes(columns: Sequence[Column], alias: str) -> str:
    known, parts = 2, list[str]()
    for column in columns:
        known += len(column.name.encode()) + 4
        ref = f"{alias}.{quote(column.name)}"
        if column.cast in _TEXTS or (column.kind == "numeric" and not column.is_array):
            parts.append(f"coalesce(octet_length({ref}), 4)")
        elif column.cast == "bytea":
            parts.append(f"coalesce(octet_length({ref}), 2) * 2::int8")
        elif column.cast in _SHORT or column.category in _SHORT_CATEGORIES:
            known += _SHORT_BYTES
        else:
            parts.append(f"coalesce(octet_length({ref}::text), 4)")
    return " + ".join([f"{known}::int8", *parts])
