"""The five handlers of an entity, the same for every row of the contract's table."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg

from dominus.contract.guardian.records import Entity, EntityCalls, FixedCalls, RecordDeleted, Records
from dominus.contract.request import Request
from dominus.errors import ConflictError, NotFoundError
from dominus.orchestrator.engines.postgres.errors import FAILURES, attribute, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.guardian.last_ties import refuse_last_ties
from dominus.orchestrator.services.guardian.statements import EntityStatements

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["EntityHandlers", "changed", "entity_handlers", "fetched", "missing", "place_of", "record_of"]


def entity_handlers(handlers: Handlers, calls: FixedCalls[Any], its: EntityHandlers | None = None) -> None:
    """Register the handlers of an entity's operations; `its` where they do more than keep records."""
    its = its or EntityHandlers(calls.entity)
    handlers(calls.create)(its.create)
    handlers(calls.get)(its.get)
    handlers(calls.list)(its.list)
    handlers(calls.delete)(its.delete)
    if isinstance(calls, EntityCalls):
        handlers(calls.update)(its.update)


class EntityHandlers:
    """What answers the operations of an entity."""

    def __init__(self, entity: Entity[Any]) -> None:
        self._entity = entity
        self.sql = EntityStatements(entity)

    async def create(self, ctx: Context, request: Request) -> RawJson:
        """Make a record."""

        async def change(connection: Connection) -> dict[str, Any]:
            return await self.insert(ctx, connection, request)

        return await written(ctx, change)

    async def insert(self, ctx: Context, connection: Connection, request: Request) -> dict[str, Any]:
        """Make a record in a transaction that has begun."""
        await self._check_references(ctx, connection, request)
        sql, values = self.sql.insert(request)
        made = record_of(await self._one(ctx, connection, request, sql, values))
        await self.made(ctx, connection, made)
        return made

    async def made(self, ctx: Context, connection: Connection, record: dict[str, Any]) -> None:
        """Do what belongs to a new record, in its transaction."""

    async def deleting(self, ctx: Context, connection: Connection, request: Any, name: str) -> None:
        """Refuse the end of a record, or prepare it, in its transaction; `name` is what it is listed by."""

    async def changing(self, ctx: Context, connection: Connection, request: Any) -> None:
        """Check what belongs to a change, in its transaction."""

    async def deleted(self, ctx: Context, connection: Connection, record: dict[str, Any]) -> None:
        """Do what belongs to the end of a record, in its transaction."""

    async def lock(self, ctx: Context, connection: Connection, record_id: str) -> dict[str, Any]:
        """Return a record, and keep it as it is until the end of the transaction."""
        row = await connection.fetchrow(f"{self.sql.get} FOR NO KEY UPDATE", *place_of(ctx), record_id)
        if row is None:
            raise missing(self._entity, [record_id])
        return record_of(row)

    async def get(self, ctx: Context, request: Any) -> dict[str, Any]:
        """Return a record."""
        record_id = getattr(request, self._entity.id_field)
        rows = await fetched(ctx, self.sql.get, record_id)
        if not rows:
            raise missing(self._entity, [record_id])
        return record_of(rows[0])

    async def list(self, ctx: Context, request: Any) -> Records[Any]:
        """Return a page of records."""
        (page, values), (count, count_values) = self.sql.list(request)
        rows = await fetched(ctx, page, *values)
        total = (await fetched(ctx, count, *count_values))[0][0]
        items = [record_of(row) for row in rows[: request.limit]]
        cursor = self.sql.cursor_after(items[-1], request) if len(rows) > request.limit else None
        return {"items": items, "total": total, "cursor": cursor}

    async def update(self, ctx: Context, request: Request) -> RawJson:
        """Change a record."""

        async def change(connection: Connection) -> dict[str, Any]:
            await self._check_references(ctx, connection, request)
            await self.changing(ctx, connection, request)
            sql, values = self.sql.update(request)
            return record_of(await self._one(ctx, connection, request, sql, values))

        return await changed(ctx, change)

    async def delete(self, ctx: Context, request: Any) -> RawJson:
        """Delete a record."""
        record_id = getattr(request, self._entity.id_field)

        async def change(connection: Connection) -> RecordDeleted:
            found = await connection.fetchrow(self.sql.lock, *place_of(ctx), record_id)
            if found is None:
                raise missing(self._entity, [record_id])
            await self.deleting(ctx, connection, request, found[0])
            if not request.force:
                await self._check_uses(ctx, connection, record_id, found[0])
            await refuse_last_ties(connection, self._entity, place_of(ctx), record_id, str(found[0]))
            row = await connection.fetchrow(self.sql.get, *place_of(ctx), record_id)
            for statement in (*self.sql.release, self.sql.delete):
                await connection.execute(statement, *place_of(ctx), record_id)
            await self.deleted(ctx, connection, record_of(row) if row is not None else {})
            return {"id": record_id, "deleted": True}

        return await changed(ctx, change)

    async def _one(
        self, ctx: Context, connection: Connection, request: Request, sql: str, values: list[Any]
    ) -> Record:
        try:
            row = await connection.fetchrow(sql, *place_of(ctx), *values)
        except asyncpg.UniqueViolationError as error:
            raise self._taken(request, attribute(error, "constraint_name") or "") from error
        if row is None:
            raise missing(self._entity, [getattr(request, self._entity.id_field)])
        return row

    def _taken(self, request: Request, constraint: str) -> ConflictError:
        names = [name for name, column in self._entity.columns.items() if column.is_unique]
        # Of several, the constraint says which.
        unique = {name: getattr(request, name) for name in names if len(names) == 1 or name in constraint}
        said = ", ".join(f"{name} {value!r}" for name, value in unique.items())
        return ConflictError(
            f"there is a {self._entity.words} with {said} already", code="already_exists", details=unique
        )

    async def _check_references(self, ctx: Context, connection: Connection, request: Request) -> None:
        for name, other, sql in self.sql.references:
            named = getattr(request, name, None)
            if named and await connection.fetchrow(sql, *place_of(ctx), named) is None:
                raise missing(other, [named])

    async def _check_uses(self, ctx: Context, connection: Connection, record_id: str, name: str) -> None:
        if self.sql.uses is None:
            return
        rows = await connection.fetch(self.sql.uses, *place_of(ctx), record_id)
        if rows:
            users = [dict(row.items()) for row in rows]
            said = ", ".join(f"{user['kind'].replace('_', ' ')} {user['name']!r}" for user in users[:5])
            raise ConflictError(
                f"the {self._entity.words} {name!r} is in use by {said}{' and more' if rows[5:] else ''}",
                code="in_use",
                details={"used_by": users},
                hint="take it away from them first, or delete with force=True",
            )


async def changed(ctx: Context, change: Callable[[Connection], Awaitable[object]]) -> RawJson:
    """Change records that rights may follow from, once."""
    answer = await written(ctx, change)
    # The others are notified; the caller's next request here shall not have to race with that.
    ctx.resources.rights.forget()
    return answer


async def fetched(ctx: Context, sql: str, *values: Any) -> list[Record]:
    """Return the rows of a query of the caller's project and environment."""
    try:
        return await ctx.resources.postgres.system.fetch(sql, *place_of(ctx), *values)
    except FAILURES as error:
        raise from_postgres(error) from error


def place_of(ctx: Context) -> tuple[str, str]:
    """Return the first two parameters of every statement."""
    return ctx.principal.project, ctx.principal.environment


def record_of(row: Record) -> dict[str, Any]:
    """Return a row as callers get it."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def missing(entity: Entity[Any], ids: list[str]) -> NotFoundError:
    """Return the error for ids that no record has."""
    return NotFoundError(
        f"there is no {entity.words} {', '.join(ids[:5])}{' and others' if ids[5:] else ''}",
        code="not_found",
        details={"missing": ids},
    )
