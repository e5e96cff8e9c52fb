"""How schemas differ: every table, column, constraint and index that is not the same in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dominus.orchestrator.sql.structure import Structure

__all__ = ["differences"]

_PARTS = {"columns": "column", "constraints": "constraint", "indexes": "index"}


def differences(schemas: Mapping[str, Sequence[Structure]]) -> list[dict[str, Any]]:
    """Return what is not the same in all schemas, by table, kind and name, with its definition in each.

    A definition is None where there is none. The order of columns does not count.
    """
    found: list[dict[str, Any]] = []
    by_name = {schema: {table["table"]: table for table in tables} for schema, tables in schemas.items()}
    for name in sorted({name for tables in by_name.values() for name in tables}):
        tables = {schema: known.get(name) for schema, known in by_name.items()}
        kinds = {schema: table["kind"] if table else None for schema, table in tables.items()}
        if len(set(kinds.values())) > 1:
            found.append({"table": name, "kind": "table", "name": name, "definitions": kinds})
        # Of a table that is missing the parts are missing, too: that goes without saying.
        there = {schema: table for schema, table in tables.items() if table is not None}
        for parts, kind in _PARTS.items():
            found += _parts(name, kind, {schema: _named(table[parts]) for schema, table in there.items()})
    return found


def _named(parts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {part["name"]: {key: value for key, value in part.items() if key != "name"} for part in parts}


def _parts(table: str, kind: str, parts: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in sorted({name for known in parts.values() for name in known}):
        definitions = {schema: known.get(name) for schema, known in parts.items()}
        first = next(iter(definitions.values()))
        if any(definition != first for definition in definitions.values()):
            found.append({"table": table, "kind": kind, "name": name, "definitions": definitions})
    return found
