"""A role may begin with scopes, by their slugs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.contract.guardian.entities import ROLE_SCOPES, ROLES, SCOPES
from dominus.orchestrator.services.guardian.entities import EntityHandlers, missing, place_of
from dominus.orchestrator.services.guardian.statements import LinkStatements

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection
    from dominus.orchestrator.handlers.context import Context

__all__ = ["Roles"]

_BY_SLUG = """
SELECT slug, id::text AS id
FROM dominus.scopes
WHERE project = $1 AND environment = $2 AND slug = ANY($3::text[])
FOR KEY SHARE
"""


class Roles(EntityHandlers):
    """The operations of roles."""

    def __init__(self) -> None:
        super().__init__(ROLES.entity)
        self._add = LinkStatements(ROLE_SCOPES.link).add

    async def insert(self, ctx: Context, connection: Connection, request: Any) -> dict[str, Any]:
        """Make a role and give it the scopes that were named."""
        made = await super().insert(ctx, connection, request)
        if not request.scope_slugs:
            return made
        rows = await connection.fetch(_BY_SLUG, *place_of(ctx), request.scope_slugs)
        found = {row["slug"]: row["id"] for row in rows}
        if unknown := [slug for slug in request.scope_slugs if slug not in found]:
            raise missing(SCOPES.entity, unknown)
        await connection.execute(self._add, *place_of(ctx), made["id"], list(found.values()))
        return made
