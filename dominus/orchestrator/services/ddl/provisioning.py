"""The schemas of tenants: made, dropped, emptied."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dominus.contract import ddl as contract
from dominus.errors import ConflictError, DominusError, NotFoundError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, written
from dominus.orchestrator.services.ddl.categories import lock_category
from dominus.orchestrator.services.ddl.change import Step, changing
from dominus.orchestrator.services.ddl.claims import claim
from dominus.orchestrator.services.ddl.migrations import current_of
from dominus.orchestrator.services.ddl.records import (
    fetched,
    find_category,
    migrations_of_category,
    migrations_of_schema,
    place_of,
    time_of,
    with_sql,
)
from dominus.orchestrator.services.ddl.tables import answer, handlers
from dominus.orchestrator.services.ddl.tenants import provisioned, schema_of, status_of
from dominus.orchestrator.sql.catalog import CHANNEL
from dominus.orchestrator.sql.tables import quote

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

_TENANTS = """
SELECT t.slug, d.name AS schema, d.provisioned_at, d.failure, c.slug AS category_slug
FROM dominus.tenants t
LEFT JOIN dominus.ddl_schemas d
  ON (d.project, d.environment, d.tenant_id) = (t.project, t.environment, t.id) AND d.provisioned_at IS NOT NULL
LEFT JOIN dominus.tenant_categories c ON (c.project, c.environment, c.id) = (t.project, t.environment, t.category_id)
WHERE t.project = $1 AND t.environment = $2 AND ($3::text IS NULL OR t.slug = $3) AND ($4::uuid IS NULL OR c.id = $4)
ORDER BY t.slug
"""
_CATEGORIES = """
SELECT c.id, c.slug, c.name, (
  SELECT count(*)
  FROM dominus.tenants t
  WHERE (t.project, t.environment, t.category_id) = (c.project, c.environment, c.id)
) AS tenant_count, (
  SELECT count(*)
  FROM dominus.ddl_migrations m
  WHERE (m.project, m.environment, m.category_id) = (c.project, c.environment, c.id) AND m.deleted_at IS NULL
) AS migration_count
FROM dominus.tenant_categories c
WHERE c.project = $1 AND c.environment = $2
ORDER BY c.slug
"""
_LOCK = """
SELECT d.name
FROM dominus.ddl_schemas d
JOIN dominus.tenants t ON (t.project, t.environment, t.id) = (d.project, d.environment, d.tenant_id)
WHERE d.project = $1 AND d.environment = $2 AND d.name = $3 AND d.provisioned_at IS NOT NULL
  AND ($4::uuid IS NULL OR t.category_id = $4)
FOR UPDATE OF d
"""
_SECURE = "SELECT table_name FROM dominus.secure_tables WHERE schema_name = $1 ORDER BY table_name LIMIT 1"
_CLEAR = """
WITH steps AS (
  DELETE FROM dominus.ddl_steps WHERE schema = $1 RETURNING migration_id
), own AS (
  DELETE FROM dominus.ddl_migrations WHERE schema = $1
)
SELECT count(DISTINCT migration_id)
FROM steps
"""
_NOTIFY = "SELECT pg_notify($1, $2)"


async def _provision(ctx: Context, slug: str, category: Record | None) -> RawJson:
    schema = await claim(ctx, slug, category)
    async with changing(ctx, schema, makes=True) as change:
        assert change is not None  # noqa: S101 - it waits
        missing = [row for row in await migrations_of_schema(ctx, schema) if row["category_id"] is not None]
        await change.go([Step(row, is_up=True) for row in await with_sql(ctx, missing)])
        versions = [row["version"] for row in missing]
        said: contract.Provisioned = {
            "tenant_slug": slug,
            "schema": schema,
            "created": True,
            "provisioned": True,
            "category_slug": category["slug"] if category is not None else None,
            "initial_version": versions[-1] if versions else None,
            "version": versions[-1] if versions else None,
            "applied_migrations": versions,
        }
        return await answer(ctx, change, said)


@handlers(contract.PROVISION_TENANT)
async def provision_tenant(ctx: Context, request: contract.Provision) -> RawJson:
    """Make a tenant's schema, with the tables of its category if it has one."""
    return await exactly_once(ctx, partial(_provision, ctx, request.tenant_slug, None))


@handlers(contract.PROVISION_FROM_CATEGORY)
async def provision_from_category(ctx: Context, request: contract.ProvisionFromCategory) -> RawJson:
    """Make a tenant's schema with the tables of a category: all of it or nothing."""
    category = await find_category(ctx, request.category_slug)
    return await exactly_once(ctx, partial(_provision, ctx, request.tenant_slug, category))


async def _locked(ctx: Context, connection: Connection, slug: str, category_id: Any = None) -> str:
    """Hold off all changes of a tenant's schema; return its name."""
    await connection.execute("SET LOCAL lock_timeout = '5s'")
    schema: str | None = await connection.fetchval(_LOCK, *place_of(ctx), schema_of(slug), category_id)
    if schema is None:
        of = "" if category_id is None else " in this category"
        raise NotFoundError(
            f"the tenant {slug!r} has no schema{of}",
            code="not_provisioned",
            details={"tenant_slug": slug},
            hint="provision_tenant makes it",
        )
    # A schema is dropped by its owner, whom a secure table would not stop.
    if (secure := await connection.fetchval(_SECURE, schema)) is not None:
        raise ConflictError(
            f"the table {schema}.{secure} is secure",
            code="table_is_secure",
            details={"table": f"{schema}.{secure}"},
            hint="delete its record first: dominus.auth.secure_tables.delete",
        )
    return schema


@handlers(contract.DEPROVISION_TENANT)
async def deprovision_tenant(ctx: Context, request: contract.Deprovision) -> RawJson:
    """Drop a tenant's schema and its history; its record stays."""

    async def change(connection: Connection) -> contract.Provisioned:
        schema = await _locked(ctx, connection, request.tenant_slug)
        await connection.execute(
            f"DROP SCHEMA {quote(schema)} {'CASCADE' if request.cascade else 'RESTRICT'}"
        )
        await connection.execute("DELETE FROM dominus.ddl_schemas WHERE name = $1", schema)
        await connection.fetchval(_NOTIFY, CHANNEL, schema)
        return {"tenant_slug": request.tenant_slug, "schema": schema, "dropped": True, "provisioned": False}

    try:
        return await written(ctx, change)
    finally:
        ctx.resources.catalog.forget()


async def _emptied(ctx: Context, connection: Connection, slug: str, category_id: Any) -> tuple[str, int]:
    schema = await _locked(ctx, connection, slug, category_id)
    role = quote(ctx.resources.settings.data_role)
    await connection.execute(f"DROP SCHEMA {quote(schema)} CASCADE")
    await connection.execute(f"CREATE SCHEMA {quote(schema)}")
    await connection.execute(f"GRANT USAGE, CREATE ON SCHEMA {quote(schema)} TO {role}")
    cleared: int = await connection.fetchval(_CLEAR, schema)
    await connection.fetchval(_NOTIFY, CHANNEL, schema)
    return schema, cleared


@handlers(contract.RESET_TENANT_SCHEMA)
async def reset_tenant_schema(ctx: Context, request: contract.TenantOfCategory) -> RawJson:
    """Empty a tenant's schema; a sync makes its tables again."""
    category = await find_category(ctx, request.category_slug)

    async def change(connection: Connection) -> contract.TenantReset:
        schema, cleared = await _emptied(ctx, connection, request.tenant_slug, category["id"])
        return {
            "success": True,
            "message": "the schema is empty; sync_tenants_to_latest makes its tables again",
            "tenant_slug": request.tenant_slug,
            "schema": schema,
            "versions_cleared": cleared,
        }

    try:
        return await written(ctx, change)
    finally:
        ctx.resources.catalog.forget()


@handlers(contract.RESET_CATEGORY_SCHEMA)
async def reset_category_schema(ctx: Context, request: contract.OfCategory) -> contract.CategoryReset:
    """Empty the schemas of all tenants, one after the other; then delete the migrations. A repeat goes on."""
    category = await find_category(ctx, request.category_slug)
    results: list[contract.TenantStatus] = []
    for tenant in await provisioned(ctx, category["id"]):
        known: contract.TenantStatus = {"tenant_slug": tenant["slug"], "schema": tenant["schema"]}
        try:
            async with ctx.resources.postgres.system.acquire() as connection, connection.transaction():
                await _emptied(ctx, connection, tenant["slug"], category["id"])
        except (DominusError, *FAILURES) as error:
            results.append({**known, "status": "failed", "error": from_postgres(error).message})
        else:
            results.append({**known, "status": "reset", "error": None})
    ctx.resources.catalog.forget()
    failed = sum(one.get("status") == "failed" for one in results)
    deleted = 0 if failed else await _delete_migrations(ctx, category)
    return {
        "success": not failed,
        "message": "some tenants failed; the migrations are kept: repeat the call"
        if failed
        else "all schemas are empty",
        "reset_count": len(results) - failed,
        "failed_count": failed,
        "migrations_deleted": deleted,
        "results": results,
    }


async def _delete_migrations(ctx: Context, category: Record) -> int:
    try:
        async with ctx.resources.postgres.system.acquire() as connection, connection.transaction():
            await lock_category(ctx, connection, category)
            said = await connection.execute(
                "DELETE FROM dominus.ddl_migrations WHERE project = $1 AND environment = $2 AND category_id = $3",
                *place_of(ctx),
                category["id"],
            )
    except FAILURES as error:
        raise from_postgres(error) from error
    return int(said.rpartition(" ")[2])


def _shown(row: Record) -> contract.Provisioned:
    return {
        "tenant_slug": row["slug"],
        "schema": schema_of(row["slug"]),
        "provisioned": row["schema"] is not None,
        "category_slug": row["category_slug"],
        "provisioned_at": time_of(row["provisioned_at"]),
    }


@handlers(contract.PROVISION_STATUS)
async def provision_status(ctx: Context, request: contract.OfTenant) -> contract.Provisioned:
    """Say whether a tenant has a schema, and how far it is; of a tenant that nobody knows, that it has none."""
    rows = await fetched(ctx, _TENANTS, request.tenant_slug, None)
    schema = schema_of(request.tenant_slug)
    if not rows or rows[0]["schema"] is None:
        category = rows[0]["category_slug"] if rows else None
        known: contract.Provisioned = {
            "tenant_slug": request.tenant_slug,
            "schema": schema,
            "provisioned": False,
        }
        return {**known, "status": "not_provisioned", "category_slug": category, "version": None}
    migrations = await migrations_of_schema(ctx, schema)
    its = [row for row in migrations if row["category_id"] is not None]
    is_behind = any(not row["is_applied"] for row in its)
    failure = rows[0]["failure"]
    return {
        **_shown(rows[0]),
        "version": current_of(schema, migrations)["version"],
        "latest_version": its[-1]["version"] if its else None,
        "status": "synced" if not is_behind else "pending" if failure is None else "failed",
        "error": failure if is_behind else None,
    }


@handlers(contract.LIST_PROVISIONS)
async def list_provisions(ctx: Context, request: Any) -> list[contract.Provisioned]:
    """List the tenants that have a schema."""
    _ = request
    return [_shown(row) for row in await fetched(ctx, _TENANTS, None, None) if row["schema"] is not None]


@handlers(contract.LIST_CATEGORIES)
async def list_categories(ctx: Context, request: Any) -> list[contract.CategoryStatus]:
    """List the categories of tenants."""
    _ = request
    return [cast("contract.CategoryStatus", _counted(row)) for row in await fetched(ctx, _CATEGORIES)]


def _counted(row: Record) -> dict[str, Any]:
    return {**dict(row.items()), "id": str(row["id"]), "category_slug": row["slug"]}


@handlers(contract.CATEGORY_STATUS)
async def category_status(ctx: Context, request: contract.OfCategory) -> contract.CategoryStatus:
    """Count the tenants of a category."""
    category = await find_category(ctx, request.category_slug)
    status = await status_of(ctx, category)
    tenants = await fetched(ctx, _TENANTS, None, category["id"])
    return {
        "id": str(category["id"]),
        "slug": category["slug"],
        "category_slug": category["slug"],
        "name": category["name"],
        "tenant_count": len(tenants),
        "provisioned_count": status["total_tenants"],
        "synced_count": status["synced_count"],
        "pending_count": status["pending_count"],
        "failed_count": status["failed_count"],
        "migration_count": len(await migrations_of_category(ctx, category["id"])),
        "latest_version": status["latest_version"],
    }


@handlers(contract.TENANTS_BY_CATEGORY)
async def tenants_by_category(ctx: Context, request: contract.OfCategory) -> contract.CategoryTenants:
    """List the tenants of a category, those without a schema too."""
    category = await find_category(ctx, request.category_slug)
    tenants = [_shown(row) for row in await fetched(ctx, _TENANTS, None, category["id"])]
    return {"category_slug": category["slug"], "tenants": tenants, "total": len(tenants)}
