"""The flat names of the published interface: `auth.get_role(role_id)` is `auth.roles.get(role_id)`.

A name is an assignment where the parameters are the same, a method of one line where they have names of their own.
"""

from __future__ import annotations

from functools import cached_property

from dominus.contract.guardian.entities import (
    Page,
    Role,
    Scope,
    SecureTable,
    Status,
    Subtype,
    Tenant,
    TenantCategory,
)
from dominus.contract.guardian.records import RecordDeleted, Records
from dominus.namespaces.base import Namespace
from dominus.namespaces.guardian.rights import Pages, Roles, Scopes
from dominus.namespaces.guardian.secured import SecureTables
from dominus.namespaces.guardian.tenancy import Subtypes, TenantCategories, Tenants

__all__ = ["EntityNames"]


class EntityNames(Namespace):
    """Each kind of record: its namespace, and the flat names of its calls."""

    @cached_property
    def scopes(self) -> Scopes:
        """The rights that roles give."""
        return Scopes(self._caller)

    create_scope = Scopes.create
    update_scope = Scopes.update

    async def get_scope(self, scope_id: str, *, timeout: float | None = None) -> Scope:
        """Return a scope: `scopes.get`."""
        return await self.scopes.get(scope_id, timeout=timeout)

    async def list_scopes(
        self, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> Records[Scope]:
        """Return a page of scopes, sorted by slug: `scopes.list`."""
        return await self.scopes.list(limit, offset, timeout=timeout)

    async def delete_scope(
        self, scope_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a scope: `scopes.delete`."""
        return await self.scopes.delete(scope_id, force=force, timeout=timeout)

    @cached_property
    def roles(self) -> Roles:
        """Named sets of scopes."""
        return Roles(self._caller)

    create_role = Roles.create
    update_role = Roles.update

    async def get_role(self, role_id: str, *, timeout: float | None = None) -> Role:
        """Return a role: `roles.get`."""
        return await self.roles.get(role_id, timeout=timeout)

    async def list_roles(
        self, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> Records[Role]:
        """Return a page of roles, sorted by name: `roles.list`."""
        return await self.roles.list(limit, offset, timeout=timeout)

    async def delete_role(
        self, role_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a role: `roles.delete`."""
        return await self.roles.delete(role_id, force=force, timeout=timeout)

    @cached_property
    def tenant_categories(self) -> TenantCategories:
        """Kinds of tenants."""
        return TenantCategories(self._caller)

    create_tenant_category = TenantCategories.create
    update_tenant_category = TenantCategories.update

    async def get_tenant_category(self, category_id: str, *, timeout: float | None = None) -> TenantCategory:
        """Return a tenant category: `tenant_categories.get`."""
        return await self.tenant_categories.get(category_id, timeout=timeout)

    async def list_tenant_categories(
        self, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> Records[TenantCategory]:
        """Return a page of tenant categories, sorted by slug: `tenant_categories.list`."""
        return await self.tenant_categories.list(limit, offset, timeout=timeout)

    async def delete_tenant_category(
        self, category_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a tenant category: `tenant_categories.delete`."""
        return await self.tenant_categories.delete(category_id, force=force, timeout=timeout)

    @cached_property
    def tenants(self) -> Tenants:
        """Customers, whose users and data are apart from each other."""
        return Tenants(self._caller)

    create_tenant = Tenants.create
    update_tenant = Tenants.update

    async def get_tenant(self, tenant_id: str, *, timeout: float | None = None) -> Tenant:
        """Return a tenant: `tenants.get`."""
        return await self.tenants.get(tenant_id, timeout=timeout)

    async def list_tenants(
        self,
        status: Status | None = None,
        category_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        timeout: float | None = None,
    ) -> Records[Tenant]:
        """Return a page of tenants, sorted by slug: `tenants.list`."""
        return await self.tenants.list(limit, offset, status=status, category_id=category_id, timeout=timeout)

    async def delete_tenant(
        self, tenant_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a tenant: `tenants.delete`."""
        return await self.tenants.delete(tenant_id, force=force, timeout=timeout)

    @cached_property
    def subtypes(self) -> Subtypes:
        """Kinds of users and clients."""
        return Subtypes(self._caller)

    create_subtype = Subtypes.create
    update_subtype = Subtypes.update

    async def get_subtype(self, subtype_id: str, *, timeout: float | None = None) -> Subtype:
        """Return a subtype: `subtypes.get`."""
        return await self.subtypes.get(subtype_id, timeout=timeout)

    async def list_subtypes(
        self, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> Records[Subtype]:
        """Return a page of subtypes, sorted by slug: `subtypes.list`."""
        return await self.subtypes.list(limit, offset, timeout=timeout)

    async def delete_subtype(
        self, subtype_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a subtype: `subtypes.delete`."""
        return await self.subtypes.delete(subtype_id, force=force, timeout=timeout)

    @cached_property
    def pages(self) -> Pages:
        """Pages of applications."""
        return Pages(self._caller)

    create_page = Pages.create
    update_page = Pages.update

    async def get_page(self, page_id: str, *, timeout: float | None = None) -> Page:
        """Return a page: `pages.get`."""
        return await self.pages.get(page_id, timeout=timeout)

    async def list_pages(
        self,
        is_active: bool | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        timeout: float | None = None,
    ) -> Records[Page]:
        """Return a page of pages, sorted by path: `pages.list`."""
        return await self.pages.list(limit, offset, is_active=is_active, timeout=timeout)

    async def delete_page(
        self, page_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a page: `pages.delete`."""
        return await self.pages.delete(page_id, force=force, timeout=timeout)

    @cached_property
    def secure_tables(self) -> SecureTables:
        """Tables whose rows are touched with a reason only."""
        return SecureTables(self._caller)

    create_secure_table = SecureTables.create

    async def get_secure_table(self, secure_table_id: str, *, timeout: float | None = None) -> SecureTable:
        """Return a secure table: `secure_tables.get`."""
        return await self.secure_tables.get(secure_table_id, timeout=timeout)

    async def list_secure_tables(
        self, limit: int = 100, offset: int = 0, *, timeout: float | None = None
    ) -> Records[SecureTable]:
        """Return a page of secure tables, sorted by name: `secure_tables.list`."""
        return await self.secure_tables.list(limit, offset, timeout=timeout)

    async def delete_secure_table(
        self, secure_table_id: str, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Make a table plain again: `secure_tables.delete`."""
        return await self.secure_tables.delete(secure_table_id, force=force, timeout=timeout)
