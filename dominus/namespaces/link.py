"""What the namespaces of all links share: list, add, remove."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dominus.contract.guardian.records import LinkCalls, LinksChanged, ReplaceableCalls
from dominus.namespaces.base import Namespace, as_list

if TYPE_CHECKING:
    from dominus.caller import Caller

__all__ = ["LinkNamespace", "ReplaceableLinks"]

Row = TypeVar("Row")


class LinkNamespace(Namespace, Generic[Row]):
    """What belongs to a record, such as a role's scopes."""

    def __init__(self, caller: Caller, calls: LinkCalls[Row]) -> None:
        super().__init__(caller)
        self._calls = calls

    async def list(self, owner_id: str, /, *, timeout: float | None = None) -> builtins.list[Row]:
        """Return all that belongs to a record, sorted by name, slug or path.

        Args:
            owner_id: the `id` of the record, a UUID.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such record.

        Example:
            ```python
            role = await dominus.auth.roles.create("gardener")
            scopes = await dominus.auth.roles.scopes.list(role["id"])
            ```
        """
        return await self._ask(self._calls.get, timeout, **{self._calls.link.owner.id_field: owner_id})

    async def add(
        self, owner_id: str, ids: Sequence[str], /, *, timeout: float | None = None
    ) -> LinksChanged:
        """Add some to what belongs to a record: all or none. `added` counts those that were not there already.

        Args:
            owner_id: the `id` of the record, a UUID.
            ids: 1 to 1,000 ids of what is added.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the record, or some that are to be added, do not exist; `details["missing"]` lists them.

        Example:
            ```python
            role = await dominus.auth.roles.create("baker")
            scope = await dominus.auth.scopes.create("bread:bake", "Bake bread")
            await dominus.auth.roles.scopes.add(role["id"], [scope["id"]])
            ```
        """
        return await self._ask(self._calls.add, timeout, **self._named(owner_id, ids))

    async def remove(
        self, owner_id: str, ids: Sequence[str], /, *, timeout: float | None = None
    ) -> LinksChanged:
        """Remove some of what belongs to a record. `removed` counts those that were there.

        Args:
            owner_id: the `id` of the record, a UUID.
            ids: 1 to 1,000 ids of what is removed.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such record.

        Example:
            ```python
            role = await dominus.auth.roles.create("brewer")
            scope = await dominus.auth.scopes.create("beer:brew", "Brew beer")
            await dominus.auth.roles.scopes.remove(role["id"], [scope["id"]])
            ```
        """
        return await self._ask(self._calls.remove, timeout, **self._named(owner_id, ids))

    def _named(self, owner_id: str, ids: Sequence[str]) -> dict[str, Any]:
        link = self._calls.link
        return {link.owner.id_field: owner_id, link.ids_field: as_list(ids, link.ids_field)}


class ReplaceableLinks(LinkNamespace[Row]):
    """Links that can be replaced all at once."""

    def __init__(self, caller: Caller, calls: ReplaceableCalls[Row]) -> None:
        super().__init__(caller, calls)
        self._set = calls.set

    async def set(
        self, owner_id: str, ids: Sequence[str], /, *, timeout: float | None = None
    ) -> builtins.list[Row]:
        """Replace all that belongs to a record, and return what belongs to it now.

        Args:
            owner_id: the `id` of the record, a UUID.
            ids: up to 1,000 ids; `[]` leaves nothing.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: the record, or some of the others, do not exist; nothing has changed then.

        Example:
            ```python
            page = await dominus.auth.pages.create("/menu", "Menu")
            scope = await dominus.auth.scopes.create("menu:read", "Read the menu")
            await dominus.auth.pages.scopes.set(page["id"], [scope["id"]])
            ```
        """
        return await self._ask(self._set, timeout, **self._named(owner_id, ids))
