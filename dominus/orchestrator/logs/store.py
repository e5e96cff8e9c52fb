"""Lines to rows, and rows to lines: storing, finding, following."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import to_json

from dominus.contract import logs as contract
from dominus.errors import ValidationError
from dominus.orchestrator.logs.days import first_id, moment_of

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["ADD", "Row", "Select", "add", "find", "follow", "row_of", "start_of_tail"]

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of the texts of all lines of one answer."""
NUL = "\x00"
NO_TEXT = "\ufffd"
"""What stands for a NUL, which PostgreSQL cannot keep."""

ADD = """
INSERT INTO dominus.logs
  (project, environment, principal, id, logged_at, level, category, message, context, file, function, line)
SELECT $1, $2, $3, l.*
FROM unnest(
  $4::uuid[], $5::timestamptz[], $6::smallint[], $7::text[], $8::text[], $9::jsonb[], $10::text[], $11::text[],
  $12::integer[]
) AS l
ON CONFLICT DO NOTHING
RETURNING id
"""
# What is too much together is not even read: sizes are known without it.
_FIND = """
WITH found AS MATERIALIZED (
  SELECT id, logged_at, level, category, message, context, file, function, line,
         octet_length(message) + coalesce(pg_column_size(context), 0) AS size
  FROM dominus.logs
  WHERE {conditions}
  ORDER BY id {order}
  LIMIT {limit}
), sized AS (
  SELECT *, sum(size) OVER (ORDER BY id {order}) AS total
  FROM found
)
SELECT
  convert_to(coalesce(json_agg(json_build_object(
    'id', id,
    'time', logged_at,
    'level', ($1::text[])[level + 1],
    'message', message,
    'category', category,
    'context', context,
    'file', file,
    'function', function,
    'line', line
  ) ORDER BY id {order}) FILTER (WHERE total <= {most}), '[]')::text, 'UTF8') AS logs,
  count(*) AS count,
  coalesce(bool_and(total <= {most}), true) AS fits,
  {last} AS last,
  pg_current_snapshot()::text AS snapshot
FROM sized
"""
_TEXT = """(
  to_tsvector('pg_catalog.simple', message)
  || jsonb_to_tsvector('pg_catalog.simple', coalesce(context, '{}'), '["string", "numeric"]')
) @@ websearch_to_tsquery('pg_catalog.simple', ?)"""
_SNAPSHOT = r"\d{1,20}:\d{1,20}:[\d,]{0,16000}"
_CURSOR = re.compile(rf"({_SNAPSHOT})(?:\|({_SNAPSHOT})\|([0-9a-f-]{{36}}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """A line as it is stored."""

    id: uuid.UUID
    level: int
    category: str
    message: str
    context: dict[str, Any] | None
    file: str | None
    function: str | None
    line: int | None

    @property
    def logged_at(self) -> dt.datetime:
        """When it was written."""
        return moment_of(self.id)


def row_of(line: contract.Line, level: str, line_id: uuid.UUID, context: dict[str, Any] | None) -> Row:
    """Return the row of a line that was sent.

    Raises:
        ValidationError: its context is too large.
    """
    if context is not None:
        size = len(_json(context))
        if size > contract.MAX_CONTEXT_BYTES:
            raise ValidationError(
                f"context: has {size:,} bytes of JSON, a line has at most {contract.MAX_CONTEXT_BYTES:,}"
            )
    return Row(
        id=line_id,
        level=contract.LEVELS.index(level),
        category=line.category or contract.DEFAULT_CATEGORY,
        message=_text(line.message) or "",
        context=_storable(context),
        file=_text(line.file),
        function=_text(line.function),
        line=line.line,
    )


def _json(context: dict[str, Any]) -> bytes:
    # 1e999 is read as infinity, for which jsonb has no number.
    return to_json(context, inf_nan_mode="strings")


def _text(text: str | None) -> str | None:
    return text.replace(NUL, NO_TEXT) if text is not None and NUL in text else text


def _storable(value: Any) -> Any:
    """Return a JSON value without NULs, which jsonb cannot hold."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {_text(key): _storable(item) for key, item in items}
    if isinstance(value, list):
        return [_storable(item) for item in cast("list[Any]", value)]
    return value


async def add(connection: Connection, owner: Sequence[str], rows: Sequence[Row]) -> list[uuid.UUID]:
    """Store rows, each id once; return the ids of those that were not there yet.

    Args:
        connection: one of the system's.
        owner: project, environment and principal.
        rows: with ids of days that have a partition.
    """
    columns: list[list[Any]] = [
        [row.id for row in rows],
        [row.logged_at for row in rows],
        [row.level for row in rows],
        [row.category for row in rows],
        [row.message for row in rows],
        [None if row.context is None else _json(row.context).decode() for row in rows],
        [row.file for row in rows],
        [row.function for row in rows],
        [row.line for row in rows],
    ]
    return [record["id"] for record in await connection.fetch(ADD, *owner, *columns)]


@dataclass(slots=True)
class Select:
    """A SELECT over lines, made of the conditions that were asked for; values are parameters."""

    conditions: list[str] = field(default_factory=list[str])
    values: list[Any] = field(default_factory=lambda: [list(contract.LEVELS)])

    @classmethod
    def of(cls, place: tuple[str, str], wanted: contract.LinesWanted) -> Select:
        """Return the conditions that a query and a tail share."""
        made = cls()
        made.where("project = ?", place[0])
        made.where("environment = ?", place[1])
        if wanted.level is not None:
            made.where("level = ?", contract.LEVELS.index(wanted.level))
        if wanted.min_level is not None:
            made.where("level >= ?", contract.LEVELS.index(wanted.min_level))
        if wanted.category is not None:
            made.where("category = ?", wanted.category)
        for name, part in (("file", wanted.file), ("function", wanted.function)):
            if part:
                made.where(f"strpos(lower({name}), lower(?::text)) > 0", _text(part))
        if wanted.search:
            made.where(_TEXT, _text(wanted.search))
        return made

    def where(self, condition: str, value: Any) -> None:
        """Add a condition; `?` stands for its value."""
        self.values.append(value)
        self.conditions.append(condition.replace("?", f"${len(self.values)}"))

    def between(self, start: dt.datetime | None, end: dt.datetime | None) -> None:
        """Keep lines of a time; the ids say which partitions have any."""
        if start is not None:
            self.where("id >= ?", first_id(start))
            self.where("logged_at >= ?", start)
        if end is not None:
            self.where("id <= ?", uuid.UUID(int=first_id(end).int | (1 << 80) - 1))
            self.where("logged_at < ?", end)

    def text(self, order: str, limit: int, *, last: str = "NULL::uuid") -> str:
        """Return the statement."""
        return _FIND.format(
            conditions="\n    AND ".join(self.conditions),
            order=order,
            limit=int(limit),
            most=MAX_ANSWER_BYTES,
            last=last,
        )


async def find(
    connection: Connection, place: tuple[str, str], request: contract.QueryRequest, seconds: float
) -> bytes:
    """Return the JSON of the newest lines that a query wants, the newest first."""
    select = Select.of(place, request)
    select.between(request.start_time, request.end_time)
    found = await _run(connection, select, select.text("DESC", request.limit), seconds)
    return found["logs"]


async def start_of_tail(connection: Connection) -> str:
    """Return the cursor of now."""
    return await connection.fetchval("SELECT pg_current_snapshot()::text")


async def follow(
    connection: Connection, place: tuple[str, str], request: contract.TailRequest, seconds: float
) -> tuple[bytes, int, str]:
    """Return the JSON of the lines that became visible after a cursor, how many they are, and the next cursor.

    Transactions end in another order than they begin: what is new is told by two snapshots, not by a number. A page
    that is full ends within the lines between two snapshots, and its cursor names both.
    """
    seen, until, last = _parse(request.cursor or "")
    select = Select.of(place, request)
    select.where("arrived >= pg_snapshot_xmin(?::text::pg_snapshot)::text::bigint", seen)
    select.conditions.append(
        f"NOT pg_visible_in_snapshot(arrived::text::xid8, ${len(select.values)}::text::pg_snapshot)"
    )
    if until is not None:
        select.where("pg_visible_in_snapshot(arrived::text::xid8, ?::text::pg_snapshot)", until)
        select.where("id > ?", last)
    statement = select.text("ASC", request.limit, last="(SELECT max(id::text) FROM sized)::uuid")
    found = await _run(connection, select, statement, seconds)
    until = until or found["snapshot"]
    is_full = found["count"] == request.limit
    cursor = f"{seen}|{until}|{found['last']}" if is_full else until
    return found["logs"], found["count"], cursor


def _parse(cursor: str) -> tuple[str, str | None, uuid.UUID | None]:
    found = _CURSOR.fullmatch(cursor)
    try:
        if found is not None:
            seen, until, last = found.groups()
            return seen, until, None if last is None else uuid.UUID(last)
    except ValueError:
        found = None
    raise ValidationError("cursor: it is none that a tail returned")


async def _run(connection: Connection, select: Select, statement: str, seconds: float) -> Record:
    found = cast("Record", await connection.fetchrow(statement, *select.values, timeout=seconds))
    if not found["fits"]:
        raise ValidationError(
            f"the lines are more than {MAX_ANSWER_BYTES >> 20} MiB together",
            code="answer_too_large",
            hint="ask for fewer at once",
        )
    return found
