"""The handlers of a link, the same for every row of the contract's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.contract.guardian.records import Link, LinkCalls, LinksChanged, ReplaceableCalls
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.guardian.entities import changed, fetched, missing, place_of, record_of
from dominus.orchestrator.services.guardian.statements import LinkStatements

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["link_handlers"]


def link_handlers(handlers: Handlers, calls: LinkCalls[Any]) -> None:
    """Register the handlers of a link's operations."""
    its = _LinkHandlers(calls.link)
    handlers(calls.get)(its.get)
    handlers(calls.add)(its.add)
    handlers(calls.remove)(its.remove)
    if isinstance(calls, ReplaceableCalls):
        handlers(calls.set)(its.set)


class _LinkHandlers:
    def __init__(self, link: Link[Any]) -> None:
        self._link = link
        self._sql = LinkStatements(link)

    async def get(self, ctx: Context, request: Any) -> list[dict[str, Any]]:
        owner_id = getattr(request, self._link.owner.id_field)
        if not await fetched(ctx, self._sql.owner, owner_id):
            raise missing(self._link.owner, [owner_id])
        return [record_of(row) for row in await fetched(ctx, self._sql.list, owner_id)]

    async def add(self, ctx: Context, request: Any) -> RawJson:
        async def change(connection: Connection) -> LinksChanged:
            owner_id, ids = await self._locked(ctx, connection, request)
            await self._check(ctx, connection, ids)
            return {"added": _count(await connection.execute(self._sql.add, *place_of(ctx), owner_id, ids))}

        return await changed(ctx, change)

    async def remove(self, ctx: Context, request: Any) -> RawJson:
        async def change(connection: Connection) -> LinksChanged:
            owner_id, ids = await self._locked(ctx, connection, request)
            said = await connection.execute(self._sql.remove, *place_of(ctx), owner_id, ids)
            return {"removed": _count(said)}

        return await changed(ctx, change)

    async def set(self, ctx: Context, request: Any) -> RawJson:
        async def change(connection: Connection) -> list[dict[str, Any]]:
            owner_id, ids = await self._locked(ctx, connection, request)
            await self._check(ctx, connection, ids)
            for statement in (self._sql.keep, self._sql.add):
                await connection.execute(statement, *place_of(ctx), owner_id, ids)
            rows = await connection.fetch(self._sql.list, *place_of(ctx), owner_id)
            return [record_of(row) for row in rows]

        return await changed(ctx, change)

    async def _locked(self, ctx: Context, connection: Connection, request: Any) -> tuple[str, list[str]]:
        """Keep the owner as it is until the end of the transaction; return its id and the linked ids."""
        owner_id = getattr(request, self._link.owner.id_field)
        if await connection.fetchrow(self._sql.lock_owner, *place_of(ctx), owner_id) is None:
            raise missing(self._link.owner, [owner_id])
        return owner_id, list(dict.fromkeys(getattr(request, self._link.ids_field)))

    async def _check(self, ctx: Context, connection: Connection, ids: list[str]) -> None:
        """Refuse ids that name nothing; those that do cannot be deleted until the end of the transaction."""
        known = {row[0] for row in await connection.fetch(self._sql.known, *place_of(ctx), ids)}
        if unknown := [one for one in ids if one not in known]:
            raise missing(self._link.target, unknown)


def _count(said: str) -> int:
    """Return how many rows a command tag speaks of."""
    return int(said.rpartition(" ")[2])
