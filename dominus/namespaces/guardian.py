"""dominus.auth.roles, .scopes ...: one namespace for each kind of record."""

from __future__ import annotations

from functools import cached_property

from dominus.contract.guardian import entities as contract
from dominus.namespaces.base import Namespace
from dominus.namespaces.entity import EntityNamespace
from dominus.namespaces.link import LinkNamespace

__all__ = ["Roles", "Scopes"]

# `create` and `update` take any namespace as `self`: `auth.create_role` is the same function as `auth.roles.create`.


class Scopes(EntityNamespace[contract.Scope]):
    """The rights that roles give."""

    _calls = contract.SCOPES

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
