"""The flat names of users, clients and navigation in the published interface: `auth.get_user` is `auth.users.get`."""

# Three kinds of records and thirteen links, three names each, all typed.
from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from dominus.contract.guardian.accounts import Client, NavItem, User
from dominus.contract.guardian.entities import Role, Scope, Status, Subtype, Tenant, TenantCategory
from dominus.contract.guardian.records import LinksChanged, RecordDeleted, Records
from dominus.namespaces.guardian.accounts import Clients, UserOrder, Users
from dominus.namespaces.guardian.link_names import LinkNames
from dominus.namespaces.guardian.navigation import NavItems, NavOrder
from dominus.namespaces.guardian.rights import Roles

__all__ = ["AccountNames"]


class AccountNames(LinkNames):
    """Who logs in, under flat names; what each does and raises is told at the namespaces."""

    add_role = Roles.create

    @cached_property
    def users(self) -> Users:
        """People who log in."""
        return Users(self._caller)

    create_user = Users.create
    add_user = Users.create
    update_user = Users.update
    update_password = Users.update_password
    verify_password = Users.verify_password

    async def get_user(self, user_id: str, *, timeout: float | None = None) -> User:
        """Return a user: `users.get`."""
        return await self.users.get(user_id, timeout=timeout)

    async def list_users(
        self,
        status: Status | None = None,
        limit: int = 100,
        offset: int = 0,
        order_by: UserOrder = "created_at",
        order_desc: bool = True,
        *,
        timeout: float | None = None,
    ) -> Records[User]:
        """Return a page of users, the newest first: `users.list`."""
        return await self.users.list(
            limit, offset, status=status, order_by=order_by, order_desc=order_desc, timeout=timeout
        )

    async def delete_user(
        self, user_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a user: `users.delete`."""
        return await self.users.delete(user_id, force=force, timeout=timeout)

    @cached_property
    def clients(self) -> Clients:
        """Programs that log in with a pre-shared key."""
        return Clients(self._caller)

    create_client = Clients.create
    update_client = Clients.update
    regenerate_psk = Clients.regenerate_psk
    verify_psk = Clients.verify_psk

    async def get_client(self, client_id: str, *, timeout: float | None = None) -> Client:
        """Return a client: `clients.get`."""
        return await self.clients.get(client_id, timeout=timeout)

    async def list_clients(
        self, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> Records[Client]:
        """Return a page of clients, sorted by label: `clients.list`."""
        return await self.clients.list(limit, offset, timeout=timeout)

    async def delete_client(
        self, client_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a client, and its keys: `clients.delete`."""
        return await self.clients.delete(client_id, force=force, timeout=timeout)

    @cached_property
    def nav_items(self) -> NavItems:
        """Entries of navigation."""
        return NavItems(self._caller)

    create_nav_item = NavItems.create
    update_nav_item = NavItems.update

    async def get_nav_item(self, nav_id: str, *, timeout: float | None = None) -> NavItem:
        """Return an item of navigation: `nav_items.get`."""
        return await self.nav_items.get(nav_id, timeout=timeout)

    async def list_nav_items(
        self,
        tenant_id: str | None = None,
        parent_id: str | None = None,
        is_active: bool | None = None,
        limit: int = 100,
        offset: int = 0,
        order_by: NavOrder | None = None,
        order_desc: bool | None = None,
        *,
        timeout: float | None = None,
    ) -> Records[NavItem]:
        """Return a page of items, by their `sort_order`: `nav_items.list`."""
        return await self.nav_items.list(
            limit,
            offset,
            tenant_id=tenant_id,
            parent_id=parent_id,
            is_active=is_active,
            order_by=order_by,
            order_desc=order_desc,
            timeout=timeout,
        )

    async def delete_nav_item(
        self, nav_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete an item of navigation: `nav_items.delete`."""
        return await self.nav_items.delete(nav_id, force=force, timeout=timeout)

    async def get_user_roles(self, user_id: str, *, timeout: float | None = None) -> list[Role]:
        """Return the roles of a user: `users.roles.list`."""
        return await self.users.roles.list(user_id, timeout=timeout)

    async def add_user_roles(
        self, user_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add roles to a user: `users.roles.add`."""
        return await self.users.roles.add(user_id, role_ids, timeout=timeout)

    async def remove_user_roles(
        self, user_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove roles from a user: `users.roles.remove`."""
        return await self.users.roles.remove(user_id, role_ids, timeout=timeout)

    async def get_user_scopes(self, user_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a user: `users.scopes.list`."""
        return await self.users.scopes.list(user_id, timeout=timeout)

    async def add_user_scopes(
        self, user_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a user: `users.scopes.add`."""
        return await self.users.scopes.add(user_id, scope_ids, timeout=timeout)

    async def remove_user_scopes(
        self, user_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a user: `users.scopes.remove`."""
        return await self.users.scopes.remove(user_id, scope_ids, timeout=timeout)

    async def get_user_tenants(self, user_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a user: `users.tenants.list`."""
        return await self.users.tenants.list(user_id, timeout=timeout)

    async def add_user_tenants(
        self, user_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a user: `users.tenants.add`."""
        return await self.users.tenants.add(user_id, tenant_ids, timeout=timeout)

    async def remove_user_tenants(
        self, user_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a user: `users.tenants.remove`."""
        return await self.users.tenants.remove(user_id, tenant_ids, timeout=timeout)

    async def get_user_subtypes(self, user_id: str, *, timeout: float | None = None) -> list[Subtype]:
        """Return the subtypes of a user: `users.subtypes.list`."""
        return await self.users.subtypes.list(user_id, timeout=timeout)

    async def add_user_subtypes(
        self, user_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add subtypes to a user: `users.subtypes.add`."""
        return await self.users.subtypes.add(user_id, subtype_ids, timeout=timeout)

    async def remove_user_subtypes(
        self, user_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove subtypes from a user: `users.subtypes.remove`."""
        return await self.users.subtypes.remove(user_id, subtype_ids, timeout=timeout)

    async def get_client_tenants(self, client_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a client: `clients.tenants.list`."""
        return await self.clients.tenants.list(client_id, timeout=timeout)

    async def add_client_tenants(
        self, client_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a client: `clients.tenants.add`."""
        return await self.clients.tenants.add(client_id, tenant_ids, timeout=timeout)

    async def remove_client_tenants(
        self, client_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a client: `clients.tenants.remove`."""
        return await self.clients.tenants.remove(client_id, tenant_ids, timeout=timeout)

    async def get_client_roles(self, client_id: str, *, timeout: float | None = None) -> list[Role]:
        """Return the roles of a client: `clients.roles.list`."""
        return await self.clients.roles.list(client_id, timeout=timeout)

    async def add_client_roles(
        self, client_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add roles to a client: `clients.roles.add`."""
        return await self.clients.roles.add(client_id, role_ids, timeout=timeout)

    async def remove_client_roles(
        self, client_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove roles from a client: `clients.roles.remove`."""
        return await self.clients.roles.remove(client_id, role_ids, timeout=timeout)

    async def get_client_scopes(self, client_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a client: `clients.scopes.list`."""
        return await self.clients.scopes.list(client_id, timeout=timeout)

    async def add_client_scopes(
        self, client_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a client: `clients.scopes.add`."""
        return await self.clients.scopes.add(client_id, scope_ids, timeout=timeout)

    async def remove_client_scopes(
        self, client_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a client: `clients.scopes.remove`."""
        return await self.clients.scopes.remove(client_id, scope_ids, timeout=timeout)

    async def get_client_subtypes(self, client_id: str, *, timeout: float | None = None) -> list[Subtype]:
        """Return the subtypes of a client: `clients.subtypes.list`."""
        return await self.clients.subtypes.list(client_id, timeout=timeout)

    async def add_client_subtypes(
        self, client_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add subtypes to a client: `clients.subtypes.add`."""
        return await self.clients.subtypes.add(client_id, subtype_ids, timeout=timeout)

    async def remove_client_subtypes(
        self, client_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove subtypes from a client: `clients.subtypes.remove`."""
        return await self.clients.subtypes.remove(client_id, subtype_ids, timeout=timeout)

    async def get_nav_tenants(self, nav_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a nav item: `nav_items.tenants.list`."""
        return await self.nav_items.tenants.list(nav_id, timeout=timeout)

    async def add_nav_tenants(
        self, nav_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a nav item: `nav_items.tenants.add`."""
        return await self.nav_items.tenants.add(nav_id, tenant_ids, timeout=timeout)

    async def remove_nav_tenants(
        self, nav_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a nav item: `nav_items.tenants.remove`."""
        return await self.nav_items.tenants.remove(nav_id, tenant_ids, timeout=timeout)

    async def get_nav_scopes(self, nav_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a nav item: `nav_items.scopes.list`."""
        return await self.nav_items.scopes.list(nav_id, timeout=timeout)

    async def add_nav_scopes(
        self, nav_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a nav item: `nav_items.scopes.add`."""
        return await self.nav_items.scopes.add(nav_id, scope_ids, timeout=timeout)

    async def remove_nav_scopes(
        self, nav_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a nav item: `nav_items.scopes.remove`."""
        return await self.nav_items.scopes.remove(nav_id, scope_ids, timeout=timeout)

    async def get_nav_roles(self, nav_id: str, *, timeout: float | None = None) -> list[Role]:
        """Return the roles of a nav item: `nav_items.roles.list`."""
        return await self.nav_items.roles.list(nav_id, timeout=timeout)

    async def add_nav_roles(
        self, nav_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add roles to a nav item: `nav_items.roles.add`."""
        return await self.nav_items.roles.add(nav_id, role_ids, timeout=timeout)

    async def remove_nav_roles(
        self, nav_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove roles from a nav item: `nav_items.roles.remove`."""
        return await self.nav_items.roles.remove(nav_id, role_ids, timeout=timeout)

    async def get_nav_subtypes(self, nav_id: str, *, timeout: float | None = None) -> list[Subtype]:
        """Return the subtypes of a nav item: `nav_items.subtypes.list`."""
        return await self.nav_items.subtypes.list(nav_id, timeout=timeout)

    async def add_nav_subtypes(
        self, nav_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add subtypes to a nav item: `nav_items.subtypes.add`."""
        return await self.nav_items.subtypes.add(nav_id, subtype_ids, timeout=timeout)

    async def remove_nav_subtypes(
        self, nav_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove subtypes from a nav item: `nav_items.subtypes.remove`."""
        return await self.nav_items.subtypes.remove(nav_id, subtype_ids, timeout=timeout)

    async def get_nav_categories(self, nav_id: str, *, timeout: float | None = None) -> list[TenantCategory]:
        """Return the categories of a nav item: `nav_items.categories.list`."""
        return await self.nav_items.categories.list(nav_id, timeout=timeout)

    async def add_nav_categories(
        self, nav_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add categories to a nav item: `nav_items.categories.add`."""
        return await self.nav_items.categories.add(nav_id, category_ids, timeout=timeout)

    async def remove_nav_categories(
        self, nav_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove categories from a nav item: `nav_items.categories.remove`."""
        return await self.nav_items.categories.remove(nav_id, category_ids, timeout=timeout)
