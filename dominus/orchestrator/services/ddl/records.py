"""What is known of schemas, categories and migrations: rows of ours, of the caller's project and environment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from dominus.contract.suggestion import suggestion
from dominus.errors import NotFoundError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Executor, Record

__all__ = [
    "checksum",
    "content",
    "fetched",
    "find_category",
    "found_migration",
    "listed",
    "migration_of",
    "migrations_of_category",
    "migrations_of_schema",
    "place_of",
    "time_of",
    "with_sql",
]

# What is listed comes without its SQL, which may be a thousand times as long.
_KNOWN = """
  m.id, m.category_id, m.version, m.name, m.operation, m.checksum, m.author, m.created_at, m.deleted_at,
  m.down IS NOT NULL AS is_reversible"""
_SQL = """
SELECT m.id, m.version, m.name, m.operation, m.up, m.down
FROM dominus.ddl_migrations m
WHERE m.project = $1 AND m.environment = $2 AND m.id = ANY ($3::uuid[])
ORDER BY array_position($3::uuid[], m.id)
"""
# The last step of each in the schema says whether it is applied. What a category no longer has is shown where it is
# still applied.
_OF_SCHEMA = f"""
WITH its AS (
  SELECT t.category_id
  FROM dominus.ddl_schemas d
  JOIN dominus.tenants t ON (t.project, t.environment, t.id) = (d.project, d.environment, d.tenant_id)
  WHERE d.name = $3 AND d.project = $1 AND d.environment = $2
)
SELECT {_KNOWN}, s.is_up IS TRUE AS is_applied, s.settled, s.settled_at
FROM dominus.ddl_migrations m
LEFT JOIN LATERAL (
  SELECT s.is_up, s.settled, s.settled_at
  FROM dominus.ddl_steps s
  WHERE s.schema = $3 AND s.migration_id = m.id AND s.settled IS NOT NULL
  ORDER BY s.settled DESC
  LIMIT 1
) s ON true
WHERE m.project = $1 AND m.environment = $2 AND m.ticket IS NULL
  AND (m.schema = $3 OR m.category_id = (SELECT category_id FROM its))
  AND (m.deleted_at IS NULL OR s.is_up)
ORDER BY m.version
"""
_OF_CATEGORY = f"""
SELECT {_KNOWN}, NULL AS is_applied, NULL AS settled_at
FROM dominus.ddl_migrations m
WHERE m.project = $1 AND m.environment = $2 AND m.category_id = $3 AND ($4 OR m.deleted_at IS NULL)
ORDER BY m.version
"""
_CATEGORY = """
SELECT id, slug, name
FROM dominus.tenant_categories
WHERE project = $1 AND environment = $2 AND slug = $3
"""
_CATEGORY_SLUGS = """
SELECT slug
FROM dominus.tenant_categories
WHERE project = $1 AND environment = $2
ORDER BY slug
LIMIT 1000
"""


def place_of(ctx: Context) -> tuple[str, str]:
    """Return the first two parameters of a statement."""
    return ctx.principal.project, ctx.principal.environment


async def fetched(ctx: Context, sql: str, *values: Any) -> list[Record]:
    """Return the rows of a query; project and environment are its first parameters."""
    try:
        return await ctx.resources.postgres.system.fetch(sql, *place_of(ctx), *values)
    except FAILURES as error:
        raise from_postgres(error) from error


async def find_category(ctx: Context, slug: str, connection: Executor | None = None) -> Record:
    """Return a category: `id`, `slug`, `name`.

    Raises:
        NotFoundError: code `unknown_category`.
    """
    executor = connection or ctx.resources.postgres.system
    try:
        found = await executor.fetch(_CATEGORY, *place_of(ctx), slug)
        if found:
            return found[0]
        known = [row["slug"] for row in await executor.fetch(_CATEGORY_SLUGS, *place_of(ctx))]
    except FAILURES as error:
        raise from_postgres(error) from error
    raise NotFoundError(
        f"there is no category {slug!r}",
        code="unknown_category",
        details={"category_slug": slug},
        hint=suggestion(slug, known)
        if known
        else f"make it: dominus.auth.tenant_categories.create({slug.title()!r}, {slug!r})",
    )


async def migrations_of_schema(ctx: Context, schema: str) -> list[Record]:
    """Return what is recorded for a schema, of a tenant its category's too, by versions, with `is_applied`."""
    return await fetched(ctx, _OF_SCHEMA, schema)


async def migrations_of_category(
    ctx: Context, category_id: Any, *, with_deleted: bool = False
) -> list[Record]:
    """Return the migrations of a category, in the order of versions."""
    return await fetched(ctx, _OF_CATEGORY, category_id, with_deleted)


async def with_sql(ctx: Context, migrations: Sequence[Record]) -> list[Record]:
    """Return the SQL of migrations, `up` and `down`, in their order."""
    return await fetched(ctx, _SQL, [row["id"] for row in migrations]) if migrations else []


def found_migration(migrations: Sequence[Record], version: str, where: str) -> Record:
    """Return the migration of a version or id.

    Raises:
        NotFoundError: code `unknown_migration`.
    """
    for row in migrations:
        if version in {row["version"], str(row["id"])}:
            return row
    known = [row["version"] for row in migrations]
    raise NotFoundError(
        f"{where} has no migration {version!r}",
        code="unknown_migration",
        details={"version": version},
        hint=f"the last is {known[-1]!r}" if known else None,
    )


def time_of(value: Any) -> str | None:
    """Return a time as callers read it."""
    return value.isoformat() if value is not None else None


def listed(row: Record) -> dict[str, Any]:
    """Return a migration as it is listed."""
    known: dict[str, Any] = {
        "id": str(row["id"]),
        "version": row["version"],
        "name": row["name"],
        "operation": row["operation"],
        "checksum": row["checksum"],
        "author": row["author"],
        "created_at": time_of(row["created_at"]),
        "is_reversible": row["is_reversible"],
        "source": "schema" if row["category_id"] is None else "category",
    }
    if row["is_applied"] is not None:
        known |= {
            "is_applied": row["is_applied"],
            "applied_at": time_of(row["settled_at"]) if row["is_applied"] else None,
        }
    return known


async def migration_of(ctx: Context, row: Record) -> dict[str, Any]:
    """Return a migration with its SQL."""
    found = await with_sql(ctx, [row])
    if not found:
        # It was deleted between the two looks.
        raise NotFoundError(
            f"there is no migration {row['version']!r}",
            code="unknown_migration",
            details={"version": row["version"]},
        )
    up, down = found[0]["up"], found[0]["down"]
    return {
        **listed(row),
        "content": content(up, down),
        "up": list(up),
        "down": list(down) if down is not None else None,
    }


def content(up: Sequence[str], down: Sequence[str] | None) -> str:
    """Return the SQL of both ways as one text."""
    lines = ["-- up", *(f"{statement};" for statement in up), "", "-- down"]
    lines += ["-- it cannot be rolled back"] if down is None else [f"{statement};" for statement in down]
    return "\n".join(lines) + "\n"


def checksum(up: Sequence[str], down: Sequence[str] | None) -> str:
    """Return the digest under which a migration is recorded."""
    return hashlib.sha256(to_json([list(up), None if down is None else list(down)])).hexdigest()
