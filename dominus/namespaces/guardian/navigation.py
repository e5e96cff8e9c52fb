"""dominus.auth.nav_items: the entries of navigation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import Literal

from dominus.contract.guardian import accounts as contract
from dominus.contract.guardian import entities
from dominus.contract.guardian.records import MAX_RECORDS, Records
from dominus.namespaces.base import Namespace
from dominus.namespaces.entity import EntityNamespace
from dominus.namespaces.link import LinkNamespace

__all__ = ["NavItems"]

NavOrder = Literal["sort_order", "title", "created_at", "updated_at"]


class NavItems(EntityNamespace[contract.NavItem]):
    """Entries of navigation: links to pages, and headers and labels that group them."""

    _calls = contract.NAV_ITEMS

    @cached_property
    def tenants(self) -> LinkNamespace[entities.Tenant]:
        """The tenants that see an item."""
        return LinkNamespace(self._caller, contract.NAV_TENANTS)

    @cached_property
    def scopes(self) -> LinkNamespace[entities.Scope]:
        """The scopes of which one shows an item."""
        return LinkNamespace(self._caller, contract.NAV_SCOPES)

    @cached_property
    def roles(self) -> LinkNamespace[entities.Role]:
        """The roles of which one shows an item."""
        return LinkNamespace(self._caller, contract.NAV_ROLES)

    @cached_property
    def subtypes(self) -> LinkNamespace[entities.Subtype]:
        """The kinds of users that see an item."""
        return LinkNamespace(self._caller, contract.NAV_SUBTYPES)

    @cached_property
    def categories(self) -> LinkNamespace[entities.TenantCategory]:
        """The tenant categories that see an item."""
        return LinkNamespace(self._caller, contract.NAV_CATEGORIES)

    async def create(
        self: Namespace,
        title: str,
        icon: str | None = None,
        description: str | None = None,
        page_id: str | None = None,
        parent_id: str | None = None,
        item_type: contract.ItemType = "link",
        is_active: bool = True,
        sort_order: int = 0,
        is_expanded_default: bool = False,
        *,
        timeout: float | None = None,
    ) -> contract.NavItem:
        """Create an item of navigation.

        Args:
            title: what people read, 1 to 100 characters.
            icon: a name or path that your application knows, up to 1,000 characters.
            description: up to 1,000 characters.
            page_id: of the page that it leads to.
            parent_id: of the item that it stands below.
            item_type: `link`, `header` or `group_label`.
            is_active: whether it is shown.
            sort_order: the smallest comes first.
            is_expanded_default: whether what is below it is shown at first.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such page or parent.

        Example:
            ```python
            top = await dominus.auth.nav_items.create("Library", item_type="header")
            await dominus.auth.create_nav_item("Books", parent_id=top["id"], sort_order=1)  # its flat name
            ```
        """
        fields = {
            "title": title,
            "icon": icon,
            "description": description,
            "page_id": page_id,
            "parent_id": parent_id,
            "item_type": item_type,
            "is_active": is_active,
            "sort_order": sort_order,
            "is_expanded_default": is_expanded_default,
        }
        return await self._ask(contract.NAV_ITEMS.create, timeout, **fields)

    async def list(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        tenant_id: str | None = None,
        parent_id: str | None = None,
        is_active: bool | None = None,
        order_by: NavOrder | None = None,
        order_desc: bool | None = None,
        timeout: float | None = None,
    ) -> Records[contract.NavItem]:
        """Return a page of items, by their `sort_order`, and the number of all that fit: `{"items", "total"}`.

        Args:
            limit: 1 to 1,000 items.
            offset: so many are left out before them, 0 or more.
            tenant_id: only those that were given to a tenant; all without it.
            parent_id: only those that stand below an item; all without it.
            is_active: only those that are, or are not; all without it.
            order_by: `sort_order`, `title`, `created_at` or `updated_at`.
            order_desc: whether the last of that order comes first.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            shown = await dominus.auth.nav_items.list(limit=10, is_active=True)
            titles = [item["title"] for item in shown["items"]]
            ```
        """
        filters = {"tenant_id": tenant_id, "parent_id": parent_id, "is_active": is_active}
        order = {"order_by": order_by, "order_desc": order_desc}
        return await self._ask(
            contract.NAV_ITEMS.list, timeout, **filters, **order, limit=limit, offset=offset
        )

    async def iterate(
        self,
        page_size: int = MAX_RECORDS,
        *,
        tenant_id: str | None = None,
        parent_id: str | None = None,
        is_active: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[contract.NavItem]:
        """Walk over all items that fit, by their `sort_order`; nothing is missed or repeated while others come and go.

        Args:
            page_size: read in one call, 1 to 1,000.
            tenant_id: only those that were given to a tenant; all without it.
            parent_id: only those that stand below an item; all without it.
            is_active: only those that are, or are not; all without it.
            timeout: seconds for each call; the client's without it.

        Example:
            ```python
            hidden = [item async for item in dominus.auth.nav_items.iterate(is_active=False)]
            ```
        """
        filters = {"tenant_id": tenant_id, "parent_id": parent_id, "is_active": is_active}
        async for item in self._walk(page_size, timeout, **filters):
            yield item

    async def update(
        self: Namespace,
        nav_id: str,
        title: str | None = None,
        icon: str | None = None,
        description: str | None = None,
        page_id: str | None = None,
        parent_id: str | None = None,
        item_type: contract.ItemType | None = None,
        is_active: bool | None = None,
        sort_order: int | None = None,
        is_expanded_default: bool | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.NavItem:
        """Change an item. None leaves a field as it is.

        Args:
            nav_id: its `id`.
            title: 1 to 100 characters.
            icon: up to 1,000 characters; "" empties it.
            description: up to 1,000 characters; "" empties it.
            page_id: of the page that it leads to; "" leads nowhere.
            parent_id: of the item that it stands below; "" brings it to the top.
            item_type: `link`, `header` or `group_label`.
            is_active: whether it is shown.
            sort_order: the smallest comes first.
            is_expanded_default: whether what is below it is shown at first.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such item, page or parent.
            ConflictError: it would stand below itself (code `nav_cycle`).

        Example:
            ```python
            item = await dominus.auth.nav_items.create("Maps")
            await dominus.auth.nav_items.update(item["id"], sort_order=3)
            await dominus.auth.update_nav_item(item["id"], is_active=False)  # its flat name
            ```
        """
        fields = {
            "title": title,
            "icon": icon,
            "description": description,
            "page_id": page_id,
            "parent_id": parent_id,
            "item_type": item_type,
            "is_active": is_active,
            "sort_order": sort_order,
            "is_expanded_default": is_expanded_default,
        }
        return await self._ask(contract.NAV_ITEMS.update, timeout, nav_id=nav_id, **fields)
