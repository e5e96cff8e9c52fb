"""The recorded migrations of a schema: listed, applied, rolled back, compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dominus.contract import ddl as contract
from dominus.errors import ConflictError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once
from dominus.orchestrator.services.ddl.change import SEE_OURS, Changing, Step, changing
from dominus.orchestrator.services.ddl.records import (
    fetched,
    find_category,
    found_migration,
    listed,
    migration_of,
    migrations_of_category,
    migrations_of_schema,
    time_of,
    with_sql,
)
from dominus.orchestrator.services.ddl.tables import answer, handlers
from dominus.orchestrator.services.ddl.tenants import status_of
from dominus.orchestrator.sql.differences import differences
from dominus.orchestrator.sql.structure import Structure, describe, inside

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Record

__all__ = ["current_of", "require_schema"]

_HISTORY = """
SELECT m.version, m.name, m.operation, s.is_up, s.author, s.settled_at
FROM dominus.ddl_steps s
JOIN dominus.ddl_migrations m ON m.id = s.migration_id
WHERE m.project = $1 AND m.environment = $2 AND s.schema = $3 AND s.settled IS NOT NULL
ORDER BY s.settled
"""


async def require_schema(ctx: Context, schema: str) -> None:
    """Raise NotFoundError when there is no such schema, or it is another project's tenant's."""
    catalog = await ctx.resources.catalog.listening()
    await catalog.require_schema(schema, place=ctx.principal.place)


def _last(migrations: Sequence[Record]) -> Record | None:
    applied = [row for row in migrations if row["is_applied"]]
    return max(applied, key=lambda row: row["settled"], default=None)


def current_of(schema: str, migrations: Sequence[Record]) -> contract.SchemaVersion:
    """Return which migration was applied last."""
    last = _last(migrations)
    return {
        "schema": schema,
        "version": last["version"] if last else None,
        "name": last["name"] if last else None,
        "applied_at": time_of(last["settled_at"]) if last else None,
        "migration_count": sum(row["is_applied"] for row in migrations),
    }


def _as_migration(known: dict[str, Any]) -> contract.Migration:
    return cast("contract.Migration", known)


@handlers(contract.LIST_MIGRATIONS)
async def list_migrations(ctx: Context, request: contract.OfSchema) -> list[contract.Migration]:
    """List what is recorded for a schema."""
    await require_schema(ctx, request.schema_)
    return [_as_migration(listed(row)) for row in await migrations_of_schema(ctx, request.schema_)]


@handlers(contract.GET_CURRENT_VERSION)
async def get_current_version(ctx: Context, request: contract.OfSchema) -> contract.SchemaVersion:
    """Say what was applied last."""
    await require_schema(ctx, request.schema_)
    return current_of(request.schema_, await migrations_of_schema(ctx, request.schema_))


@handlers(contract.GET_MIGRATION_FILE)
async def get_migration_file(ctx: Context, request: contract.SchemaMigration) -> contract.MigrationFile:
    """Read a migration with its SQL."""
    await require_schema(ctx, request.schema_)
    rows = await migrations_of_schema(ctx, request.schema_)
    row = found_migration(rows, request.version, f"the schema {request.schema_!r}")
    return cast("contract.MigrationFile", {"schema": request.schema_, **await migration_of(ctx, row)})


@handlers(contract.MIGRATION_HISTORY)
async def migration_history(ctx: Context, request: contract.OfSchema) -> contract.SchemaHistory:
    """List every step of a schema."""
    await require_schema(ctx, request.schema_)
    steps = [
        {
            "version": row["version"],
            "name": row["name"],
            "operation": row["operation"],
            "direction": "up" if row["is_up"] else "down",
            "author": row["author"],
            "at": time_of(row["settled_at"]),
        }
        for row in await fetched(ctx, _HISTORY, request.schema_)
    ]
    current = current_of(request.schema_, await migrations_of_schema(ctx, request.schema_))
    return {
        "schema": request.schema_,
        "current_version": current["version"],
        "migrations": cast("Any", steps),
        "total": len(steps),
    }


async def _stepping(ctx: Context, schema: str, version: str, *, is_up: bool) -> RawJson:
    async with changing(ctx, schema) as change:
        assert change is not None  # noqa: S101 - it waits
        rows = await migrations_of_schema(ctx, schema)
        row = found_migration(rows, version, f"the schema {schema!r}")
        (_check_up if is_up else _check_down)(row, rows)
        await change.go([Step(its, is_up=is_up) for its in await with_sql(ctx, [row])])
        return await _ran(ctx, change, row, rows, is_up=is_up)


def _check_up(row: Record, rows: Sequence[Record]) -> None:
    if row["is_applied"]:
        raise ConflictError(
            f"the migration {row['version']} is applied already",
            code="migration_applied",
            details={"version": row["version"]},
        )
    before = [
        other["version"]
        for other in rows
        if row["category_id"] is not None
        and other["category_id"] is not None
        and other["version"] < row["version"]
        and not other["is_applied"]
    ]
    if before:
        raise ConflictError(
            f"the schema lacks earlier migrations of its category: {', '.join(before[:5])}",
            code="earlier_migrations",
            details={"versions": before},
            hint="apply those first, or bring it up to date: sync_tenants_to_latest",
        )


def _check_down(row: Record, rows: Sequence[Record]) -> None:
    version = row["version"]
    if not row["is_applied"]:
        raise ConflictError(
            f"the migration {version} is not applied",
            code="migration_not_applied",
            details={"version": version},
        )
    later = sorted(
        (other for other in rows if other["is_applied"] and other["settled"] > row["settled"]),
        key=lambda other: other["settled"],
        reverse=True,
    )
    if later:
        versions = [other["version"] for other in later]
        raise ConflictError(
            f"other migrations were applied after {version}: {', '.join(versions[:5])}",
            code="later_migrations",
            details={"versions": versions},
            hint="roll back those first, the last one first",
        )
    if not row["is_reversible"]:
        raise ConflictError(
            f"the migration {version} cannot be rolled back: {row['operation']} has no SQL for it",
            code="irreversible_migration",
            details={"version": version},
        )


async def _ran(
    ctx: Context, change: Changing, row: Record, rows: Sequence[Record], *, is_up: bool
) -> RawJson:
    others = [other for other in rows if other["id"] != row["id"]]
    before = _last(others)
    said: dict[str, Any] = {
        "schema": change.schema,
        "version": row["version"],
        "migration_id": str(row["id"]),
        "applied" if is_up else "rolled_back": True,
        "current_version": row["version"] if is_up else before["version"] if before else None,
    }
    return await answer(ctx, change, said)


@handlers(contract.APPLY_MIGRATION)
async def apply_migration(ctx: Context, request: contract.ApplyMigration) -> RawJson:
    """Apply what was rolled back, or what a tenant does not have of its category."""
    return await exactly_once(ctx, partial(_stepping, ctx, request.schema_, request.migration_id, is_up=True))


@handlers(contract.ROLLBACK_MIGRATION)
async def rollback_migration(ctx: Context, request: contract.RollbackMigration) -> RawJson:
    """Undo what was applied last."""
    return await exactly_once(ctx, partial(_stepping, ctx, request.schema_, request.version, is_up=False))


@handlers(contract.COMPARE_VERSIONS)
async def compare_versions(ctx: Context, request: contract.Schemas) -> contract.Comparison:
    """Compare schemas, name by name."""
    versions: dict[str, contract.SchemaVersion] = {}
    for schema in dict.fromkeys(request.schemas):
        await require_schema(ctx, schema)
        versions[schema] = current_of(schema, await migrations_of_schema(ctx, schema))
    tables: dict[str, list[Structure]] = {}
    try:
        async with (
            ctx.resources.data_share.of(ctx.principal.subject),
            ctx.resources.postgres.data.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            for schema in versions:
                await connection.execute(inside(schema))
                tables[schema] = await describe(connection, schema)
            await connection.execute(SEE_OURS)
    except FAILURES as error:
        raise from_postgres(error) from error
    found = differences(tables)
    return {"schemas": versions, "identical": not found, "differences": cast("Any", found)}


async def _of_category(ctx: Context, slug: str) -> tuple[Record, list[Record]]:
    category = await find_category(ctx, slug)
    return category, await migrations_of_category(ctx, category["id"])


@handlers(contract.LIST_CATEGORY_MIGRATIONS)
async def list_category_migrations(ctx: Context, request: contract.OfCategory) -> contract.MigrationList:
    """List the migrations of a category."""
    category, rows = await _of_category(ctx, request.category_slug)
    return {
        "category_slug": category["slug"],
        "migrations": [_as_migration(listed(row)) for row in rows],
        "current_version": rows[-1]["version"] if rows else None,
        "total": len(rows),
    }


@handlers(contract.GET_CATEGORY_MIGRATION_FILE)
async def get_category_migration_file(
    ctx: Context, request: contract.CategoryMigration
) -> contract.MigrationFile:
    """Read a migration of a category with its SQL."""
    category, rows = await _of_category(ctx, request.category_slug)
    row = found_migration(rows, request.version, f"the category {category['slug']!r}")
    return cast("contract.MigrationFile", {"category_slug": category["slug"], **await migration_of(ctx, row)})


@handlers(contract.CATEGORY_SYNC_STATUS)
async def category_sync_status(ctx: Context, request: contract.OfCategory) -> contract.SyncStatus:
    """Say how far each tenant of a category is."""
    return await status_of(ctx, await find_category(ctx, request.category_slug))


@handlers(contract.LIST_PUBLIC_MIGRATIONS)
async def list_public_migrations(ctx: Context, request: Any) -> contract.MigrationList:
    """List the migrations of `public`."""
    _ = request
    rows = await migrations_of_schema(ctx, "public")
    return {
        "schema": "public",
        "migrations": [_as_migration(listed(row)) for row in rows],
        "current_version": current_of("public", rows)["version"],
        "total": len(rows),
    }
