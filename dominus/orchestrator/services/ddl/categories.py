"""Changes of a category: recorded once, and applied to its tenants."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json

from dominus.contract import ddl as contract
from dominus.contract.request import Request
from dominus.errors import ConflictError, ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, written
from dominus.orchestrator.services.ddl.change import changing
from dominus.orchestrator.services.ddl.records import (
    checksum,
    content,
    fetched,
    find_category,
    found_migration,
    listed,
    migration_of,
    migrations_of_category,
    place_of,
)
from dominus.orchestrator.services.ddl.tables import answer, handlers, in_its_turn
from dominus.orchestrator.services.ddl.template import template
from dominus.orchestrator.services.ddl.tenants import provisioned, status_of, sync
from dominus.orchestrator.sql.changes import Change, change_of, in_place, parse

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["lock_category"]

_TRIES = 5
# Changes of one category take turns.
_LOCK = """
SELECT id
FROM dominus.tenant_categories
WHERE project = $1 AND environment = $2 AND id = $3
FOR NO KEY UPDATE
"""
_IDS = """
SELECT coalesce(array_agg(id ORDER BY version), '{}')
FROM dominus.ddl_migrations
WHERE project = $1 AND environment = $2 AND category_id = $3 AND deleted_at IS NULL
"""
_RECORD = """
INSERT INTO dominus.ddl_migrations
  (project, environment, category_id, version, name, operation, up, down, checksum, author)
VALUES ($1, $2, $3, to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS'), $4, $5, $6, $7, $8, $9)
RETURNING id, version
"""
_DELETE = """
UPDATE dominus.ddl_migrations
SET deleted_at = now()
WHERE project = $1 AND environment = $2 AND id = $3
"""
_TENANT_COUNT = """
SELECT count(*)
FROM dominus.tenants
WHERE project = $1 AND environment = $2 AND category_id = $3
"""


async def lock_category(ctx: Context, connection: Connection, category: Record) -> list[Any]:
    """Hold off other changes of a category until the end of the transaction; return the ids of its migrations."""
    await connection.execute("SET LOCAL lock_timeout = '5s'")
    await connection.execute(_LOCK, *place_of(ctx), category["id"])
    return list(await connection.fetchval(_IDS, *place_of(ctx), category["id"]))


async def _recorded(
    ctx: Context, category: Record, operation: contract.OperationName, request: Request, name: str | None
) -> dict[str, Any]:
    """Try a change on the category's schema and record it, exactly once; return its id and version."""

    async def record() -> RawJson:
        for _ in range(_TRIES):
            migrations = await migrations_of_category(ctx, category["id"])
            async with template(ctx, category, migrations) as made:
                change = await made.plan(operation, request)
            known = [row["id"] for row in migrations]
            if (done := await _written(ctx, category, known, change, name)) is not None:
                return done
        raise ServiceError(
            "others are changing this category all the time",
            code="database_busy",
            status_code=503,
            retry_after=1.0,
        )

    return cast("dict[str, Any]", from_json(await exactly_once(ctx, record)))


class _Changed(Exception):  # noqa: N818 - no error: the change is tried again
    pass


async def _written(
    ctx: Context, category: Record, known: list[Any], change: Change, name: str | None
) -> RawJson | None:
    """Record a change that was tried after these migrations; None: there are others by now."""

    async def record(connection: Connection) -> dict[str, Any]:
        if await lock_category(ctx, connection, category) != known:
            raise _Changed
        up, down = list(change.up), None if change.down is None else list(change.down)
        values = (category["id"], name or change.name, change.operation, up, down, checksum(up, down))
        row = await connection.fetchrow(_RECORD, *place_of(ctx), *values, ctx.principal.subject)
        assert row is not None  # noqa: S101 - RETURNING
        return {"migration_id": str(row["id"]), "migration_version": row["version"]}

    try:
        return await written(ctx, record)
    except _Changed:
        return None


async def _change(
    ctx: Context, request: Any, operation: contract.OperationName, shape: Request, name: str | None = None
) -> dict[str, Any]:
    """Record a change and bring the tenants up to date; what the time does not hold is left for a sync."""
    category = await find_category(ctx, request.category_slug)
    recorded = await _recorded(ctx, category, operation, shape, name)
    synced = await sync(ctx, category)
    applied = [one.get("schema", "") for one in synced["results"] if one.get("status") == "synced"]
    counts = {
        key: synced[key] for key in ("success", "synced_count", "failed_count", "pending_count", "results")
    }
    return {
        "category_slug": category["slug"],
        **recorded,
        "tenant_count": synced["total_tenants"],
        "applied_schemas": applied,
        **counts,
    }


async def _of_public(ctx: Context, operation: contract.OperationName, shape: Any, slug: str) -> RawJson:
    """Make a change in `public`."""
    await find_category(ctx, slug)
    parse(operation, shape)

    async def make() -> RawJson:
        async with changing(ctx, "public") as change:
            assert change is not None  # noqa: S101 - it waits
            if operation != "create_table":
                await change.catalog.read("public", shape.table, change.connection)
            before = await change.describe(shape.table)
            version = await change.apply(change_of(operation, shape, before))
            said = {
                "success": True,
                "category_slug": slug,
                "target": "public",
                "table": shape.table,
                "migration_version": version,
                "applied_schemas": ["public"],
            }
            return await answer(ctx, change, said)

    return await exactly_once(ctx, partial(in_its_turn, make))


async def _targeted(
    ctx: Context, request: Any, operation: contract.OperationName
) -> RawJson | contract.CategoryChanged:
    shape = contract.SHAPES[operation](
        **request.model_dump(by_alias=True, exclude={"category_slug", "target"}, exclude_none=True)
    )
    if request.target == "public":
        return await _of_public(ctx, operation, shape, request.category_slug)
    changed = await _change(ctx, request, operation, shape)
    return cast("contract.CategoryChanged", {**changed, "target": "category", "table": request.table})


@handlers(contract.CATEGORY_CREATE_TABLE)
async def category_create_table(
    ctx: Context, request: contract.CategoryCreateTable
) -> RawJson | contract.CategoryChanged:
    """Create a table for all tenants."""
    return await _targeted(ctx, request, "create_table")


@handlers(contract.CATEGORY_ADD_COLUMN)
async def category_add_column(
    ctx: Context, request: contract.CategoryAddColumn
) -> RawJson | contract.CategoryChanged:
    """Add a column for all tenants."""
    return await _targeted(ctx, request, "add_column")


@handlers(contract.CATEGORY_DROP_TABLE)
async def category_drop_table(
    ctx: Context, request: contract.CategoryDropTable
) -> RawJson | contract.CategoryChanged:
    """Drop a table of all tenants."""
    return await _targeted(ctx, request, "drop_table")


@handlers(contract.CATEGORY_DROP_COLUMN)
async def category_drop_column(
    ctx: Context, request: contract.CategoryDropColumn
) -> RawJson | contract.CategoryChanged:
    """Drop a column of all tenants."""
    return await _targeted(ctx, request, "drop_column")


@handlers(contract.CATEGORY_CREATE_INDEX)
async def category_create_index(
    ctx: Context, request: contract.CategoryCreateIndex
) -> RawJson | contract.CategoryChanged:
    """Create an index for all tenants."""
    return await _targeted(ctx, request, "create_index")


@handlers(contract.GET_CATEGORY_STRUCTURE)
async def get_category_structure(ctx: Context, request: contract.OfCategory) -> contract.CategoryStructure:
    """Describe the schema that the migrations make."""
    category = await find_category(ctx, request.category_slug)
    migrations = await migrations_of_category(ctx, category["id"])
    async with template(ctx, category, migrations) as made:
        tables = await made.describe()
    count = (await fetched(ctx, _TENANT_COUNT, category["id"]))[0][0]
    return {
        "category": category["slug"],
        "tenant_count": count,
        "tables": tables,
        "current_version": migrations[-1]["version"] if migrations else None,
        "migration_count": len(migrations),
    }


@handlers(contract.GET_CATEGORY_MIGRATION_HISTORY)
async def get_category_migration_history(
    ctx: Context, request: contract.OfCategory
) -> contract.CategoryHistory:
    """List the migrations of a category, deleted ones too."""
    category = await find_category(ctx, request.category_slug)
    rows = await migrations_of_category(ctx, category["id"], with_deleted=True)
    stored = [row["version"] for row in rows if row["deleted_at"] is None]
    return {
        "category_slug": category["slug"],
        "migrations": [cast("contract.Migration", listed(row)) for row in rows],
        "stored_versions": stored,
        "current_version": stored[-1] if stored else None,
        "total": len(rows),
    }


@handlers(contract.PREVIEW_MIGRATION)
async def preview_migration(ctx: Context, request: contract.BuilderMigration) -> contract.Preview:
    """Try a change on the category's schema, and show its SQL."""
    category = await find_category(ctx, request.category_slug)
    shape = contract.SHAPES[request.operation](**request.params)
    async with template(ctx, category, await migrations_of_category(ctx, category["id"])) as made:
        change = await made.plan(request.operation, shape)
    schemas = [row["schema"] for row in await provisioned(ctx, category["id"])]
    up, down = list(change.up), None if change.down is None else list(change.down)
    first = schemas[0] if schemas else "tenant_..."
    statements = [f"{in_place(statement, first)};" for statement in change.up]
    return {
        "category_slug": category["slug"],
        "affected_tenants": [schema.removeprefix("tenant_") for schema in schemas],
        "migration_preview": {
            "name": request.migration_name,
            "operation": request.operation,
            "up": up,
            "down": down,
            "checksum": checksum(up, down),
            "is_reversible": down is not None,
            "content": content(up, down),
        },
        "sql_preview": "\n".join(
            [f"-- in {first}, and likewise in each of {len(schemas)} schemas", *statements]
        ),
    }


@handlers(contract.APPLY_BUILDER_MIGRATION)
async def apply_builder_migration(
    ctx: Context, request: contract.BuilderMigration
) -> contract.BuilderApplied:
    """Record a change that comes as data, and bring the tenants up to date."""
    shape = contract.SHAPES[request.operation](**request.params)
    changed = await _change(ctx, request, request.operation, shape, request.migration_name)
    file = f"{changed['category_slug']}/{changed['migration_version']}.sql"
    recorded = len(changed["applied_schemas"])
    return cast("contract.BuilderApplied", {**changed, "b2_key": file, "versions_recorded": recorded})


@handlers(contract.GET_BUILDER_MIGRATION_FILE)
async def get_builder_migration_file(ctx: Context, request: contract.CategoryVersion) -> contract.BuilderFile:
    """Read a migration with its SQL."""
    category = await find_category(ctx, request.category_slug)
    rows = await migrations_of_category(ctx, category["id"], with_deleted=True)
    row = found_migration(rows, request.version_id, f"the category {category['slug']!r}")
    known = {
        "category_slug": category["slug"],
        "version_id": row["version"],
        "migration_name": row["name"],
        "b2_key": f"{category['slug']}/{row['version']}.sql",
    }
    return cast("contract.BuilderFile", {**known, **await migration_of(ctx, row)})


@handlers(contract.GET_TENANT_SYNC_STATUS)
async def get_tenant_sync_status(ctx: Context, request: contract.OfCategory) -> contract.SyncStatus:
    """Say how far each tenant is."""
    return await status_of(ctx, await find_category(ctx, request.category_slug))


@handlers(contract.SYNC_TENANTS_TO_LATEST)
async def sync_tenants_to_latest(ctx: Context, request: contract.SyncTenants) -> contract.Synced:
    """Bring tenants up to date. A repeat goes on with those that are not, so that it needs no record of its own."""
    return await sync(ctx, await find_category(ctx, request.category_slug), request.limit)


@handlers(contract.DELETE_MIGRATION)
async def delete_migration(ctx: Context, request: contract.CategoryVersion) -> RawJson:
    """Take a migration out of a category, if those after it do without."""
    category = await find_category(ctx, request.category_slug)
    slug = category["slug"]

    async def delete() -> RawJson:
        migrations = await migrations_of_category(ctx, category["id"])
        row = found_migration(migrations, request.version_id, f"the category {slug!r}")
        async with template(ctx, category, [other for other in migrations if other["id"] != row["id"]]):
            pass

        async def change(connection: Connection) -> contract.MigrationDeleted:
            if await lock_category(ctx, connection, category) != [other["id"] for other in migrations]:
                raise ConflictError("the category was changed at this moment", code="later_migrations")
            await connection.execute(_DELETE, *place_of(ctx), row["id"])
            message = "new tenants do not get it; those that have it keep it"
            return {"success": True, "message": message, "version_id": row["version"], "category_slug": slug}

        return await written(ctx, change)

    try:
        return await exactly_once(ctx, delete)
    except FAILURES as error:
        raise from_postgres(error) from error
