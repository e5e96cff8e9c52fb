"""The flat names of the published interface: `auth.get_role(role_id)` is `auth.roles.get(role_id)`.

A name is an assignment where the parameters are the same, a method of one line where an id has a name of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from dominus.contract.guardian.derive import LinksChanged, RecordDeleted, Records
from dominus.contract.guardian.entities import Role, Scope
from dominus.namespaces.base import Namespace
from dominus.namespaces.guardian import Roles, Scopes

__all__ = ["GuardianNames"]


class GuardianNames(Namespace):
    """Who may do what: scopes, and the roles that give them."""

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

    async def get_role_scopes(self, role_id: str, *, timeout: float | None = None) -> list[Scope]:
        """Return the scopes of a role: `roles.scopes.list`."""
        return await self.roles.scopes.list(role_id, timeout=timeout)

    async def add_role_scopes(
        self, role_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Give a role scopes: `roles.scopes.add`."""
        return await self.roles.scopes.add(role_id, scope_ids, timeout=timeout)

    async def remove_role_scopes(
        self, role_id: str, scope_ids: Sequence[str], *, timeout: float | None = None
    ) -> LinksChanged:
        """Take scopes from a role: `roles.scopes.remove`."""
        return await self.roles.scopes.remove(role_id, scope_ids, timeout=timeout)
