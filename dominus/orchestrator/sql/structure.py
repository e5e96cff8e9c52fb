"""What the tables of a schema are made of, as PostgreSQL says it, and how one is made again.

Everything is written as it reads inside its schema, so that two schemas of the same tables are described alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dominus.orchestrator.sql.tables import quote

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Executor

__all__ = ["Structure", "describe", "index_statement", "inside", "made_again", "parts_of_column"]

Structure = dict[str, Any]
"""Of a table: `table`, `kind`, `columns`, `constraints`, `indexes`."""

# $2 NULL: all tables. A column whose values come from a sequence of its own is described as a serial.
_DESCRIBE = """
SELECT c.relname AS table, c.relkind::text AS kind, (
  SELECT coalesce(json_agg(json_build_object(
    'name', a.attname,
    'type', CASE WHEN s.is_serial THEN replace(replace(format_type(a.atttypid, NULL), 'integer', 'int'), 'int', '')
      || 'serial' ELSE format_type(a.atttypid, a.atttypmod) END,
    'base', CASE y.typtype WHEN 'e' THEN 'text' WHEN 'd' THEN format_type(y.typbasetype, y.typtypmod) END,
    'collation', CASE WHEN a.attcollation NOT IN (0, y.typcollation) THEN (
      SELECT format('%I.%I', n.nspname, l.collname)
      FROM pg_catalog.pg_collation l
      JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
      WHERE l.oid = a.attcollation
    ) END,
    'nullable', NOT a.attnotnull,
    'default', CASE WHEN a.attgenerated = '' AND NOT s.is_serial THEN pg_get_expr(d.adbin, d.adrelid) END,
    'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
    'is_stored', a.attgenerated <> 'v',
    'identity', CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END,
    'is_primary_key', EXISTS (
      SELECT FROM pg_catalog.pg_index i
      WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[])
    )
  ) ORDER BY a.attnum), '[]')
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  CROSS JOIN LATERAL (
    SELECT d.oid IS NOT NULL AND a.attgenerated = '' AND a.atttypid IN (20, 21, 23) AND EXISTS (
      SELECT
      FROM pg_catalog.pg_depend o
      JOIN pg_catalog.pg_class q ON q.oid = o.objid AND q.relkind = 'S'
      JOIN pg_catalog.pg_depend u ON u.classid = 'pg_catalog.pg_attrdef'::regclass AND u.objid = d.oid
        AND u.refclassid = 'pg_catalog.pg_class'::regclass AND u.refobjid = q.oid
      WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.refclassid = 'pg_catalog.pg_class'::regclass
        AND o.refobjid = c.oid AND o.refobjsubid = a.attnum AND o.deptype = 'a'
    ) AS is_serial
  ) s
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
)::text AS columns, (
  SELECT coalesce(json_agg(json_build_object(
    'name', k.conname,
    'type', CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' WHEN 'c' THEN 'CHECK'
      WHEN 'f' THEN 'FOREIGN KEY' ELSE 'EXCLUDE' END,
    'columns', (
      SELECT coalesce(json_agg(a.attname ORDER BY x.place), '[]')
      FROM unnest(k.conkey) WITH ORDINALITY AS x (attnum, place)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.attnum
    ),
    'definition', pg_get_constraintdef(k.oid)
  ) ORDER BY strpos('pucxf', k.contype::text), k.conname), '[]')
  FROM pg_catalog.pg_constraint k
  WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'c', 'f', 'x')
)::text AS constraints, (
  SELECT coalesce(json_agg(json_build_object(
    'name', x.relname,
    'unique', i.indisunique,
    'columns', (
      SELECT coalesce(json_agg(a.attname ORDER BY n.place), '[]')
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS n (attnum, place)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = n.attnum AND n.attnum > 0
    ),
    'definition', substring(pg_get_indexdef(i.indexrelid, 0, true) FROM ' (USING .*)$')
  ) ORDER BY x.relname), '[]')
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  WHERE i.indrelid = c.oid AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = c.oid
  )
)::text AS indexes
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ($2::text IS NULL OR c.relname = $2)
  AND NOT c.relispartition
ORDER BY c.relname
"""
_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}


def inside(schema: str) -> str:
    """Return the statement that makes the names of a schema, and then of `public`, stand for themselves.

    What users write may name their own types and functions; PostgreSQL's own go before them all.
    """
    path = quote(schema) if schema == "public" else f"{quote(schema)}, public"
    return f"SET LOCAL search_path = {path}, pg_temp"


async def describe(connection: Executor, schema: str, table: str | None = None) -> list[Structure]:
    """Return what the tables of a schema are made of. The search path is that of `inside(schema)`."""
    rows = await connection.fetch(_DESCRIBE, schema, table)
    lists = ("columns", "constraints", "indexes")
    return [
        {
            "table": row["table"],
            "kind": _KINDS[row["kind"]],
            **{name: json.loads(row[name]) for name in lists},
        }
        for row in rows
    ]


def parts_of_column(column: Mapping[str, Any]) -> str:
    """Return a column as CREATE TABLE has it, without its constraints."""
    written = f"{quote(column['name'])} {column['type']}"
    if column["collation"] is not None:
        written += f" COLLATE {column['collation']}"
    if column["generated"] is not None:
        written += (
            f" GENERATED ALWAYS AS ({column['generated']}) {'STORED' if column['is_stored'] else 'VIRTUAL'}"
        )
    elif column["identity"] is not None:
        written += f" GENERATED {column['identity']} AS IDENTITY"
    elif column["default"] is not None:
        written += f" DEFAULT {column['default']}"
    return written if column["nullable"] else f"{written} NOT NULL"


def index_statement(place: str, table: str, index: Mapping[str, Any]) -> str:
    """Return what makes an index again. `place` is the quoted schema."""
    unique = "UNIQUE " if index["unique"] else ""
    return f"CREATE {unique}INDEX {quote(index['name'])} ON {place}.{quote(table)} {index['definition']}"


def made_again(place: str, table: Structure) -> list[str]:
    """Return what makes a table again, without its rows. `place` is the quoted schema."""
    name = f"{place}.{quote(table['table'])}"
    parts = [parts_of_column(column) for column in table["columns"]]
    parts += [f"CONSTRAINT {quote(item['name'])} {item['definition']}" for item in table["constraints"]]
    return [
        f"CREATE TABLE {name} ({', '.join(parts)})",
        *(index_statement(place, table["table"], index) for index in table["indexes"]),
    ]
