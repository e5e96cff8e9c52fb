"""Requests -> the one statement that answers each: pure, text that is equal for requests of equal shape.

What is read never becomes Python objects: PostgreSQL writes the JSON of an answer. The row of an insert or update was
one, since the whole request was; it is written as JSON again, which PostgreSQL reads as the columns' types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import to_json

from dominus.contract.db import DeleteRequest, InsertRequest, QueryRequest, UpdateRequest
from dominus.errors import ValidationError
from dominus.orchestrator.sql.answer_size import BOUNDED, measured, row_or_refusal
from dominus.orchestrator.sql.filters import condition
from dominus.orchestrator.sql.outcomes import outcome_expression
from dominus.orchestrator.sql.parameters import Parameters, Term, as_text, cast_of
from dominus.orchestrator.sql.tables import Column, Table, quote

__all__ = [
    "MAX_TOUCHED",
    "MAX_TOUCHED_BYTES",
    "Statement",
    "clipped",
    "delete",
    "free_name",
    "insert",
    "query",
    "touched_rows",
    "update",
]

MAX_KEPT_STATEMENTS = 256
MAX_TOUCHED = 10_000
"""So many rows of one access are named in the audit trail: those of the largest page."""
MAX_TOUCHED_BYTES = 256 * 1024
_NESTED: frozenset[object] = frozenset({dict, list})

Key = tuple[bytes, str] | None
"""Slot and fingerprint, when the outcome is to be remembered."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and its arguments."""

    sql: str
    args: list[Any]
    types: bytes | None = None
    """The answer's column hints."""
    terms: Sequence[Term] = ()
    is_inert: bool = False
    """Whether nothing that users made runs with it."""
    row: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What `args` has as one document."""


def order_by(table: Table, request: QueryRequest) -> str:
    """Return the ORDER BY clause; it ends with the primary key: pages neither overlap nor leave gaps."""
    names = [request.sort_by] if isinstance(request.sort_by, str) else request.sort_by or []
    orders = [request.sort_order] if isinstance(request.sort_order, str) else request.sort_order
    if len(orders) == 1:
        orders = orders * max(len(names), 1)
    if not orders or (names and len(orders) != len(names)):
        raise ValidationError(
            f"sort_order has {len(orders)} entries, sort_by has {len(names)}", code="invalid_sort"
        )
    directions = [_direction(order) for order in orders]
    parts = [f"{table.column(name).ref} {directions[place]}" for place, name in enumerate(names)]
    last = directions[-1]
    parts.extend(f"{table.column(name).ref} {last}" for name in table.primary_key if name not in names)
    return " ORDER BY " + ", ".join(parts) if parts else ""


def _direction(order: str) -> str:
    direction = order.upper()
    if direction not in {"ASC", "DESC"}:
        raise ValidationError(
            f"sort_order is {order[:50]!r}, it must be 'asc' or 'desc'", code="invalid_sort"
        )
    return direction


def query(table: Table, request: QueryRequest) -> Statement:
    """Return the statement for (JSON of the rows, total); its text is kept for plain filters, the common case."""
    shape = _shape(request)
    known = table.statements.get(shape) if shape else None
    if known is None:
        statement = _build_query(table, request)
        if shape and len(table.statements) < MAX_KEPT_STATEMENTS:
            table.statements[shape] = (statement.sql, statement.types)
        return statement
    terms = [
        (name, as_text(column := table.columns[name], value), cast_of(column, value))
        for name, value in (request.filters or {}).items()
        if value is not None
    ]
    args = [*(text for _, text, _ in terms), request.limit, request.offset]
    return Statement(known[0], args, known[1], terms, table.is_inert)


def _shape(request: QueryRequest) -> tuple[Any, ...] | None:
    """Return what decides a query's text, None where values decide it too: lists, operators, groups."""
    kinds: tuple[tuple[str, object], ...] = tuple(
        (name, cast("object", type(value))) for name, value in (request.filters or {}).items()
    )
    if any(kind in _NESTED for _, kind in kinds):
        return None
    return (
        kinds,
        _frozen(request.sort_by),
        _frozen(request.sort_order),
        _frozen(request.columns),
        request.count,
    )


def _frozen(names: str | list[str] | None) -> str | tuple[str, ...] | None:
    return tuple(names) if isinstance(names, list) else names


def _build_query(table: Table, request: QueryRequest) -> Statement:
    # The count is an uncorrelated subquery: PostgreSQL runs it only when the page does not tell the total.
    parameters = Parameters()
    where = condition(table, request.filters, parameters)
    source = f"{table.sql} AS t{f' WHERE {where}' if where else ''}"
    limit = f"{parameters.add(request.limit)}::int8"
    offset = f"{parameters.add(request.offset)}::int8"
    selected, types = table.select_list(request.columns)
    rows = f"SELECT {selected} FROM {source}{order_by(table, request)} LIMIT {limit} OFFSET {offset}"
    key = free_name(table, "touched") if table.is_secure else None
    if key is not None:
        rows = rows.replace("SELECT ", f"SELECT {table.touched('t')}::text AS {key}, ", 1)
    answer = measured(table, request.columns, rows, key)
    if request.count:
        total = (
            f"CASE WHEN count(*) < {limit} AND (count(*) > 0 OR {offset} = 0) THEN {offset} + count(*)"
            f" ELSE (SELECT count(*) FROM {source}) END"
        )
    else:
        total = "NULL::int8"
    found, listed = touched_rows(f"w.{key}") if key is not None else ("", "")
    sql = (
        f"SELECT {BOUNDED}, q.total{listed} FROM (SELECT {answer.rows} AS j, {answer.size} AS size, {total} AS total"
        f"{found} FROM {answer.source}) AS q"
    )
    return Statement(sql, parameters.values, types, parameters.terms, table.is_inert)


def touched_rows(key: str) -> tuple[str, str]:
    """Return what a select over a page of a secure table has besides, and what the select over that has."""
    return (
        f", count(*) AS touched_count, json_agg({key}::json) FILTER (WHERE {key} IS NOT NULL) AS touched",
        f", q.touched_count, {clipped('q.touched')}",
    )


def clipped(listed: str) -> str:
    """Return the SQL of a JSON list of keys as text, the first of it where it is too long for an entry of the trail."""
    return (
        f"CASE WHEN octet_length({listed}::text) > {MAX_TOUCHED_BYTES} THEN ("
        "SELECT coalesce(json_agg(c.k ORDER BY c.n), '[]') FROM ("
        "SELECT e.k, e.n, sum(octet_length(e.k::text) + 2) OVER (ORDER BY e.n) AS size"
        f" FROM json_array_elements({listed}) WITH ORDINALITY AS e (k, n)"
        f") AS c WHERE c.size < {MAX_TOUCHED_BYTES})::text ELSE {listed}::text END"
    )


def free_name(table: Table, name: str) -> str:
    """Return a name that no column of the table has."""
    while name in table.columns:
        name += "_"
    return name


def record_definition(columns: Sequence[Column]) -> str:
    """Return the column definitions under which json_to_record reads a row.

    Only the given columns stand in it: a domain that takes no NULL would refuse the absent ones.
    """
    return ", ".join(f"{quote(column.name)} {column.type}" for column in columns)


def _document(data: dict[str, Any]) -> str:
    try:
        return to_json(data).decode()
    except ValueError as error:
        raise ValidationError(f"data: {error}", code="invalid_text") from error


def _remembering(key: Key, types: bytes | None, parameters: Parameters) -> str:
    """Return the part of a select list that stores the outcome `answer.j` (see outcomes.py)."""
    if key is None:
        return ""
    slots = ", ".join(parameters.add(value) for value in key)
    head = parameters.add(types.decode() if types else "")
    return f", dominus_api.remember({slots}, {outcome_expression(head, 'answer.j')})"


def insert(table: Table, request: InsertRequest, key: Key) -> Statement:
    """Return the statement for (JSON of the stored row), or no row while a conflicting one is invisible."""
    parameters = Parameters()
    selected, types = table.select_list()
    columns = [table.column(name) for name in request.data]
    target = f"INSERT INTO {table.sql} AS t"
    if not columns:
        if request.on_conflict:
            raise ValidationError(
                "on_conflict needs the columns of the conflict in the row", code="invalid_conflict"
            )
        ctes = [f"written AS ({target} DEFAULT VALUES RETURNING {selected})"]
        found = f"SELECT {row_or_refusal(table, 'w')} AS j{_touched_one(table, 'w')} FROM written AS w"
    else:
        names = ", ".join(quote(column.name) for column in columns)
        document = parameters.add(_document(request.data))
        conflict = _conflict(table, request)
        given = f"SELECT * FROM json_to_record({document}::text::json) AS g ({record_definition(columns)})"
        source = f"SELECT {names} FROM given{_on_conflict(request, conflict)}"
        ctes = [f"given AS ({given})", f"written AS ({target} ({names}) {source} RETURNING {selected})"]
        found = f"SELECT {row_or_refusal(table, 'w')} AS j{_touched_one(table, 'w')} FROM written AS w"
        if request.on_conflict == "ignore":
            same = " AND ".join(
                f"t.{quote(name)} {table.column(name).sign('=')} given.{quote(name)}" for name in conflict
            )
            again = f"{row_or_refusal(table, 'e')}{_touched_one(table, 'e')}"
            found += (
                f" UNION ALL SELECT {again} FROM (SELECT {selected} FROM {table.sql} AS t"
                f" JOIN given ON {same}) AS e WHERE NOT EXISTS (SELECT FROM written)"
            )
    ctes.append(f"answer AS MATERIALIZED ({found})")
    stored = _remembering(key, types, parameters)
    touched = ", 1::int8, '[' || answer.touched || ']'" if table.is_secure else ""
    sql = f"WITH {', '.join(ctes)} SELECT convert_to(answer.j, 'UTF8'){stored}{touched} FROM answer"
    return Statement(sql, parameters.values, types, is_inert=table.is_inert_to_writes, row=request.data)


def _touched_one(table: Table, alias: str) -> str:
    return f", {table.touched(alias)}::text AS touched" if table.is_secure else ""


def _conflict(table: Table, request: InsertRequest) -> Sequence[str]:
    if request.on_conflict is None:
        if request.conflict_columns:
            raise ValidationError(
                "conflict_columns is of no use without on_conflict", code="invalid_conflict"
            )
        return ()
    names = request.conflict_columns or table.primary_key
    if not names:
        raise ValidationError(
            f"table {table.label!r} has no primary key: name conflict_columns", code="invalid_conflict"
        )
    for name in names:
        table.column(name)
        if name not in request.data:
            raise ValidationError(
                f"on_conflict looks at {', '.join(names)}, and the row has no {name!r}",
                code="invalid_conflict",
                hint="conflict_columns names the columns of another unique constraint",
            )
    return list(dict.fromkeys(names))


def _on_conflict(request: InsertRequest, conflict: Sequence[str]) -> str:
    if request.on_conflict is None:
        return ""
    target = f" ON CONFLICT ({', '.join(quote(name) for name in conflict)}) DO "
    if request.on_conflict == "ignore":
        return target + "NOTHING"
    # Nothing else to set: the row is set to itself, so that it is returned.
    changed = [name for name in request.data if name not in conflict] or conflict[:1]
    return target + "UPDATE SET " + ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in changed)


def _chosen(table: Table, request: UpdateRequest | DeleteRequest, parameters: Parameters, verb: str) -> str:
    """Return the condition of a write; none at all only when the caller says so."""
    if request.filters and request.all_rows:
        raise ValidationError("filters and all_rows=True contradict each other", code="all_rows")
    if not request.filters and not request.all_rows:
        raise ValidationError(
            f"{verb} without filters would change every row of {table.label!r}",
            code="all_rows",
            hint="pass filters, or all_rows=True to mean it",
        )
    return condition(table, request.filters, parameters)


def _counted(table: Table, written: str, key: Key, parameters: Parameters) -> str:
    stored = _remembering(key, None, parameters)
    count = """'{"affected_rows":' || count(*) || '}' AS j"""
    if not table.is_secure:
        return (
            f"WITH written AS ({written} RETURNING 1), answer AS MATERIALIZED (SELECT {count} FROM written)"
            f" SELECT convert_to(answer.j, 'UTF8'){stored} FROM answer"
        )
    listed = f"json_agg(w.k) FILTER (WHERE w.place <= {MAX_TOUCHED} AND w.k IS NOT NULL)"
    return (
        f"WITH written AS ({written} RETURNING {table.touched('t')} AS k), answer AS MATERIALIZED ("
        f"SELECT {count}, count(*) AS touched_count, {listed} AS touched"
        " FROM (SELECT k, row_number() OVER () AS place FROM written) AS w)"
        f" SELECT convert_to(answer.j, 'UTF8'){stored}, answer.touched_count, {clipped('answer.touched')} FROM answer"
    )


def update(table: Table, request: UpdateRequest, key: Key) -> Statement:
    """Return the statement for (JSON of the count)."""
    parameters = Parameters()
    where = _chosen(table, request, parameters, "update")
    columns = [table.column(name) for name in request.data]
    values = ", ".join(f"{quote(column.name)} = g.{quote(column.name)}" for column in columns)
    written = (
        f"UPDATE {table.sql} AS t SET {values}"
        f" FROM json_to_record({parameters.add(_document(request.data))}::text::json)"
        f" AS g ({record_definition(columns)}){f' WHERE {where}' if where else ''}"
    )
    sql = _counted(table, written, key, parameters)
    return Statement(
        sql,
        parameters.values,
        None,
        parameters.terms,
        is_inert=table.is_inert_to_writes,
        row=request.data,
    )


def delete(table: Table, request: DeleteRequest, key: Key) -> Statement:
    """Return the statement for (JSON of the count)."""
    parameters = Parameters()
    where = _chosen(table, request, parameters, "delete")
    written = f"DELETE FROM {table.sql} AS t{f' WHERE {where}' if where else ''}"
    sql = _counted(table, written, key, parameters)
    return Statement(sql, parameters.values, None, parameters.terms, is_inert=table.is_inert_to_writes)
