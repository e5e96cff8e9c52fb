"""What of the navigation a login sees, and which pages open to it: decided here, without a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dominus.contract.portal import AccessReason, NavNode

__all__ = ["Bounds", "Item", "Page", "Viewer", "judge", "visible"]

_GROUPS = ("header", "group_label")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, in the active tenant."""

    tenant_id: str | None
    category_id: str | None
    scopes: Collection[str]
    roles: Collection[str]
    subtypes: Collection[str]
    """Ids."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """For whom something is. An empty set asks for nothing; of one that is not, one has to fit."""

    tenants: Collection[str] = ()
    categories: Collection[str] = ()
    scopes: Collection[str] = ()
    roles: Collection[str] = ()
    subtypes: Collection[str] = ()

    def are_of_tenant(self, viewer: Viewer) -> bool:
        """Tell whether it is for the active tenant: named itself, or by its category."""
        if not self.tenants and not self.categories:
            return True
        return viewer.tenant_id in self.tenants or viewer.category_id in self.categories

    def are_met(self, viewer: Viewer) -> bool:
        """Tell whether the viewer has one of each that is asked for."""
        asked = (
            (self.scopes, viewer.scopes),
            (self.roles, viewer.roles),
            (self.subtypes, viewer.subtypes),
        )
        return all(not wanted or any(each in held for each in wanted) for wanted, held in asked)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an application."""

    id: str
    path: str
    is_active: bool = True
    show_in_nav: bool = True
    bounds: Bounds = field(default_factory=Bounds)
    excluded_scopes: Collection[str] = ()
    excluded_roles: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of the navigation."""

    id: str
    title: str
    item_type: str = "link"
    parent_id: str | None = None
    page_id: str | None = None
    icon: str | None = None
    description: str | None = None
    is_active: bool = True
    sort_order: int = 0
    is_expanded_default: bool = False
    bounds: Bounds = field(default_factory=Bounds)


def judge(page: Page | None, viewer: Viewer) -> AccessReason:
    """Say whether a page opens. One of another tenant, and one that is switched off, are as unknown as none."""
    if page is None or not page.is_active or not page.bounds.are_of_tenant(viewer):
        return "unknown_page"
    is_excluded = any(each in viewer.scopes for each in page.excluded_scopes)
    if is_excluded or any(each in viewer.roles for each in page.excluded_roles):
        return "excluded"
    return "allowed" if page.bounds.are_met(viewer) else "missing_scope"


def visible(items: Sequence[Item], pages: Mapping[str, Page], viewer: Viewer) -> list[NavNode]:
    """Return the tree of what a viewer sees: nothing below what it does not see, and no group without entries."""
    below: dict[str | None, list[Item]] = {}
    for item in items:
        below.setdefault(item.parent_id, []).append(item)

    def shown(parent_id: str | None) -> list[NavNode]:
        nodes: list[NavNode] = []
        for item in sorted(below.get(parent_id, ()), key=lambda each: (each.sort_order, each.title, each.id)):
            if not _is_seen(item, pages, viewer):
                continue
            children = shown(item.id)
            if item.item_type in _GROUPS and item.id in below and not children:
                continue
            nodes.append(_node(item, pages, children))
        return nodes

    # From the roots down: what hangs in a circle hangs on no root.
    return shown(None)


def _is_seen(item: Item, pages: Mapping[str, Page], viewer: Viewer) -> bool:
    if not item.is_active or not item.bounds.are_of_tenant(viewer) or not item.bounds.are_met(viewer):
        return False
    if item.page_id is None:
        return True
    page = pages.get(item.page_id)
    return page is not None and page.show_in_nav and judge(page, viewer) == "allowed"


def _node(item: Item, pages: Mapping[str, Page], children: list[NavNode]) -> NavNode:
    return {
        "id": item.id,
        "title": item.title,
        "icon": item.icon,
        "description": item.description,
        "item_type": item.item_type,
        "page_id": item.page_id,
        "path": pages[item.page_id].path if item.page_id is not None else None,
        "sort_order": item.sort_order,
        "is_expanded_default": item.is_expanded_default,
        "children": children,
    }
