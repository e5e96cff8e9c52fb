"""The navigation tree of a login, and whether a page opens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dominus.contract import portal as contract
from dominus.contract.request import Empty
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.portal.access import Bounds, Item, Page, Viewer, judge, visible
from dominus.orchestrator.services.portal.registry import fetched, handlers, session_of
from dominus.orchestrator.services.portal.subjects import subject_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Record


_ID = {
    "tenants": "tenant_id",
    "tenant_categories": "category_id",
    "scopes": "scope_id",
    "roles": "role_id",
    "subtypes": "subtype_id",
}


def _linked(owner: str, link: str, target: str, shown: str) -> str:
    """Return a column: what the links of a row lead to, as texts."""
    return (
        f"ARRAY(SELECT t.{shown}::text FROM dominus.{owner}_{link} l"
        f" JOIN dominus.{target} t ON (t.project, t.environment, t.id) = (l.project, l.environment, l.{_ID[target]})"
        f" WHERE (l.project, l.environment, l.{owner}_id) = (r.project, r.environment, r.id)) AS {link}"
    )


def _bounds(owner: str) -> str:
    return ", ".join(
        (
            _linked(owner, "tenants", "tenants", "id"),
            _linked(owner, "categories", "tenant_categories", "id"),
            _linked(owner, "scopes", "scopes", "slug"),
        )
    )


_PAGES = f"""
SELECT r.id, r.path, r.is_active, r.show_in_nav, {_bounds("page")},
  {_linked("page", "excluded_scopes", "scopes", "slug")},
  {_linked("page", "excluded_roles", "roles", "name")}
FROM dominus.pages r
WHERE r.project = $1 AND r.environment = $2 AND r.is_active
"""
_PAGE = f"{_PAGES} AND r.path = $3"
_ITEMS = f"""
SELECT r.id, r.title, r.item_type, r.parent_id, r.page_id, r.icon, r.description, r.is_active, r.sort_order,
  r.is_expanded_default, {_bounds("nav")},
  {_linked("nav", "roles", "roles", "name")},
  {_linked("nav", "subtypes", "subtypes", "id")}
FROM dominus.nav_items r
WHERE r.project = $1 AND r.environment = $2
"""


@handlers(contract.GET_NAVIGATION)
async def get_navigation(ctx: Context, _: Empty) -> contract.Navigation:
    """What the caller sees, in its active tenant."""
    viewer = await _viewer(ctx)
    pages = {page.id: page for page in map(_page, await fetched(ctx, _PAGES))}
    return {"items": visible([_item(row) for row in await fetched(ctx, _ITEMS)], pages, viewer)}


@handlers(contract.CHECK_PAGE_ACCESS)
async def check_page_access(ctx: Context, request: contract.PageRequest) -> contract.PageAccess:
    """Whether one page opens, and why not."""
    viewer = await _viewer(ctx)
    rows = await fetched(ctx, _PAGE, request.path)
    reason = judge(_page(rows[0]) if rows else None, viewer)
    return {"allowed": reason == "allowed", "reason": reason}


async def _viewer(ctx: Context) -> Viewer:
    subject = await subject_of(ctx, await session_of(ctx))
    rights, tenant = subject.rights, subject.tenant
    return Viewer(
        tenant["id"] if tenant else None, rights.category_id, rights.scopes, rights.roles, rights.subtype_ids
    )


def _page(row: Record) -> Page:
    return Page(
        id=str(row["id"]),
        path=row["path"],
        is_active=row["is_active"],
        show_in_nav=row["show_in_nav"],
        bounds=Bounds(row["tenants"], row["categories"], row["scopes"]),
        excluded_scopes=row["excluded_scopes"],
        excluded_roles=row["excluded_roles"],
    )


def _item(row: Record) -> Item:
    return Item(
        id=str(row["id"]),
        title=row["title"],
        item_type=row["item_type"],
        parent_id=str(row["parent_id"]) if row["parent_id"] else None,
        page_id=str(row["page_id"]) if row["page_id"] else None,
        icon=row["icon"],
        description=row["description"],
        is_active=row["is_active"],
        sort_order=row["sort_order"],
        is_expanded_default=row["is_expanded_default"],
        bounds=Bounds(row["tenants"], row["categories"], row["scopes"], row["roles"], row["subtypes"]),
    )
