"""What a subject may do in a tenant."""

from __future__ import annotations

from dataclasses import dataclass

from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.portal.registry import fetched

__all__ = ["Rights", "rights_of"]


@dataclass(frozen=True, slots=True)
class Rights:
    """Scopes by their slugs, roles by their names."""

    scopes: frozenset[str]
    roles: frozenset[str]


_SCOPES = """
SELECT s.slug
FROM dominus.scopes s
WHERE s.project = $1 AND s.environment = $2 AND (
  EXISTS (SELECT FROM dominus.{kind}_scopes l WHERE (l.project, l.environment, l.{kind}_id, l.scope_id) = ($1, $2, $3, s.id))
  OR EXISTS (SELECT FROM dominus.{kind}_roles l JOIN dominus.role_scopes r USING (project, environment, role_id)
    WHERE (l.project, l.environment, l.{kind}_id, r.scope_id) = ($1, $2, $3, s.id)))
"""
_ROLES = """
SELECT r.name
FROM dominus.roles r JOIN dominus.{kind}_roles l ON (l.project, l.environment, l.role_id) = (r.project, r.environment, r.id)
WHERE l.project = $1 AND l.environment = $2 AND l.{kind}_id = $3
"""


async def rights_of(ctx: Context, kind: str, subject_id: str, tenant_id: str | None) -> Rights:
    """Return what a subject may do."""
    scopes = await fetched(ctx, _SCOPES.format(kind=kind), subject_id)
    roles = await fetched(ctx, _ROLES.format(kind=kind), subject_id)
    return Rights(frozenset(row["slug"] for row in scopes), frozenset(row["name"] for row in roles))
