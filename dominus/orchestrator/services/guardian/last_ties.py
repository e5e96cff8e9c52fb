"""The last record that another is tied to does not go by force: what is tied to none counts everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dominus.contract.guardian import accounts, entities
from dominus.contract.guardian.records import Entity, Link, LinkCalls
from dominus.errors import ConflictError

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["refuse_last_ties"]

# The links of a group narrow together: one tie in any of them is enough.
_GROUPS: Sequence[Sequence[LinkCalls[Any]]] = (
    (entities.ROLE_TENANTS, entities.ROLE_CATEGORIES),
    (entities.ROLE_SUBTYPES,),
    (entities.SCOPE_TENANTS, entities.SCOPE_CATEGORIES),
    (entities.SUBTYPE_TENANTS, entities.SUBTYPE_CATEGORIES),
    (entities.PAGE_TENANTS, entities.PAGE_CATEGORIES),
    (entities.PAGE_SCOPES,),
    (entities.SECURE_TABLE_SCOPES,),
    (accounts.NAV_TENANTS, accounts.NAV_CATEGORIES),
    (accounts.NAV_SCOPES,),
    (accounts.NAV_ROLES,),
    (accounts.NAV_SUBTYPES,),
)
_ONLY = """
SELECT '{kind}' AS kind, o.id, o.{name}::text AS name
FROM dominus.{link} l
JOIN dominus.{owners} o ON (o.project, o.environment, o.id) = (l.project, l.environment, l.{owner_id})
WHERE l.project = $1 AND l.environment = $2 AND l.{target_id} = $3::text::uuid
  AND NOT EXISTS (
    SELECT FROM dominus.{link} m
    WHERE (m.project, m.environment, m.{owner_id}) = (o.project, o.environment, o.id) AND m.{target_id} <> l.{target_id}
  )
"""
_NO_OTHER = """
  AND NOT EXISTS (
    SELECT FROM dominus.{link} m
    WHERE (m.project, m.environment, m.{owner_id}) = (o.project, o.environment, o.id)
  )
"""


async def refuse_last_ties(
    connection: Connection, entity: Entity[Any], place: tuple[str, str], record_id: str, name: str
) -> None:
    """Refuse to delete a record that is all that others are tied to.

    Raises:
        ConflictError: `in_use`, with those others.
    """
    found: list[dict[str, Any]] = []
    for query in _queries(entity):
        found += [dict(row.items()) for row in await connection.fetch(query, *place, record_id)]
    if not found:
        return
    said = ", ".join(f"{one['kind'].replace('_', ' ')} {one['name']!r}" for one in found[:5])
    raise ConflictError(
        f"the {entity.words} {name!r} is all that {said}{' and more' if found[5:] else ''} is tied to",
        code="in_use",
        details={"used_by": found},
        hint="without it they would count everywhere: delete them, or tie them to another one first",
    )


def _queries(entity: Entity[Any]) -> Iterator[str]:
    for group in _GROUPS:
        links: list[Link[Any]] = [calls.link for calls in group]
        for link in links:
            if link.target is entity:
                others = (_NO_OTHER.format(**_names(other)) for other in links if other is not link)
                yield _ONLY.format(**_names(link)) + "".join(others)


def _names(link: Link[Any]) -> dict[str, str]:
    return {
        "kind": link.owner.name,
        "name": link.owner.order,
        "link": link.table,
        "owners": link.owner.plural,
        "owner_id": link.owner.id_field,
        "target_id": link.target.id_field,
    }
