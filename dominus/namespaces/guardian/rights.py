"""dominus.auth.scopes, .roles and .pages: rights, and what they open.

`create` and `update` are written out, since their parameters are the record's own; all else is inherited. They take
any namespace as `self`: `auth.create_role` is the very function that `auth.roles.create` is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cached_property

from dominus.contract.guardian import entities as contract
from dominus.contract.guardian.records import MAX_RECORDS, Records
from dominus.namespaces.base import Namespace, as_list
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
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a scope of this slug (code `already_exists`).

        Example:
            ```python
            await dominus.auth.scopes.create("notes:read", "Read notes")
            await dominus.auth.create_scope("notes:write", "Write notes")  # its flat name
            ```
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
        """Change a scope. None leaves a field as it is.

        Args:
            scope_id: its `id`.
            slug: another, not taken; 1 to 100 letters, digits and `._:/-`.
            display_name: 1 to 100 characters.
            description: up to 1,000 characters; "" empties it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: there is another scope of this slug (code `already_exists`).

        Example:
            ```python
            scope = await dominus.auth.scopes.create("letters:read", "Read")
            await dominus.auth.scopes.update(scope["id"], display_name="Read letters")
            await dominus.auth.update_scope(scope["id"], slug="letters:open")  # its flat name
            ```
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
        self: Namespace,
        name: str,
        description: str | None = None,
        *,
        scope_slugs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> contract.Role:
        """Create a role; `roles.scopes.add` gives it more scopes.

        Args:
            name: unique, 1 to 100 characters.
            description: up to 1,000 characters.
            scope_slugs: the slugs of the scopes that it begins with; all exist, or nothing is made. None without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a role of this name (code `already_exists`).
            NotFoundError: there is no scope of one of the slugs; `details["missing"]` lists them.

        Example:
            ```python
            await dominus.auth.roles.create("author", "Writes articles.")
            await dominus.auth.create_role("reviewer")  # its flat name
            await dominus.auth.scopes.create("proofs:read", "Read proofs")
            await dominus.auth.add_role(name="proof reader", scope_slugs=["proofs:read"])
            ```
        """
        slugs = None if scope_slugs is None else as_list(scope_slugs, "scope_slugs")
        fields = {"name": name, "description": description, "scope_slugs": slugs}
        return await self._ask(contract.ROLES.create, timeout, **fields)

    async def update(
        self: Namespace,
        role_id: str,
        name: str | None = None,
        description: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.Role:
        """Change a role. None leaves a field as it is.

        Args:
            role_id: its `id`.
            name: another, not taken; 1 to 100 characters.
            description: up to 1,000 characters; "" empties it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: there is another role of this name (code `already_exists`).

        Example:
            ```python
            role = await dominus.auth.roles.create("printer")
            await dominus.auth.roles.update(role["id"], description="Prints articles.")
            await dominus.auth.update_role(role["id"], name="typesetter")  # its flat name
            ```
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
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: there is a page of this path (code `already_exists`).

        Example:
            ```python
            await dominus.auth.pages.create("/notes", "Notes")
            await dominus.auth.create_page("/drafts", "Drafts", show_in_nav=False)  # its flat name
            ```
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
            limit: 1 to 1,000 pages.
            offset: so many are left out before them, 0 or more.
            is_active: only those that are, or are not; all without it.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            active = await dominus.auth.pages.list(limit=10, is_active=True)
            paths = [page["path"] for page in active["items"]]
            ```
        """
        return await self._ask(contract.PAGES.list, timeout, is_active=is_active, limit=limit, offset=offset)

    async def iterate(
        self,
        page_size: int = MAX_RECORDS,
        *,
        is_active: bool | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[contract.Page]:
        """Walk over all pages that fit, sorted by path; nothing is missed or repeated while others come and go.

        Args:
            page_size: read in one call, 1 to 1,000.
            is_active: only those that are, or are not; all without it.
            timeout: seconds for each call; the client's without it.

        Example:
            ```python
            hidden = [page async for page in dominus.auth.pages.iterate(is_active=False)]
            ```
        """
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
        """Change a page. None leaves a field as it is.

        Args:
            page_id: its `id`.
            path: another, not taken; begins with `/`, up to 500 characters.
            name: 1 to 100 characters.
            description: up to 1,000 characters; "" empties it.
            is_active: whether it can be opened.
            show_in_nav: whether navigation shows it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: there is another page of this path (code `already_exists`).

        Example:
            ```python
            page = await dominus.auth.pages.create("/news", "News")
            await dominus.auth.pages.update(page["id"], name="What is new")
            await dominus.auth.update_page(page["id"], is_active=False)  # its flat name
            ```
        """
        fields = {"page_id": page_id, "path": path, "name": name, "description": description}
        return await self._ask(
            contract.PAGES.update, timeout, **fields, is_active=is_active, show_in_nav=show_in_nav
        )
