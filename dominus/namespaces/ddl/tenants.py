"""dominus.ddl: the schemas of tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dominus.contract import ddl as contract
from dominus.contract.request import Empty
from dominus.namespaces.base import Namespace

__all__ = ["Tenants"]

SLICE = 20
"""So many tenants are brought up to date between two calls of `progress`."""


class Tenants(Namespace):
    """The schemas of tenants, `tenant_{slug}`."""

    async def provision_tenant(
        self, tenant_slug: str, category_slug: str | None = None, *, timeout: float | None = None
    ) -> contract.Provisioned:
        """Make a tenant's schema, `tenant_{slug}`, with the tables of its category: all of it or nothing.

        The tenant's record is made where there is none (`dominus.auth.tenants`).

        Args:
            tenant_slug: of which tenant.
            category_slug: whose tables it gets; without it those of the category that its record names, if any.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: it has a schema, or is of another category.
            NotFoundError: there is no such category.

        Example:
            ```python
            made = await dominus.ddl.provision_tenant("dale", category_slug="schools")
            print(made["schema"], made["version"])
            ```
        """
        if category_slug is not None:
            return await self.provision_from_category(tenant_slug, category_slug, timeout=timeout)
        request = contract.Provision(tenant_slug=tenant_slug)
        return await self._call(contract.PROVISION_TENANT, request, timeout=timeout)

    async def provision_from_category(
        self, tenant_slug: str, category_slug: str, *, timeout: float | None = None
    ) -> contract.Provisioned:
        """Make a tenant's schema with the tables of a category: `provision_tenant(slug, category_slug=)`.

        Args:
            tenant_slug: of which tenant.
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: it has a schema, or is of another category.
            NotFoundError: there is no such category.

        Example:
            ```python
            await dominus.ddl.provision_from_category("dale", "schools")
            ```
        """
        request = contract.ProvisionFromCategory(tenant_slug=tenant_slug, category_slug=category_slug)
        return await self._call(contract.PROVISION_FROM_CATEGORY, request, timeout=timeout)

    async def deprovision_tenant(
        self, tenant_slug: str, cascade: bool = False, *, timeout: float | None = None
    ) -> contract.Provisioned:
        """Drop a tenant's schema and its history; its record stays. Needs the scope `ddl:admin`.

        Args:
            tenant_slug: of which tenant.
            cascade: drop whatever is in it; without it a schema with tables stays.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the tenant has no schema.
            ConflictError: there are tables in it, and `cascade` is not set.

        Example:
            ```python
            await dominus.ddl.deprovision_tenant("hill", cascade=True)
            ```
        """
        request = contract.Deprovision(tenant_slug=tenant_slug, cascade=cascade)
        return await self._call(contract.DEPROVISION_TENANT, request, timeout=timeout)

    async def provision_status(
        self, tenant_slug: str, *, timeout: float | None = None
    ) -> contract.Provisioned:
        """Say whether a tenant has a schema, and whether it is up to date.

        `status` is `synced`, `pending`, `failed` or `not_provisioned`.

        Args:
            tenant_slug: of which tenant.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print((await dominus.ddl.provision_status("hill"))["status"])
            ```
        """
        request = contract.OfTenant(tenant_slug=tenant_slug)
        return await self._call(contract.PROVISION_STATUS, request, timeout=timeout)

    async def list_provisions(self, *, timeout: float | None = None) -> list[contract.Provisioned]:
        """List the tenants that have a schema.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print([tenant["schema"] for tenant in await dominus.ddl.list_provisions()])
            ```
        """
        return await self._call(contract.LIST_PROVISIONS, Empty(), timeout=timeout)

    async def list_categories(self, *, timeout: float | None = None) -> list[contract.CategoryStatus]:
        """List the categories of tenants, with the numbers of tenants and migrations.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print([category["slug"] for category in await dominus.ddl.list_categories()])
            ```
        """
        return await self._call(contract.LIST_CATEGORIES, Empty(), timeout=timeout)

    async def category_status(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.CategoryStatus:
        """Count the tenants of a category: all, those with a schema, those up to date.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            print((await dominus.ddl.category_status("schools"))["synced_count"])
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.CATEGORY_STATUS, request, timeout=timeout)

    async def tenants_by_category(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.CategoryTenants:
        """List the tenants of a category, those without a schema too.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            print((await dominus.ddl.tenants_by_category("schools"))["total"])
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.TENANTS_BY_CATEGORY, request, timeout=timeout)

    async def get_tenant_sync_status(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.SyncStatus:
        """Say how far each tenant of a category is: as `category_sync_status`.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            print((await dominus.ddl.get_tenant_sync_status("schools"))["pending_count"])
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.GET_TENANT_SYNC_STATUS, request, timeout=timeout)

    async def sync_tenants_to_latest(
        self,
        category_slug: str,
        *,
        progress: Callable[[int, int], object] | None = None,
        timeout: float | None = None,
    ) -> contract.Synced:
        """Bring all tenants of a category up to date.

        Each tenant gets all that it lacks in one transaction, or nothing. However often it is broken off, another call
        goes on where it stopped; calls beside each other share the tenants.

        Args:
            category_slug: of which category.
            progress: called with (tenants that were tried, tenants that lacked something) as it goes on.
            timeout: seconds for the whole call; without it, the client's for each 20 tenants.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            done = await dominus.ddl.sync_tenants_to_latest("schools", progress=lambda n, of: print(n, "of", of))
            print(done["failed_count"], [tenant for tenant in done["results"] if tenant.get("error")])
            ```
        """
        ends_at = None if timeout is None else asyncio.get_running_loop().time() + timeout
        tried: dict[str, contract.TenantStatus] = {}
        while True:
            left = None if ends_at is None else max(0.001, ends_at - asyncio.get_running_loop().time())
            request = contract.SyncTenants(category_slug=category_slug, limit=SLICE)
            part = await self._call(contract.SYNC_TENANTS_TO_LATEST, request, timeout=left)
            new = {found.get("tenant_slug", ""): found for found in part["results"]}
            is_over = part["pending_count"] == 0 or new.keys() <= tried.keys()
            tried |= new
            outstanding = max(0, part["pending_count"] - len(tried.keys() - new.keys() - _synced(tried)))
            if progress is not None:
                progress(len(tried), len(tried) + (0 if is_over else outstanding))
            if is_over:
                return _whole(part, list(tried.values()))

    async def reset_tenant_schema(
        self, category_slug: str, tenant_slug: str, *, timeout: float | None = None
    ) -> contract.TenantReset:
        """Drop everything in a tenant's schema, and its history; a sync makes the tables again, empty.

        Needs the scope `ddl:admin`.

        Args:
            category_slug: of which category.
            tenant_slug: of which tenant.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the category has no such tenant with a schema.

        Example:
            ```python
            await dominus.ddl.reset_tenant_schema("schools", "hill")
            await dominus.ddl.sync_tenants_to_latest("schools")
            ```
        """
        request = contract.TenantOfCategory(category_slug=category_slug, tenant_slug=tenant_slug)
        return await self._call(contract.RESET_TENANT_SCHEMA, request, timeout=timeout)

    async def reset_category_schema(
        self, category_slug: str, *, timeout: float | None = None
    ) -> contract.CategoryReset:
        """Drop everything in the schemas of all tenants of a category, and delete its migrations.

        Needs the scope `ddl:admin`.

        Args:
            category_slug: of which category.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such category.

        Example:
            ```python
            await dominus.ddl.reset_category_schema("schools")
            ```
        """
        request = contract.OfCategory(category_slug=category_slug)
        return await self._call(contract.RESET_CATEGORY_SCHEMA, request, timeout=timeout)


def _synced(tried: dict[str, contract.TenantStatus]) -> set[str]:
    return {slug for slug, found in tried.items() if found.get("status") == "synced"}


def _whole(last: contract.Synced, results: list[contract.TenantStatus]) -> contract.Synced:
    done = sum(found.get("status") == "synced" for found in results)
    failed = sum(found.get("status") == "failed" for found in results)
    left = len(results) - done - failed
    said = f"{done} tenants were brought up to date, {failed} failed, {left} are left"
    return {
        "success": not failed and not left,
        "message": said,
        "latest_version": last["latest_version"],
        "total_tenants": last["total_tenants"],
        "synced_count": done,
        "failed_count": failed,
        "pending_count": left,
        "results": results,
    }
