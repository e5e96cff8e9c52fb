"""A tenant with a schema, and a category with migrations, are not deleted by the way: no rows go with a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.contract.guardian.entities import TENANT_CATEGORIES, TENANTS
from dominus.errors import ConflictError
from dominus.orchestrator.services.guardian.entities import EntityHandlers, place_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection
    from dominus.orchestrator.handlers.context import Context

__all__ = ["Categories", "Tenants"]

_SCHEMA = """
SELECT name, provisioned_at
FROM dominus.ddl_schemas
WHERE project = $1 AND environment = $2 AND tenant_id = $3
FOR UPDATE
"""
_FORGET_SCHEMA = "DELETE FROM dominus.ddl_schemas WHERE project = $1 AND environment = $2 AND tenant_id = $3"
_CATEGORY = """
SELECT EXISTS (
  SELECT FROM dominus.ddl_migrations WHERE project = $1 AND environment = $2 AND category_id = $3
) AS has_migrations, EXISTS (
  SELECT
  FROM dominus.ddl_schemas d
  JOIN dominus.tenants t ON (t.project, t.environment, t.id) = (d.project, d.environment, d.tenant_id)
  WHERE d.project = $1 AND d.environment = $2 AND t.category_id = $3 AND d.provisioned_at IS NOT NULL
) AS has_schemas
"""
_FORGET_MIGRATIONS = (
    "DELETE FROM dominus.ddl_migrations WHERE project = $1 AND environment = $2 AND category_id = $3"
)


class Tenants(EntityHandlers):
    """The operations of tenants."""

    def __init__(self) -> None:
        super().__init__(TENANTS.entity)

    async def deleting(self, ctx: Context, connection: Connection, request: Any, name: str) -> None:
        """Refuse while there is a schema, with `force` too; what is left of one that was never made goes."""
        place = (*place_of(ctx), request.tenant_id)
        found = await connection.fetchrow(_SCHEMA, *place)
        if found is None:
            return
        if found["provisioned_at"] is not None:
            raise ConflictError(
                f"the tenant {name!r} has the schema {found['name']!r}, which holds its tables",
                code="in_use",
                details={"tenant_slug": name, "schema": found["name"]},
                hint=f"drop that first: dominus.ddl.deprovision_tenant({name!r}, cascade=True)",
            )
        await connection.execute(_FORGET_SCHEMA, *place)


class Categories(EntityHandlers):
    """The operations of categories."""

    def __init__(self) -> None:
        super().__init__(TENANT_CATEGORIES.entity)

    async def deleting(self, ctx: Context, connection: Connection, request: Any, name: str) -> None:
        """Refuse while there are migrations; with `force`, while they are those of a tenant's schema."""
        place = (*place_of(ctx), request.category_id)
        found = await connection.fetchrow(_CATEGORY, *place)
        assert found is not None  # noqa: S101 - it has no FROM
        if not found["has_migrations"]:
            return
        if found["has_schemas"] or not request.force:
            raise ConflictError(
                f"the category {name!r} has migrations"
                + (", and tenants whose schemas have them" if found["has_schemas"] else ""),
                code="in_use",
                details={"category_slug": name},
                hint="deprovision its tenants first: dominus.ddl.deprovision_tenant"
                if found["has_schemas"]
                else "delete them with it: force=True",
            )
        await connection.execute(_FORGET_MIGRATIONS, *place)
