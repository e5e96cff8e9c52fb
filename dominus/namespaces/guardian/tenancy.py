"""dominus.auth.tenants, .tenant_categories and .subtypes: who there is. Written as those of `rights`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property

from dominus.contract.guardian import entities as contract
from dominus.contract.guardian.records import MAX_RECORDS, Records
from dominus.namespaces.base import Namespace
from dominus.namespaces.entity import EntityNamespace
from dominus.namespaces.link import LinkNamespace

__all__ = ["Subtypes", "TenantCategories", "Tenants"]


class TenantCategories(EntityNamespace[contract.TenantCategory]):
    """Kinds of tenants."""

    _calls = contract.TENANT_CATEGORIES

    async def create(
        self: Namespace,
        name: str,
        slug: str,
        description: str | None = None,
        color: str = "#3B82F6",
        *,
        timeout: float | None = None,
    ) -> contract.TenantCategory:
        """Create a tenant category.

        Args:
            name: what people call it, 1 to 100 characters.
            slug: what programs call it, for good; unique, 1 to 50 of `a-z0-9`, with single `-` or `_` between them.
            description: up to 1,000 characters.
            color: `#` and six hexadecimal digits.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a category of this slug (code `already_exists`).

        Example:
            ```python
            await dominus.auth.tenant_categories.create("Museums", "museums")
            await dominus.auth.create_tenant_category("Parks", "parks", color="#00AA55")  # its flat name
            ```
        """
        fields = {"name": name, "slug": slug, "description": description, "color": color}
        return await self._ask(contract.TENANT_CATEGORIES.create, timeout, **fields)

    async def update(
        self: Namespace,
        category_id: str,
        name: str | None = None,
        description: str | None = None,
        color: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.TenantCategory:
        """Change a tenant category. None leaves a field as it is.

        Args:
            category_id: its `id`.
            name: 1 to 100 characters.
            description: up to 1,000 characters; "" empties it.
            color: `#` and six hexadecimal digits.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.

        Example:
            ```python
            category = await dominus.auth.tenant_categories.create("Clinics", "clinics")
            await dominus.auth.tenant_categories.update(category["id"], color="#AA0055")
            await dominus.auth.update_tenant_category(category["id"], name="Hospitals")  # its flat name
            ```
        """
        fields = {"category_id": category_id, "name": name, "description": description, "color": color}
        return await self._ask(contract.TENANT_CATEGORIES.update, timeout, **fields)


class Tenants(EntityNamespace[contract.Tenant]):
    """Customers, whose users and data are apart from each other."""

    _calls = contract.TENANTS

    async def create(
        self: Namespace,
        name: str,
        slug: str,
        category_id: str | None = None,
        display_name: str | None = None,
        description: str | None = None,
        *,
        registration_open: bool = False,
        timeout: float | None = None,
    ) -> contract.Tenant:
        """Create a tenant, with the status `active`.

        Args:
            name: what people call it, 1 to 100 characters.
            slug: what programs call it, for good; unique, 1 to 50 of `a-z0-9`, with single `-` or `_` between them.
            category_id: of an existing category, for good.
            display_name: what its own people see, 1 to 100 characters.
            description: up to 1,000 characters, for good.
            registration_open: whether people may register themselves as its users.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a tenant of this slug (code `already_exists`).
            NotFoundError: there is no such category.

        Example:
            ```python
            await dominus.auth.tenants.create("City Museum", "city-museum")
            await dominus.auth.create_tenant("Town Museum", "town-museum")  # its flat name
            ```
        """
        fields = {"name": name, "slug": slug, "category_id": category_id, "display_name": display_name}
        more = {"description": description, "registration_open": registration_open}
        return await self._ask(contract.TENANTS.create, timeout, **fields, **more)

    async def list(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        status: contract.Status | None = None,
        category_id: str | None = None,
        timeout: float | None = None,
    ) -> Records[contract.Tenant]:
        """Return a page of tenants, sorted by slug, and the number of all that fit: `{"items", "total"}`.

        Args:
            limit: 1 to 1,000 tenants.
            offset: so many are left out before them, 0 or more.
            status: only those that are `active`, `inactive` or `suspended`; all without it.
            category_id: only those of a category; all without it.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            suspended = await dominus.auth.tenants.list(limit=10, status="suspended")
            slugs = [tenant["slug"] for tenant in suspended["items"]]
            ```
        """
        fields = {"status": status, "category_id": category_id, "limit": limit, "offset": offset}
        return await self._ask(contract.TENANTS.list, timeout, **fields)

    async def iterate(
        self,
        page_size: int = MAX_RECORDS,
        *,
        status: contract.Status | None = None,
        category_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[contract.Tenant]:
        """Walk over all tenants that fit, sorted by slug; nothing is missed or repeated while others come and go.

        Args:
            page_size: read in one call, 1 to 1,000.
            status: only those that are `active`, `inactive` or `suspended`; all without it.
            category_id: only those of a category; all without it.
            timeout: seconds for each call; the client's without it.

        Example:
            ```python
            active = [tenant async for tenant in dominus.auth.tenants.iterate(status="active")]
            ```
        """
        async for tenant in self._walk(page_size, timeout, status=status, category_id=category_id):
            yield tenant

    async def update(
        self: Namespace,
        tenant_id: str,
        name: str | None = None,
        display_name: str | None = None,
        status: contract.Status | None = None,
        *,
        registration_open: bool | None = None,
        timeout: float | None = None,
    ) -> contract.Tenant:
        """Change a tenant. None leaves a field as it is.

        Args:
            tenant_id: its `id`.
            name: what people call it, 1 to 100 characters.
            display_name: what its own people see, 1 to 100 characters.
            status: `active`, `inactive` or `suspended`.
            registration_open: whether people may register themselves as its users.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.

        Example:
            ```python
            tenant = await dominus.auth.tenants.create("Sea Museum", "sea-museum")
            await dominus.auth.tenants.update(tenant["id"], registration_open=True)
            await dominus.auth.update_tenant(tenant["id"], status="suspended")  # its flat name
            ```
        """
        fields = {"tenant_id": tenant_id, "name": name, "display_name": display_name, "status": status}
        return await self._ask(
            contract.TENANTS.update, timeout, **fields, registration_open=registration_open
        )


class Subtypes(EntityNamespace[contract.Subtype]):
    """Kinds of users and clients."""

    _calls = contract.SUBTYPES

    @cached_property
    def tenants(self) -> LinkNamespace[contract.Tenant]:
        """The tenants that a subtype is meant for."""
        return LinkNamespace(self._caller, contract.SUBTYPE_TENANTS)

    @cached_property
    def categories(self) -> LinkNamespace[contract.TenantCategory]:
        """The tenant categories that a subtype is meant for."""
        return LinkNamespace(self._caller, contract.SUBTYPE_CATEGORIES)

    @cached_property
    def scopes(self) -> LinkNamespace[contract.Scope]:
        """The scopes that a subtype gives."""
        return LinkNamespace(self._caller, contract.SUBTYPE_SCOPES)

    async def create(
        self: Namespace,
        name: str,
        slug: str,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Subtype:
        """Create a subtype.

        Args:
            name: what people call it, 1 to 100 characters.
            slug: what programs call it, for good; unique, 1 to 50 of `a-z0-9`, with single `-` or `_` between them.
            description: up to 1,000 characters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a subtype of this slug (code `already_exists`).

        Example:
            ```python
            await dominus.auth.subtypes.create("Guides", "guides")
            await dominus.auth.create_subtype("Visitors", "visitors")  # its flat name
            ```
        """
        fields = {"name": name, "slug": slug, "description": description}
        return await self._ask(contract.SUBTYPES.create, timeout, **fields)

    async def update(
        self: Namespace,
        subtype_id: str,
        name: str | None = None,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Subtype:
        """Change a subtype. None leaves a field as it is.

        Args:
            subtype_id: its `id`.
            name: 1 to 100 characters.
            description: up to 1,000 characters; "" empties it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.

        Example:
            ```python
            subtype = await dominus.auth.subtypes.create("Wardens", "wardens")
            await dominus.auth.subtypes.update(subtype["id"], description="Look after the halls.")
            await dominus.auth.update_subtype(subtype["id"], name="Keepers")  # its flat name
            ```
        """
        fields = {"subtype_id": subtype_id, "name": name, "description": description}
        return await self._ask(contract.SUBTYPES.update, timeout, **fields)
