"""The SQL of an entity and of a link. Names come from the contract's table alone; values are parameters."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import uuid
from typing import Any

from pydantic_core import from_json, to_json

from dominus.contract.guardian import ENTITIES, LINKS
from dominus.contract.guardian.records import Column, Entity, Link
from dominus.contract.request import Request
from dominus.errors import ValidationError

__all__ = ["EntityStatements", "LinkStatements", "Query"]

Query = tuple[str, list[Any]]
"""SQL, and what follows project and environment among its parameters."""
_PLACE = "project = $1 AND environment = $2"
MAX_USES = 100
"""So many of those who use a record are named."""
_TYPES = {"created_at": "timestamptz", "updated_at": "timestamptz", "sort_order": "integer"}
"""Of the columns that lists are sorted by; the others are text."""


class EntityStatements:
    """The statements of one entity. `$1` and `$2` are project and environment, `$3` is the id."""

    def __init__(self, entity: Entity[Any]) -> None:
        self._entity = entity
        self._table = f"dominus.{entity.plural}"
        self._shown = ", ".join(entity.row.__annotations__)
        self._new = [name for name, column in entity.columns.items() if column.in_create]
        self._changing = [name for name, column in entity.columns.items() if column.in_update]
        one = f"WHERE {_PLACE} AND id = $3"
        self.get = f"SELECT {self._shown} FROM {self._table} {one}"
        self.lock = f"SELECT {entity.order} FROM {self._table} {one} FOR UPDATE"
        self.references = [
            (
                name,
                column.references,
                f"SELECT id FROM dominus.{column.references.plural} {one} FOR KEY SHARE",
            )
            for name, column in entity.columns.items()
            if column.references is not None
        ]
        self.delete = f"DELETE FROM {self._table} {one}"
        names = ", ".join(["project", "environment", *self._new])
        values = ", ".join(f"${index}" for index in range(1, len(self._new) + 3))
        self._insert = f"INSERT INTO {self._table} ({names}) VALUES ({values}) RETURNING {self._shown}"
        sets = [
            f"{name} = {_changed(name, entity.columns[name], index)}"
            for index, name in enumerate(self._changing, 4)
        ]
        changes = ", ".join([*sets, "updated_at = now()"])
        self._update = f"UPDATE {self._table} SET {changes} {one} RETURNING {self._shown}"

        self.uses = _uses(entity)
        # Links go with their record, by their foreign keys; columns that name it are emptied.
        self.release = [
            f"UPDATE dominus.{other.plural} SET {name} = NULL, updated_at = now() WHERE {_PLACE} AND {name} = $3"
            for other, name in _references(entity)
        ]

    def insert(self, request: Request) -> Query:
        """Make a record and return it."""
        return self._insert, [getattr(request, name) for name in self._new]

    def update(self, request: Request) -> Query:
        """Change what is named, and return the record."""
        changes = [getattr(request, name) for name in self._changing]
        return self._update, [getattr(request, self._entity.id_field), *changes]

    def list(self, request: Any) -> tuple[Query, Query]:
        """Return the queries of a page, with a record beyond it where there is one, and of the count of all pages."""
        where, values = [_PLACE], list[Any]()
        for name in self._entity.filters:
            if getattr(request, name) is not None:
                values.append(getattr(request, name))
                where.append(f"{name} = ${len(values) + 2}")
        for name, table in self._entity.link_filters.items():
            if getattr(request, name) is not None:
                values.append(getattr(request, name))
                mine = f"SELECT {self._entity.id_field} FROM dominus.{table} WHERE {_PLACE}"
                where.append(f"id IN ({mine} AND {name} = ${len(values) + 2})")
        count = f"SELECT count(*) FROM {self._table} WHERE {' AND '.join(where)}", list(values)
        column, is_descending = self._sorted_by(request)
        if request.cursor is not None:
            name, record_id = _position(request.cursor, column, is_descending=is_descending)
            values += [name, record_id]
            place = f"(${len(values) + 1}::text::{_TYPES.get(column, 'text')}, ${len(values) + 2})"
            where.append(f"({column}, id) {'<' if is_descending else '>'} {place}")
        values += [request.limit + 1, request.offset]
        way = " DESC" if is_descending else ""
        page = (
            f"SELECT {self._shown} FROM {self._table} WHERE {' AND '.join(where)}"
            f" ORDER BY {column}{way}, id{way} LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}"
        )
        return (page, values), count

    def cursor_after(self, record: dict[str, Any], request: Any) -> str:
        """Write the cursor that follows a record in the order of a list."""
        column, is_descending = self._sorted_by(request)
        key = to_json([str(record[column]), record["id"], *_way(column, is_descending=is_descending)])
        return base64.urlsafe_b64encode(key).rstrip(b"=").decode()

    def _sorted_by(self, request: Any) -> tuple[str, bool]:
        """Return the column that a list is sorted by, and whether the last comes first. Both come from the table."""
        sorting = self._entity.sorting
        if sorting is None:
            return self._entity.order, False
        column = sorting.columns[0] if request.order_by is None else request.order_by
        return column, sorting.is_descending if request.order_desc is None else request.order_desc


def _changed(name: str, column: Column, index: int) -> str:
    """Write the new value of a column: None leaves it."""
    if column.is_clearable:
        return (
            f"CASE WHEN ${index} = '' THEN NULL ELSE coalesce(nullif(${index}::text, '')::uuid, {name}) END"
        )
    return f"coalesce(${index}, {name})"


def _way(column: str, *, is_descending: bool) -> list[str]:
    return [f"-{column}" if is_descending else column]


def _references(entity: Entity[Any]) -> list[tuple[Entity[Any], str]]:
    """Return the columns that name records of an entity."""
    return [
        (calls.entity, name)
        for calls in ENTITIES
        for name, column in calls.entity.columns.items()
        if column.references is entity
    ]


def _uses(entity: Entity[Any]) -> str | None:
    """Write the query for (kind, id, name) of those who use a record."""
    queries = [
        f"SELECT '{other.name}' AS kind, id::text AS id, {other.order} AS name"
        f" FROM dominus.{other.plural} WHERE {_PLACE} AND {column} = $3"
        for other, column in _references(entity)
    ]
    for calls in LINKS:
        link, owner = calls.link, calls.link.owner
        if link.target is entity:
            queries.append(
                f"SELECT '{owner.name}' AS kind, o.id::text AS id, o.{owner.order} AS name"
                f" FROM dominus.{link.table} AS l JOIN dominus.{owner.plural} AS o"
                f" ON (o.project, o.environment, o.id) = (l.project, l.environment, l.{owner.id_field})"
                f" WHERE l.project = $1 AND l.environment = $2 AND l.{entity.id_field} = $3"
            )
    return f"{' UNION '.join(queries)} ORDER BY 1, 3, 2 LIMIT {MAX_USES}" if queries else None


def _position(cursor: str, column: str, *, is_descending: bool) -> tuple[str, str]:
    try:
        said: Any = from_json(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        name, record_id, *way = said
        _check_way(way, _way(column, is_descending=is_descending))
        return _sortable(column, _text(name)), str(uuid.UUID(_text(record_id)))
    except (binascii.Error, ValueError, TypeError):
        raise ValidationError("the cursor is not one that a page gave", code="invalid_cursor") from None


def _check_way(said: list[Any], wanted: list[str]) -> None:
    """Refuse the cursor of another order: it would begin anywhere."""
    if said != wanted:
        raise ValueError


def _sortable(column: str, text: str) -> str:
    """Refuse what is none of the column's values."""
    kind = _TYPES.get(column)
    if kind == "integer":
        return str(int(text))
    return dt.datetime.fromisoformat(text).isoformat() if kind == "timestamptz" else text


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    return value


class LinkStatements:
    """The statements of one link. `$3` is the owner's id, `$4` are the linked ids."""

    def __init__(self, link: Link[Any]) -> None:
        owner, target = link.owner, link.target
        table, mine, theirs = f"dominus.{link.table}", owner.id_field, target.id_field
        shown = ", ".join(f"t.{name}" for name in target.row.__annotations__)
        self.owner = f"SELECT id FROM dominus.{owner.plural} WHERE {_PLACE} AND id = $3"
        # Changes of one owner's links take turns, and it is not deleted meanwhile.
        self.lock_owner = f"{self.owner} FOR NO KEY UPDATE"
        these = f"{_PLACE} AND id = ANY($3::uuid[])"
        self.known = f"SELECT id::text FROM dominus.{target.plural} WHERE {these} FOR KEY SHARE"
        self.list = (
            f"SELECT {shown} FROM {table} AS l JOIN dominus.{target.plural} AS t"
            f" ON (t.project, t.environment, t.id) = (l.project, l.environment, l.{theirs})"
            f" WHERE l.project = $1 AND l.environment = $2 AND l.{mine} = $3 ORDER BY t.{target.order}, t.id"
        )
        self.add = (
            f"INSERT INTO {table} (project, environment, {mine}, {theirs})"
            " SELECT $1, $2, $3::uuid, unnest($4::uuid[]) ON CONFLICT DO NOTHING"
        )
        self.remove = f"DELETE FROM {table} WHERE {_PLACE} AND {mine} = $3 AND {theirs} = ANY($4::uuid[])"
        self.keep = f"DELETE FROM {table} WHERE {_PLACE} AND {mine} = $3 AND {theirs} <> ALL($4::uuid[])"
