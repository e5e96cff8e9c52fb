"""admin: seeding what administrators begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dominus.contract import admin as contract
from dominus.contract import operations
from dominus.contract.request import Empty
from dominus.errors import ValidationError
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.handlers.registry import Handlers

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["handlers"]

handlers = Handlers(contract.admin)

_NAME = "admin"
# What has the name already is left as it is. `$3` is the name of all of them, in the last but one the scopes.
_SEEDS = {
    "tenant_categories": """
INSERT INTO dominus.tenant_categories (project, environment, name, slug, description, color)
VALUES ($1, $2, 'Administration', $3, 'Tenants of administrators.', '#3B82F6')
ON CONFLICT (project, environment, slug) DO NOTHING
""",
    "tenants": """
INSERT INTO dominus.tenants (project, environment, name, slug, category_id, registration_open)
SELECT $1, $2, 'Administration', $3, id, false
FROM dominus.tenant_categories
WHERE project = $1 AND environment = $2 AND slug = $3
ON CONFLICT (project, environment, slug) DO NOTHING
""",
    "roles": """
INSERT INTO dominus.roles (project, environment, name, description)
VALUES ($1, $2, $3, 'May do everything, in tenants of administrators.')
ON CONFLICT (project, environment, name) DO NOTHING
""",
    "role_categories": """
INSERT INTO dominus.role_categories (project, environment, role_id, category_id)
SELECT $1, $2, r.id, c.id
FROM dominus.roles AS r
JOIN dominus.tenant_categories AS c USING (project, environment)
WHERE r.project = $1 AND r.environment = $2 AND r.name = $3 AND c.slug = $3
ON CONFLICT DO NOTHING
""",
}
_SEED_SCOPES = """
INSERT INTO dominus.scopes (project, environment, slug, display_name)
SELECT $1, $2, slug, slug
FROM unnest($3::text[]) AS slug
ON CONFLICT (project, environment, slug) DO NOTHING
"""
_SEED_ROLE_SCOPES = """
INSERT INTO dominus.role_scopes (project, environment, role_id, scope_id)
SELECT $1, $2, r.id, s.id
FROM dominus.roles AS r
JOIN dominus.scopes AS s USING (project, environment)
WHERE r.project = $1 AND r.environment = $2 AND r.name = $4 AND s.slug = ANY($3::text[])
ON CONFLICT DO NOTHING
"""
_HOLDERS = """
SELECT
  (SELECT count(*) FROM dominus.user_roles WHERE project = $1 AND environment = $2 AND role_id = r.id) AS users,
  (SELECT count(*) FROM dominus.client_roles WHERE project = $1 AND environment = $2 AND role_id = r.id) AS clients
FROM dominus.roles AS r
WHERE project = $1 AND environment = $2 AND name = $3
FOR UPDATE
"""
_DELETE_ROLE = "DELETE FROM dominus.roles WHERE project = $1 AND environment = $2 AND name = $3"


@handlers(contract.RESEED)
async def reseed(ctx: Context, _: Empty) -> RawJson:
    """Seed what is missing, in one transaction."""

    async def change(connection: Connection) -> contract.Seeded:
        seeded = await _seed(ctx, connection)
        count = sum(seeded.values())
        said = f"{count} records were missing" if count else "nothing was missing"
        return {"success": True, "message": said, "seeded_entities": seeded}

    answer = await written(ctx, change)
    ctx.resources.rights.forget()
    return answer


@handlers(contract.RESET)
async def reset(ctx: Context, request: contract.ResetRequest) -> RawJson:
    """Delete the role and seed it anew, in one transaction."""
    if not request.confirm:
        raise ValidationError(
            "takes the role from everybody: confirm=True says that this is meant", code="confirm_required"
        )

    async def change(connection: Connection) -> contract.AdminReset:
        place = (ctx.principal.project, ctx.principal.environment)
        done: list[str] = []
        held = await connection.fetchrow(_HOLDERS, *place, _NAME)
        if held is not None:
            await connection.execute(_DELETE_ROLE, *place, _NAME)
            done.append(f"took the role from {held['users']} users and {held['clients']} clients")
        seeded = await _seed(ctx, connection)
        done += [f"made {count} {kind.replace('_', ' ')}" for kind, count in seeded.items() if count]
        return {"success": True, "message": "the role is as it was at first", "operations": done}

    answer = await written(ctx, change)
    ctx.resources.rights.forget()
    return answer


async def _seed(ctx: Context, connection: Connection) -> dict[str, int]:
    place = (ctx.principal.project, ctx.principal.environment)
    slugs = sorted({op.scope for op in operations().values() if op.scope is not None})
    said = {"scopes": await connection.execute(_SEED_SCOPES, *place, slugs)}
    for kind, statement in _SEEDS.items():
        said[kind] = await connection.execute(statement, *place, _NAME)
    said["role_scopes"] = await connection.execute(_SEED_ROLE_SCOPES, *place, slugs, _NAME)
    return {kind: int(tag.rpartition(" ")[2]) for kind, tag in said.items()}
