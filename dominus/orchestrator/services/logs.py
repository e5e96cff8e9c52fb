"""logs: lines of programs, in PostgreSQL, a partition for each day."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, cast

from dominus.contract import logs as contract
from dominus.contract.line_id import LineIds
from dominus.errors import AuthorizationError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.logs import store
from dominus.orchestrator.logs.days import moment_of

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["handlers"]

handlers = Handlers(contract.logs)

POLL_SECONDS = 0.25
"""How often a waiting tail looks. A notification for each batch would make all writers of the database take turns."""
MAX_ERRORS = 10
_NO_PARTITION = "23514"
_ids = LineIds()


async def _kept(ctx: Context, rows: list[store.Row], answer: contract.BatchKept | contract.Kept) -> RawJson:
    """Store rows and the answer in one transaction, and hand what is new to the forwarder."""
    principal, logs = ctx.principal, ctx.resources.logs
    owner = (principal.project, principal.environment, principal.subject)
    new: list[uuid.UUID] = []

    async def change(connection: Connection) -> object:
        new[:] = await store.add(connection, owner, rows) if rows else []
        return answer

    try:
        await logs.days.ensure({row.logged_at.date() for row in rows})
        kept = await written(ctx, change)
    except FAILURES as error:
        raise from_postgres(error) from error
    except ValidationError as error:
        details: Any = error.details or {}
        if details.get("sqlstate") != _NO_PARTITION:
            raise
        # Another replica, which keeps less, has dropped a day.
        logs.days.forget()
        await logs.days.ensure({row.logged_at.date() for row in rows})
        kept = await written(ctx, change)
    if logs.forwarder is not None and new:
        fresh = set(new)
        logs.forwarder.take(owner, [row for row in rows if row.id in fresh])
    return kept


async def _keep_one(ctx: Context, request: contract.LineRequest) -> RawJson:
    row = store.row_of(request, request.level, uuid.UUID(_ids.make()), request.context)
    return await _kept(ctx, [row], {"stored": True})


for _operation in contract.LINE.values():
    handlers(_operation)(_keep_one)


@handlers(contract.BATCH)
async def keep_batch(ctx: Context, request: contract.BatchRequest) -> RawJson:
    """Store what can be stored; what cannot is counted."""
    span = ctx.resources.logs.days.span()
    rows: list[store.Row] = []
    errors: list[contract.Refused] = []
    for index, event in enumerate(request.events):
        try:
            rows.append(_row(event, span))
        except ValidationError as error:
            errors.append({"index": index, "message": error.message})
    total = len(request.events)
    answer: contract.BatchKept = {"total": total, "stored": len(rows), "failed": len(errors)}
    if errors:
        answer["errors"] = errors[:MAX_ERRORS]
    return await _kept(ctx, rows, answer)


def _row(event: Any, span: tuple[uuid.UUID, uuid.UUID]) -> store.Row:
    if not isinstance(event, dict):
        raise ValidationError("an event is an object")
    read = contract.Event(**cast("dict[str, Any]", event))
    line_id = read.id or uuid.UUID(_ids.make())
    if not span[0] <= line_id < span[1]:
        raise ValidationError(f"id: {moment_of(line_id):%Y-%m-%d} is no day of which lines are kept")
    context = read.context if read.data is None else {**(read.context or {}), **read.data}
    return store.row_of(read, read.level, line_id, context)


@handlers(contract.QUERY)
async def find_lines(ctx: Context, request: contract.QueryRequest) -> RawJson:
    """The newest lines that fit."""
    place = _place(ctx, request)
    try:
        async with ctx.resources.postgres.system.acquire() as connection:
            seconds = ctx.resources.settings.statement_timeout
            found = await store.find(connection, place, request, seconds)
    except FAILURES as error:
        raise from_postgres(error) from error
    return RawJson.of(b'{"logs":%b}' % found)


@handlers(contract.TAIL)
async def follow_lines(ctx: Context, request: contract.TailRequest) -> RawJson:
    """Wait, holding no connection meanwhile, until lines are there or the time is over."""
    place = _place(ctx, request)
    ends = time.monotonic() + request.wait_seconds
    try:
        while True:
            async with ctx.resources.postgres.system.acquire() as connection:
                if request.cursor is None:
                    return _arrived(b"[]", await store.start_of_tail(connection))
                seconds = ctx.resources.settings.statement_timeout
                found, count, cursor = await store.follow(connection, place, request, seconds)
            if count or time.monotonic() >= ends:
                return _arrived(found, cursor)
            request.cursor = cursor
            await asyncio.sleep(min(POLL_SECONDS, max(0.0, ends - time.monotonic())))
    except FAILURES as error:
        raise from_postgres(error) from error


def _arrived(found: bytes, cursor: str) -> RawJson:
    return RawJson.of(b'{"logs":%b,"cursor":"%b"}' % (found, cursor.encode()))


def _place(ctx: Context, request: contract.LinesWanted) -> tuple[str, str]:
    """Return the caller's own project and environment; it may name them, and no others."""
    own = (ctx.principal.project, ctx.principal.environment)
    asked = (request.project or own[0], request.environment or own[1])
    if asked != own:
        raise AuthorizationError(
            f"this token belongs to the project {own[0]!r} and the environment {own[1]!r}",
            hint="make a client for the other one: Dominus(project=..., environment=...)",
        )
    return own
