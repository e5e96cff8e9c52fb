"""The flat names of links in the published interface: `auth.add_role_scopes` is `auth.roles.scopes.add`."""

# Fourteen links, three or four names each, all typed: more lines than a file has otherwise.
from __future__ import annotations

from collections.abc import Sequence

from dominus.contract.guardian.entities import Role, Scope, Subtype, Tenant, TenantCategory
from dominus.contract.guardian.records import LinksChanged
from dominus.namespaces.guardian.names import EntityNames

__all__ = ["LinkNames"]


class LinkNames(EntityNames):
    """Every link under a flat name; what each does and raises is told at `LinkNamespace`."""

    async def get_role_scopes(self, role_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a role: `roles.scopes.list`."""
        return await self.roles.scopes.list(role_id, timeout=timeout)

    async def add_role_scopes(
        self, role_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a role: `roles.scopes.add`."""
        return await self.roles.scopes.add(role_id, scope_ids, timeout=timeout)

    async def remove_role_scopes(
        self, role_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a role: `roles.scopes.remove`."""
        return await self.roles.scopes.remove(role_id, scope_ids, timeout=timeout)

    async def get_role_tenants(self, role_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a role: `roles.tenants.list`."""
        return await self.roles.tenants.list(role_id, timeout=timeout)

    async def add_role_tenants(
        self, role_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a role: `roles.tenants.add`."""
        return await self.roles.tenants.add(role_id, tenant_ids, timeout=timeout)

    async def remove_role_tenants(
        self, role_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a role: `roles.tenants.remove`."""
        return await self.roles.tenants.remove(role_id, tenant_ids, timeout=timeout)

    async def get_role_categories(
        self, role_id: str, *, timeout: float | None = None
    ) -> list[TenantCategory]:
        """Return the categories of a role: `roles.categories.list`."""
        return await self.roles.categories.list(role_id, timeout=timeout)

    async def add_role_categories(
        self, role_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add categories to a role: `roles.categories.add`."""
        return await self.roles.categories.add(role_id, category_ids, timeout=timeout)

    async def remove_role_categories(
        self, role_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove categories from a role: `roles.categories.remove`."""
        return await self.roles.categories.remove(role_id, category_ids, timeout=timeout)

    async def get_role_subtypes(self, role_id: str, *, timeout: float | None = None) -> list[Subtype]:
        """Return the subtypes of a role: `roles.subtypes.list`."""
        return await self.roles.subtypes.list(role_id, timeout=timeout)

    async def add_role_subtypes(
        self, role_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add subtypes to a role: `roles.subtypes.add`."""
        return await self.roles.subtypes.add(role_id, subtype_ids, timeout=timeout)

    async def remove_role_subtypes(
        self, role_id: str, subtype_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove subtypes from a role: `roles.subtypes.remove`."""
        return await self.roles.subtypes.remove(role_id, subtype_ids, timeout=timeout)

    async def get_scope_tenants(self, scope_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a scope: `scopes.tenants.list`."""
        return await self.scopes.tenants.list(scope_id, timeout=timeout)

    async def add_scope_tenants(
        self, scope_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a scope: `scopes.tenants.add`."""
        return await self.scopes.tenants.add(scope_id, tenant_ids, timeout=timeout)

    async def remove_scope_tenants(
        self, scope_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a scope: `scopes.tenants.remove`."""
        return await self.scopes.tenants.remove(scope_id, tenant_ids, timeout=timeout)

    async def get_scope_categories(
        self, scope_id: str, *, timeout: float | None = None
    ) -> list[TenantCategory]:
        """Return the categories of a scope: `scopes.categories.list`."""
        return await self.scopes.categories.list(scope_id, timeout=timeout)

    async def add_scope_categories(
        self, scope_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add categories to a scope: `scopes.categories.add`."""
        return await self.scopes.categories.add(scope_id, category_ids, timeout=timeout)

    async def remove_scope_categories(
        self, scope_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove categories from a scope: `scopes.categories.remove`."""
        return await self.scopes.categories.remove(scope_id, category_ids, timeout=timeout)

    async def get_subtype_tenants(self, subtype_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a subtype: `subtypes.tenants.list`."""
        return await self.subtypes.tenants.list(subtype_id, timeout=timeout)

    async def add_subtype_tenants(
        self, subtype_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a subtype: `subtypes.tenants.add`."""
        return await self.subtypes.tenants.add(subtype_id, tenant_ids, timeout=timeout)

    async def remove_subtype_tenants(
        self, subtype_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a subtype: `subtypes.tenants.remove`."""
        return await self.subtypes.tenants.remove(subtype_id, tenant_ids, timeout=timeout)

    async def get_subtype_categories(
        self, subtype_id: str, *, timeout: float | None = None
    ) -> list[TenantCategory]:
        """Return the categories of a subtype: `subtypes.categories.list`."""
        return await self.subtypes.categories.list(subtype_id, timeout=timeout)

    async def add_subtype_categories(
        self, subtype_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add categories to a subtype: `subtypes.categories.add`."""
        return await self.subtypes.categories.add(subtype_id, category_ids, timeout=timeout)

    async def remove_subtype_categories(
        self, subtype_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove categories from a subtype: `subtypes.categories.remove`."""
        return await self.subtypes.categories.remove(subtype_id, category_ids, timeout=timeout)

    async def get_subtype_scopes(self, subtype_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a subtype: `subtypes.scopes.list`."""
        return await self.subtypes.scopes.list(subtype_id, timeout=timeout)

    async def add_subtype_scopes(
        self, subtype_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a subtype: `subtypes.scopes.add`."""
        return await self.subtypes.scopes.add(subtype_id, scope_ids, timeout=timeout)

    async def remove_subtype_scopes(
        self, subtype_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a subtype: `subtypes.scopes.remove`."""
        return await self.subtypes.scopes.remove(subtype_id, scope_ids, timeout=timeout)

    async def get_page_tenants(self, page_id: str, *, timeout: float | None = None) -> list[Tenant]:
        """Return the tenants of a page: `pages.tenants.list`."""
        return await self.pages.tenants.list(page_id, timeout=timeout)

    async def add_page_tenants(
        self, page_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add tenants to a page: `pages.tenants.add`."""
        return await self.pages.tenants.add(page_id, tenant_ids, timeout=timeout)

    async def remove_page_tenants(
        self, page_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove tenants from a page: `pages.tenants.remove`."""
        return await self.pages.tenants.remove(page_id, tenant_ids, timeout=timeout)

    async def set_page_tenants(
        self, page_id: str, tenant_ids: Sequence[str], *, timeout: float | None = None
    ) -> list[Tenant]:
        """Replace all tenants of a page: `pages.tenants.set`."""
        return await self.pages.tenants.set(page_id, tenant_ids, timeout=timeout)

    async def get_page_scopes(self, page_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a page: `pages.scopes.list`."""
        return await self.pages.scopes.list(page_id, timeout=timeout)

    async def add_page_scopes(
        self, page_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a page: `pages.scopes.add`."""
        return await self.pages.scopes.add(page_id, scope_ids, timeout=timeout)

    async def remove_page_scopes(
        self, page_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a page: `pages.scopes.remove`."""
        return await self.pages.scopes.remove(page_id, scope_ids, timeout=timeout)

    async def set_page_scopes(
        self, page_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> list[Scope]:
        """Replace all scopes of a page: `pages.scopes.set`."""
        return await self.pages.scopes.set(page_id, scope_ids, timeout=timeout)

    async def get_page_categories(
        self, page_id: str, *, timeout: float | None = None
    ) -> list[TenantCategory]:
        """Return the categories of a page: `pages.categories.list`."""
        return await self.pages.categories.list(page_id, timeout=timeout)

    async def add_page_categories(
        self, page_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add categories to a page: `pages.categories.add`."""
        return await self.pages.categories.add(page_id, category_ids, timeout=timeout)

    async def remove_page_categories(
        self, page_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove categories from a page: `pages.categories.remove`."""
        return await self.pages.categories.remove(page_id, category_ids, timeout=timeout)

    async def set_page_categories(
        self, page_id: str, category_ids: Sequence[str], *, timeout: float | None = None
    ) -> list[TenantCategory]:
        """Replace all categories of a page: `pages.categories.set`."""
        return await self.pages.categories.set(page_id, category_ids, timeout=timeout)

    async def get_page_excluded_scopes(self, page_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the excluded scopes of a page: `pages.excluded_scopes.list`."""
        return await self.pages.excluded_scopes.list(page_id, timeout=timeout)

    async def add_page_excluded_scopes(
        self, page_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add excluded scopes to a page: `pages.excluded_scopes.add`."""
        return await self.pages.excluded_scopes.add(page_id, scope_ids, timeout=timeout)

    async def remove_page_excluded_scopes(
        self, page_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove excluded scopes from a page: `pages.excluded_scopes.remove`."""
        return await self.pages.excluded_scopes.remove(page_id, scope_ids, timeout=timeout)

    async def set_page_excluded_scopes(
        self, page_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> list[Scope]:
        """Replace all excluded scopes of a page: `pages.excluded_scopes.set`."""
        return await self.pages.excluded_scopes.set(page_id, scope_ids, timeout=timeout)

    async def get_page_excluded_roles(self, page_id: str, *, timeout: float | None = None) -> list[Role]:
        """Return the excluded roles of a page: `pages.excluded_roles.list`."""
        return await self.pages.excluded_roles.list(page_id, timeout=timeout)

    async def add_page_excluded_roles(
        self, page_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add excluded roles to a page: `pages.excluded_roles.add`."""
        return await self.pages.excluded_roles.add(page_id, role_ids, timeout=timeout)

    async def remove_page_excluded_roles(
        self, page_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove excluded roles from a page: `pages.excluded_roles.remove`."""
        return await self.pages.excluded_roles.remove(page_id, role_ids, timeout=timeout)

    async def set_page_excluded_roles(
        self, page_id: str, role_ids: Sequence[str], *, timeout: float | None = None
    ) -> list[Role]:
        """Replace all excluded roles of a page: `pages.excluded_roles.set`."""
        return await self.pages.excluded_roles.set(page_id, role_ids, timeout=timeout)

    async def get_secure_table_scopes(
        self, secure_table_id: str, *, timeout: float | None = None
    ) -> list[Scope]:
        """Return the scopes of a secure table: `secure_tables.scopes.list`."""
        return await self.secure_tables.scopes.list(secure_table_id, timeout=timeout)

    async def add_secure_table_scopes(
        self, secure_table_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Add scopes to a secure table: `secure_tables.scopes.add`."""
        return await self.secure_tables.scopes.add(secure_table_id, scope_ids, timeout=timeout)

    async def remove_secure_table_scopes(
        self, secure_table_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove scopes from a secure table: `secure_tables.scopes.remove`."""
        return await self.secure_tables.scopes.remove(secure_table_id, scope_ids, timeout=timeout)
