"""Changes of tables as SQL, both ways: what makes each, and what undoes it.

Names are quoted; types, defaults and constraints are read by the grammar and written anew. What a change takes away is
described by PostgreSQL before (`structure`), so that it can be made again; rows and values are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dominus.contract.ddl import shapes
from dominus.contract.request import Request
from dominus.contract.suggestion import suggestion
from dominus.errors import NotFoundError, ValidationError
from dominus.orchestrator.sql.grammar import (
    ColumnRules,
    check_name,
    default_expression,
    read_constraints,
    read_table_constraint,
    read_type,
)
from dominus.orchestrator.sql.structure import Structure, index_statement, made_again, parts_of_column
from dominus.orchestrator.sql.tables import quote

__all__ = ["PLACE", "TEMPLATE", "Change", "change_of", "in_place", "parse"]

TEMPLATE = "{schema}"
PLACE = quote(TEMPLATE)
"""Where the schema stands in the SQL of a change."""
Before = Sequence[Structure]
"""The tables that a change is about, as they are."""


@dataclass(frozen=True, slots=True)
class Change:
    """Statements with the place holder of the schema."""

    operation: str
    name: str
    """What it is called where nobody gives it a name."""
    up: tuple[str, ...]
    down: tuple[str, ...] | None
    """None: nothing can undo it."""
    types: tuple[str, ...] = field(default=())
    """The types that it names."""
    is_raw: bool = False
    """Whether its SQL is the user's own text."""


def in_place(statement: str, schema: str) -> str:
    """Return a statement for a schema."""
    return statement.replace(PLACE, quote(schema))


def change_of(operation: str, request: Request, before: Before) -> Change:
    """Return the change that a request asks for.

    Args:
        operation: one of the contract's `OperationName`, or `truncate_table`.
        request: its shape.
        before: the table that it changes, or that an index is of.

    Raises:
        ValidationError: a name, type, default or constraint is not understood.
        NotFoundError: what is to be dropped is not there.
    """
    _refuse_place(request)
    return _BUILDERS[operation](request, before)


def parse(operation: str, request: Request) -> None:
    """Read what does not depend on the table, so that what is wrong in itself is refused before anything is asked."""
    if operation in {"create_table", "add_column", "add_constraint", "create_index", "rename_column"}:
        change_of(operation, request, ())
    elif isinstance(request, shapes.AlterColumnShape):
        _altered(request)


def _refuse_place(request: Request) -> None:
    if PLACE in request.model_dump_json().replace('\\"', '"'):
        raise ValidationError(
            f"{PLACE} stands for the schema, and cannot be a part of a text", code="invalid_sql"
        )


def _table(request: shapes.Shape) -> str:
    return f"{PLACE}.{quote(request.table)}"


def _rules(column: shapes.Column) -> ColumnRules:
    what = f"column {column.name!r}"
    rules = ColumnRules(is_primary_key=bool(column.primary_key), is_unique=bool(column.unique))
    for text in column.constraints or ():
        read_constraints(text, f"{what}, constraint", TEMPLATE, rules)
    if column.nullable is False:
        rules.is_nullable = False
    if column.default is not None:
        if rules.default is not None:
            raise ValidationError(f"{what}: there are two defaults", code="invalid_sql")
        rules.default = default_expression(column.default, f"{what}, default")
    return rules


def _create_table(request: shapes.CreateTableShape, _: Before) -> Change:
    table = f"{PLACE}.{check_name(request.table, 'table')}"
    names = [check_name(column.name, "column") for column in request.columns]
    types = [read_type(column.type, f"column {column.name!r}, type") for column in request.columns]
    rules = [_rules(column) for column in request.columns]
    parts = [f"{name} {type_}{rule.clauses()}" for name, type_, rule in zip(names, types, rules, strict=True)]
    keys = [name for name, rule in zip(names, rules, strict=True) if rule.is_primary_key]
    if keys:
        parts.append(f"PRIMARY KEY ({', '.join(keys)})")
    made = f"CREATE TABLE {table} ({', '.join(parts)})"
    return Change(
        "create_table", f"create table {request.table}", (made,), (f"DROP TABLE {table}",), tuple(types)
    )


def _drop_table(request: shapes.DropTableShape, before: Before) -> Change:
    known = before[0] if before and before[0]["kind"] == "table" else None
    down = tuple(made_again(PLACE, known)) if known else None
    return Change("drop_table", f"drop table {request.table}", (f"DROP TABLE {_table(request)}",), down)


def _truncate_table(request: shapes.Shape, _: Before) -> Change:
    # There is nothing of the shape to undo.
    return Change("truncate_table", f"truncate {request.table}", (f"TRUNCATE {_table(request)}",), ())


def _add_column(request: shapes.AddColumnShape, _: Before) -> Change:
    name = check_name(request.column, "column")
    what = f"column {request.column!r}"
    type_ = read_type(request.type, f"{what}, type")
    default = request.default
    rules = ColumnRules(
        is_nullable=request.nullable,
        default=default_expression(default, f"{what}, default") if default is not None else None,
    )
    table = _table(request)
    return Change(
        "add_column",
        f"add {request.table}.{request.column}",
        (f"ALTER TABLE {table} ADD COLUMN {name} {type_}{rules.clauses()}",),
        (f"ALTER TABLE {table} DROP COLUMN {name}",),
        (type_,),
    )


def _drop_column(request: shapes.DropColumnShape, before: Before) -> Change:
    table, name = _table(request), quote(request.column)
    known = _column(before, request.table, request.column)
    down = [f"ALTER TABLE {table} ADD COLUMN {parts_of_column(known)}"]
    # They go with the column, whether they have others besides it or not.
    down += [
        f"ALTER TABLE {table} ADD CONSTRAINT {quote(item['name'])} {item['definition']}"
        for item in before[0]["constraints"]
        if request.column in item["columns"]
    ]
    down += [
        index_statement(PLACE, request.table, index)
        for index in before[0]["indexes"]
        if request.column in index["columns"]
    ]
    up = f"ALTER TABLE {table} DROP COLUMN {name}"
    return Change("drop_column", f"drop {request.table}.{request.column}", (up,), tuple(down))


def _altered(request: shapes.AlterColumnShape) -> tuple[list[str], list[str]]:
    """Return the clauses of the change, and the types that it names."""
    name, what = quote(request.column), f"column {request.column!r}"
    clauses: list[str] = []
    types: list[str] = []
    if request.default is not None and request.default.strip().upper() == "DROP":
        clauses.append(f"ALTER COLUMN {name} DROP DEFAULT")
    if request.type is not None:
        types.append(read_type(request.type, f"{what}, type"))
        clauses.append(f"ALTER COLUMN {name} TYPE {types[0]} USING {name}::{types[0]}")
    if request.default is not None and request.default.strip().upper() != "DROP":
        clauses.append(
            f"ALTER COLUMN {name} SET DEFAULT {default_expression(request.default, f'{what}, default')}"
        )
    if request.nullable is not None:
        clauses.append(f"ALTER COLUMN {name} {'DROP' if request.nullable else 'SET'} NOT NULL")
    if not clauses:
        raise ValidationError("alter_column: nothing is to change", hint="give type, nullable or default")
    return clauses, types


def _alter_column(request: shapes.AlterColumnShape, before: Before) -> Change:
    clauses, types = _altered(request)
    table, name = _table(request), quote(request.column)
    known = _column(before, request.table, request.column)
    down: list[str] = []
    if request.type is not None:
        plain = _PLAIN.get(known["type"], known["type"])
        down.append(f"ALTER COLUMN {name} TYPE {plain} USING {name}::{plain}")
    if request.default is not None and known["type"] not in _PLAIN:
        default = known["default"]
        down.append(f"ALTER COLUMN {name} {f'SET DEFAULT {default}' if default else 'DROP DEFAULT'}")
    if request.nullable is not None:
        down.append(f"ALTER COLUMN {name} {'DROP' if known['nullable'] else 'SET'} NOT NULL")
    # The default that was set goes first: it may not fit the former type.
    down_clauses = [*([f"ALTER COLUMN {name} DROP DEFAULT"] if request.default is not None else []), *down]
    return Change(
        "alter_column",
        f"alter {request.table}.{request.column}",
        tuple(f"ALTER TABLE {table} {clause}" for clause in clauses),
        tuple(f"ALTER TABLE {table} {clause}" for clause in down_clauses),
        tuple(types),
    )


_PLAIN = {"bigserial": "bigint", "serial": "integer", "smallserial": "smallint"}


def _rename_column(request: shapes.RenameColumnShape, _: Before) -> Change:
    table, old, new = _table(request), quote(request.old_name), check_name(request.new_name, "column")
    return Change(
        "rename_column",
        f"rename {request.table}.{request.old_name} to {request.new_name}",
        (f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}",),
        (f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}",),
    )


def _create_index(request: shapes.CreateIndexShape, _: Before) -> Change:
    name, columns = check_name(request.index_name, "index"), ", ".join(map(quote, request.columns))
    unique = "UNIQUE " if request.unique else ""
    return Change(
        "create_index",
        f"create index {request.index_name}",
        (f"CREATE {unique}INDEX {name} ON {_table(request)} ({columns})",),
        (f"DROP INDEX {PLACE}.{name}",),
    )


def _drop_index(request: shapes.DropIndexShape, before: Before) -> Change:
    found = [
        (table["table"], index)
        for table in before
        for index in table["indexes"]
        if index["name"] == request.index_name
    ]
    if not found:
        known = [index["name"] for table in before for index in table["indexes"]]
        raise NotFoundError(
            f"there is no index {request.index_name!r}",
            code="unknown_index",
            details={"index": request.index_name},
            hint=suggestion(request.index_name, known),
        )
    table, index = found[0]
    return Change(
        "drop_index",
        f"drop index {request.index_name}",
        (f"DROP INDEX {PLACE}.{quote(request.index_name)}",),
        (index_statement(PLACE, table, index),),
    )


def _add_constraint(request: shapes.AddConstraintShape, _: Before) -> Change:
    table, name = _table(request), check_name(request.constraint_name, "constraint")
    what = f"constraint {request.constraint_name!r}"
    written = read_table_constraint(request.constraint_type, request.definition, what, TEMPLATE)
    return Change(
        "add_constraint",
        f"add constraint {request.constraint_name}",
        (f"ALTER TABLE {table} ADD CONSTRAINT {name} {written}",),
        (f"ALTER TABLE {table} DROP CONSTRAINT {name}",),
    )


def _drop_constraint(request: shapes.DropConstraintShape, before: Before) -> Change:
    known = {item["name"]: item for table in before for item in table["constraints"]}
    if request.constraint_name not in known:
        raise NotFoundError(
            f"table {request.table!r} has no constraint {request.constraint_name!r}",
            code="unknown_constraint",
            details={"table": request.table, "constraint": request.constraint_name},
            hint=suggestion(request.constraint_name, known),
        )
    table, name = _table(request), quote(request.constraint_name)
    return Change(
        "drop_constraint",
        f"drop constraint {request.constraint_name}",
        (f"ALTER TABLE {table} DROP CONSTRAINT {name}",),
        (f"ALTER TABLE {table} ADD CONSTRAINT {name} {known[request.constraint_name]['definition']}",),
    )


def _column(before: Before, table: str, name: str) -> Mapping[str, Any]:
    known = {column["name"]: column for column in before[0]["columns"]} if before else {}
    if name not in known:
        raise ValidationError(
            f"table {table!r} has no column {name!r}",
            code="unknown_column",
            details={"table": table, "column": name},
            hint=suggestion(name, known),
        )
    return known[name]


_BUILDERS: Mapping[str, Callable[[Any, Before], Change]] = {
    "create_table": _create_table,
    "drop_table": _drop_table,
    "truncate_table": _truncate_table,
    "add_column": _add_column,
    "drop_column": _drop_column,
    "alter_column": _alter_column,
    "rename_column": _rename_column,
    "create_index": _create_index,
    "drop_index": _drop_index,
    "add_constraint": _add_constraint,
    "drop_constraint": _drop_constraint,
}
