"""A walk over a table in key order: each page starts after the last key of the one before.

The key is `by` and then the primary key, or the primary key alone. It must be unique (else rows that
share a key would be lost between two pages) and never NULL (a row comparison with NULL is unknown):
a column that may be NULL serves as `by` when the filters rule NULL out. A page costs what its rows cost,
however far into the table it lies, as long as an index has the key's columns in that order.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

from dominus.contract.db import PageRequest
from dominus.errors import ValidationError
from dominus.orchestrator.sql.answer_size import BOUNDED, measured
from dominus.orchestrator.sql.filters import condition
from dominus.orchestrator.sql.parameters import Parameters
from dominus.orchestrator.sql.statements import Statement, free_name, touched_rows
from dominus.orchestrator.sql.tables import Column, Table

__all__ = ["cursor_after", "page"]

# A comparison with NULL is never true, so these leave no NULL behind.
_RULES_OUT_NULL = frozenset({"gt", "gte", "lt", "lte", "between", "like", "ilike", "contains"})


def _key(table: Table, request: PageRequest) -> list[Column]:
    named = list(dict.fromkeys(request.by or ()))
    columns = [table.column(name) for name in [*named, *(n for n in table.primary_key if n not in named)]]
    names = {column.name for column in columns}
    if not any(names.issuperset(key) for key in table.unique_keys):
        why = (
            "has no primary key" if not request.by else f"may hold several rows with equal {', '.join(named)}"
        )
        raise ValidationError(
            f"table {table.label!r} {why}",
            code="no_key",
            hint="by= takes the columns of a unique constraint; for views use query with limit and offset",
        )
    for column in columns:
        if column.is_nullable and not _is_null_ruled_out(column.name, request.filters):
            raise ValidationError(
                f"column {column.name!r} may be NULL, which has no place in a key",
                code="nullable_key",
                details={"table": table.label, "column": column.name},
                hint=f'add the filter {{"{column.name}": {{"is_null": false}}}}, or declare it NOT NULL',
            )
    return columns


def _is_null_ruled_out(name: str, filters: dict[str, Any] | None) -> bool:
    said = (filters or {}).get(name)
    if not isinstance(said, dict):
        return False
    operators = cast("dict[str, Any]", said)
    return operators.get("is_null") is False or not _RULES_OUT_NULL.isdisjoint(operators)


def _digest(table: Table, key: Sequence[Column], request: PageRequest) -> str:
    walk = [table.schema, table.name, request.descending, [[column.name, column.cast] for column in key]]
    return hashlib.blake2s(json.dumps(walk).encode(), digest_size=6).hexdigest()


def cursor_after(digest: str, last_key: str) -> str:
    """Write the cursor that follows a row: `last_key` is the JSON list of its key's texts."""
    return base64.urlsafe_b64encode(f'["{digest}",{last_key}]'.encode()).rstrip(b"=").decode()


def _position(cursor: str, digest: str, key: Sequence[Column]) -> list[str]:
    try:
        said: Any = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise ValidationError("the cursor is not one that a page gave", code="invalid_cursor") from None
    match said:
        case [str(walk), [*texts]] if walk == digest and len(texts) == len(key):
            if all(isinstance(text, str) for text in texts):
                return cast("list[str]", texts)
        case _:
            pass
    raise ValidationError(
        "the cursor belongs to another walk",
        code="invalid_cursor",
        hint="table, by and descending must be those of the page that gave the cursor",
    )


def _after(key: Sequence[Column], places: Sequence[str], sign: str) -> str:
    if not any(column.operators for column in key):
        return f"({', '.join(column.ref for column in key)}) {sign} ({', '.join(places)})"
    # A comparison of rows takes all its operators from one schema: here they are of several, and it is written out.
    choices: list[str] = []
    for last, column in enumerate(key):
        same = [f"{key[at].ref} {key[at].sign('=')} {places[at]}" for at in range(last)]
        choices.append(" AND ".join([*same, f"{column.ref} {column.sign(sign)} {places[last]}"]))
    return f"(({') OR ('.join(choices)}))"


def page(table: Table, request: PageRequest) -> tuple[Statement, str]:
    """Return the statement for (JSON rows, count, JSON of the last row's key), and the walk's digest."""
    key = _key(table, request)
    digest = _digest(table, key, request)
    parameters = Parameters()
    parts = [condition(table, request.filters, parameters)] if request.filters else []
    if request.cursor is not None:
        texts = _position(request.cursor, digest, key)
        places = [parameters.bind(column, text) for column, text in zip(key, texts, strict=True)]
        parts.append(_after(key, places, "<" if request.descending else ">"))
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    direction = " DESC" if request.descending else ""
    order = ", ".join(f"{column.ref}{direction}" for column in key)
    selected, types = table.select_list(request.columns)
    place = "k"
    while place in table.columns:
        place += "k"
    texts_of_key = ", ".join(f"{column.ref}::text" for column in key)
    limit = f"{parameters.add(request.page_size)}::int8"
    rows = (
        f"SELECT {selected}, json_build_array({texts_of_key})::text AS {place}"
        f" FROM {table.sql} AS t{where} ORDER BY {order} LIMIT {limit}"
    )
    key_json = free_name(table, "touched")
    if table.is_secure:
        rows = rows.replace("SELECT ", f"SELECT {table.touched('t')}::text AS {key_json}, ", 1)
    answer = measured(table, request.columns, rows, place)
    found, listed = touched_rows(f"w.{key_json}") if table.is_secure else ("", "")
    sql = (
        f"SELECT {BOUNDED}, q.row_count, q.last_key{listed} FROM ("
        f"SELECT {answer.rows} AS j, {answer.size} AS size, count(*) AS row_count,"
        f" (array_agg(w.{place}))[count(*)] AS last_key{found} FROM {answer.source}) AS q"
    )
    return Statement(sql, parameters.values, types, parameters.terms, table.is_inert), digest
