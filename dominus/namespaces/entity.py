"""What the namespaces of all entities share: read, list, walk, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Generic, TypeVar

from dominus.contract.guardian.records import MAX_RECORDS, FixedCalls, RecordDeleted, Records
from dominus.namespaces.base import Namespace

__all__ = ["EntityNamespace"]

Row = TypeVar("Row")


class EntityNamespace(Namespace, Generic[Row]):
    """The records of one kind. Ids are UUIDs as text; every method raises ValidationError for what is none."""

    _calls: ClassVar[FixedCalls[Any]]

    async def get(self, record_id: str, /, *, timeout: float | None = None) -> Row:
        """Return a record.

        Args:
            record_id: its `id`, a UUID.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.

        Example:
            ```python
            made = await dominus.auth.roles.create("librarian")
            role = await dominus.auth.roles.get(made["id"])
            ```
        """
        return await self._ask(self._calls.get, timeout, **{self._calls.entity.id_field: record_id})

    async def list(self, limit: int = 100, offset: int = 0, *, timeout: float | None = None) -> Records[Row]:
        """Return a page of records, sorted by name, slug or path, and the number of all: `{"items", "total"}`.

        Args:
            limit: 1 to 1,000 records.
            offset: so many are left out before them, 0 or more.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            page = await dominus.auth.roles.list(limit=10)
            names = [role["name"] for role in page["items"]]
            ```
        """
        return await self._ask(self._calls.list, timeout, limit=limit, offset=offset)

    async def iterate(
        self, page_size: int = MAX_RECORDS, *, timeout: float | None = None
    ) -> AsyncIterator[Row]:
        """Walk over all records, sorted by name, slug or path.

        Each page goes on after the last record of the one before: while others come and go, nothing is missed or
        repeated.

        Args:
            page_size: read in one call, 1 to 1,000.
            timeout: seconds for each call; the client's without it.

        Example:
            ```python
            async for role in dominus.auth.roles.iterate():
                print(role["name"])
            ```
        """
        async for record in self._walk(page_size, timeout):
            yield record

    async def delete(
        self, record_id: str, /, *, force: bool = False, timeout: float | None = None
    ) -> RecordDeleted:
        """Delete a record, and what belongs to it: links, never other records.

        Args:
            record_id: its `id`, a UUID.
            force: also where others use it: it is taken away from them.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.
            ConflictError: others use it (code `in_use`); `details["used_by"]` lists up to 100 of them.

        Example:
            ```python
            made = await dominus.auth.roles.create("visitor")
            await dominus.auth.roles.delete(made["id"], force=True)
            ```
        """
        fields = {self._calls.entity.id_field: record_id, "force": force or None}
        return await self._ask(self._calls.delete, timeout, **fields)

    async def _walk(self, page_size: int, timeout: float | None, **filters: Any) -> AsyncIterator[Row]:
        place: dict[str, Any] = {}
        seen_count = 0
        while True:
            page: Records[Row] = await self._ask(
                self._calls.list, timeout, **filters, limit=page_size, **place
            )
            for item in page["items"]:
                yield item
            seen_count += len(page["items"])
            cursor = page.get("cursor")
            # A server of the published client knows offsets only.
            is_last = cursor is None if "cursor" in page else len(page["items"]) < page_size
            if is_last:
                return
            place = {"offset": seen_count} if cursor is None else {"cursor": cursor}
