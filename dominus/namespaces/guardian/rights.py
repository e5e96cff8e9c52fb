"""dominus.auth.scopes, .roles and .pages: rights, and what they open.

`create` and `update` are written out, since their parameters are the record's own; all else is inherited. They take
any namespace as `self`: `auth.create_role` is the very function that `auth.roles.create` is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property

from dominus.contract.guardian import entities as contract
from dominus.contract.guardian.records import MAX_RECORDS, Records
from dominus.namespaces.base import Namespace
from dominus.namespaces.entity import EntityNamespace
from dominus.namespaces.link import LinkNamespace, ReplaceableLinks

__all__ = ["Pages", "Roles", "Scopes"]


class Scopes(EntityNamespace[contract.Scope]):
    """The rights that roles give."""

    _calls = contract.SCOPES

    @cached_property
    def tenants(self) -> LinkNamespace[contract.Tenant]:
        """The tenants that a scope is meant for."""
        return LinkNamespace(self._caller, contract.SCOPE_TENANTS)

    @cached_property
    def categories(self) -> LinkNamespace[contract.TenantCategory]:
        """The tenant categories that a scope is meant for."""
        return LinkNamespace(self._caller, contract.SCOPE_CATEGORIES)

    async def create(
        self: Namespace,
        slug: str,
        display_name: str,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Scope:
        """Create a scope.

        Args:
            slug: what programs call it, such as `articles:write`; unique, 1 to 100 letters, digits and `._:/-`.
            display_name: what people call it, 1 to 100 characters.
            description: up to 1,000 characters.
            timeout: seconds for the whole call.

        Raises:
            ConflictError: there is a scope of this slug (code `already_exists`).
        """
        fields = {"slug": slug, "display_name": display_name, "description": description}
        return await self._ask(contract.SCOPES.create, timeout, **fields)

    async def update(
        self: Namespace,
        scope_id: str,
        slug: str | None = None,
        display_name: str | None = None,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Scope:
        """Change what is given of a scope; limits as for `create`. None leaves as it is, "" empties a description.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: there is another scope of this slug (code `already_exists`).
        """
        fields = {"slug": slug, "display_name": display_name, "description": description}
        return await self._ask(contract.SCOPES.update, timeout, scope_id=scope_id, **fields)


class Roles(EntityNamespace[contract.Role]):
    """Named sets of scopes."""

    _calls = contract.ROLES

    @cached_property
    def scopes(self) -> LinkNamespace[contract.Scope]:
        """The scopes that a role gives."""
        return LinkNamespace(self._caller, contract.ROLE_SCOPES)

    @cached_property
    def tenants(self) -> LinkNamespace[contract.Tenant]:
        """The tenants that a role is meant for."""
        return LinkNamespace(self._caller, contract.ROLE_TENANTS)

    @cached_property
    def categories(self) -> LinkNamespace[contract.TenantCategory]:
        """The tenant categories that a role is meant for."""
        return LinkNamespace(self._caller, contract.ROLE_CATEGORIES)

    @cached_property
    def subtypes(self) -> LinkNamespace[contract.Subtype]:
        """The kinds of users and clients that a role is meant for."""
        return LinkNamespace(self._caller, contract.ROLE_SUBTYPES)

    async def create(
        self: Namespace, name: str, description: str | None = None, *, timeout: float | None = None
    ) -> contract.Role:
        """Create a role, without scopes: `roles.scopes.add` gives it some.

        Args:
            name: unique, 1 to 100 characters.
            description: up to 1,000 characters.
            timeout: seconds for the whole call.

        Raises:
            ConflictError: there is a role of this name (code `already_exists`).
        """
        return await self._ask(contract.ROLES.create, timeout, name=name, description=description)

    async def update(
        self: Namespace,
        role_id: str,
        name: str | None = None,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Role:
        """Change what is given of a role; limits as for `create`. None leaves as it is, "" empties a description.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: there is another role of this name (code `already_exists`).
        """
        fields = {"name": name, "description": description}
        return await self._ask(contract.ROLES.update, timeout, role_id=role_id, **fields)


class Pages(EntityNamespace[contract.Page]):
    """Pages of applications."""

    _calls = contract.PAGES

    @cached_property
    def tenants(self) -> ReplaceableLinks[contract.Tenant]:
        """The tenants that see a page."""
        return ReplaceableLinks(self._caller, contract.PAGE_TENANTS)

    @cached_property
    def scopes(self) -> ReplaceableLinks[contract.Scope]:
        """The scopes that open a page."""
        return ReplaceableLinks(self._caller, contract.PAGE_SCOPES)

    @cached_property
    def categories(self) -> ReplaceableLinks[contract.TenantCategory]:
        """The tenant categories that see a page."""
        return ReplaceableLinks(self._caller, contract.PAGE_CATEGORIES)

    @cached_property
    def excluded_scopes(self) -> ReplaceableLinks[contract.Scope]:
        """The scopes that close a page to those who have one of them."""
        return ReplaceableLinks(self._caller, contract.PAGE_EXCLUDED_SCOPES)

    @cached_property
    def excluded_roles(self) -> ReplaceableLinks[contract.Role]:
        """The roles that close a page to those who have one of them."""
        return ReplaceableLinks(self._caller, contract.PAGE_EXCLUDED_ROLES)

    async def create(
        self: Namespace,
        path: str,
        name: str,
        description: str | None = None,
        is_active: bool = True,
        show_in_nav: bool = True,
        *,
        timeout: float | None = None,
    ) -> contract.Page:
        """Create a page.

        Args:
            path: begins with `/`, up to 500 characters; unique.
            name: what people call it, 1 to 100 characters.
            description: up to 1,000 characters.
            is_active: whether it can be opened.
            show_in_nav: whether navigation shows it.
            timeout: seconds for the whole call.

        Raises:
            ConflictError: there is a page of this path (code `already_exists`).
        """
        fields = {"path": path, "name": name, "description": description}
        return await self._ask(
            contract.PAGES.create, timeout, **fields, is_active=is_active, show_in_nav=show_in_nav
        )

    async def list(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        is_active: bool | None = None,
        timeout: float | None = None,
    ) -> Records[contract.Page]:
        """Return a page of pages, sorted by path, and the number of all that fit: `{"items", "total"}`.

        Args:
            limit: 1 to 1,000.
            offset: so many are left out before it.
            is_active: only those that are, or are not.
            timeout: seconds for the whole call.
        """
        return await self._ask(contract.PAGES.list, timeout, is_active=is_active, limit=limit, offset=offset)

    async def iterate(
        self,
        page_size: int = MAX_RECORDS,
        *,
        is_active: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[contract.Page]:
        """Walk over all pages that fit, as `list` takes them, 1 to 1,000 a call."""
        async for page in self._walk(page_size, timeout, is_active=is_active):
            yield page

    async def update(
        self: Namespace,
        page_id: str,
        path: str | None = None,
        name: str | None = None,
        description: str | None = None,
        is_active: bool | None = None,
        show_in_nav: bool | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Page:
        """Change what is given of a page; limits as for `create`. None leaves as it is, "" empties a description.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: there is another page of this path (code `already_exists`).
        """
        fields = {"page_id": page_id, "path": path, "name": name, "description": description}
        return await self._ask(
            contract.PAGES.update, timeout, **fields, is_active=is_active, show_in_nav=show_in_nav
        )
