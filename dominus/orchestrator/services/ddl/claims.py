"""The names of tenants' schemas: who has which, and that two do not get the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dominus.errors import ConflictError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.ddl.records import place_of
from dominus.orchestrator.services.ddl.tenants import schema_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["claim"]

# A tenant is its record and its schema: what of both is missing is made. Its category is for good.
_TENANT = """
INSERT INTO dominus.tenants AS t (project, environment, name, slug, category_id, registration_open)
VALUES ($1, $2, $3, $3, $4, false)
ON CONFLICT (project, environment, slug)
DO UPDATE SET category_id = coalesce(t.category_id, excluded.category_id)
RETURNING id, category_id
"""
_CLAIM = """
INSERT INTO dominus.ddl_schemas AS d (name, project, environment, tenant_id)
VALUES ($3, $1, $2, $4)
ON CONFLICT (name) DO UPDATE SET project = $1, environment = $2, tenant_id = $4
  WHERE d.provisioned_at IS NULL
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = d.name)
RETURNING name
"""
_IS_OURS = """
SELECT EXISTS (
  SELECT FROM dominus.ddl_schemas d WHERE (d.project, d.environment) = ($1, $2) AND d.name = $3
)
"""


async def claim(ctx: Context, slug: str, category: Record | None) -> str:
    """Make the tenant's record, and the row of its schema, which is made next."""
    schema, wanted = schema_of(slug), category["id"] if category is not None else None
    # Both or neither: a name that is taken leaves no tenant behind.
    async with ctx.resources.postgres.system.acquire() as connection, connection.transaction():
        tenant = await connection.fetchrow(_TENANT, *place_of(ctx), slug, wanted)
        assert tenant is not None  # noqa: S101 - RETURNING
        if wanted is not None and tenant["category_id"] != wanted:
            raise ConflictError(
                f"the tenant {slug!r} is of another category",
                code="other_category",
                details={"tenant_slug": slug},
            )
        if await connection.fetchval(_CLAIM, *place_of(ctx), schema, tenant["id"]) is None:
            raise await _taken(ctx, connection, slug)
    return schema


async def _taken(ctx: Context, connection: Connection, slug: str) -> ConflictError:
    schema = schema_of(slug)
    is_ours = await connection.fetchval(_IS_OURS, *place_of(ctx), schema)
    return ConflictError(
        f"the tenant {slug!r} has its schema {schema!r} already"
        if is_ours
        else f"the schema {schema!r} is there already, and not of this project and environment",
        code="schema_exists",
        details={"tenant_slug": slug, "schema": schema},
        hint="sync_tenants_to_latest brings it up to date"
        if is_ours
        else "schemas are of the whole database: take another slug, or a database for each environment",
    )
