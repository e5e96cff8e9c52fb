"""Statements on secure tables: with a reason, by who may, and written down in the same transaction."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from dominus.errors import AuthorizationError, DominusError, NotFoundError, SecureTableError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.engines.postgres.secure_role import LEFT_BEHIND, secure_role_of
from dominus.orchestrator.handlers.audit import OK, Access, append, noted

if TYPE_CHECKING:
    from dominus.contract import db as contract
    from dominus.orchestrator.engines.postgres.typing import Record
    from dominus.orchestrator.handlers.context import Context
    from dominus.orchestrator.sql.statements import Statement
    from dominus.orchestrator.sql.tables import Table

__all__ = ["access_of", "audited", "require_reason", "witnessed"]

logger = logging.getLogger("dominus.orchestrator.secure")

Answer = TypeVar("Answer")
_READS = frozenset({"query", "page"})


def require_reason(ctx: Context, table: Table, reason: str | None) -> None:
    """Refuse who may not touch a table's rows: before any is read. `witnessed` writes that down.

    Raises:
        SecureTableError: the table is secure, and there is no reason.
        AuthorizationError: it is, and the caller has none of its scopes; or it is another table by now.
    """
    if table.secure_scopes is None:
        return
    if not (reason and reason.strip()):
        raise SecureTableError(
            f"{table.label!r} is a secure table: a reason is needed",
            details={"schema": table.schema, "table": table.name},
            hint="pass reason=..., or use dominus.secure",
        )
    if table.secure_scopes and not any(ctx.principal.may(scope) for scope in table.secure_scopes):
        raise AuthorizationError(
            f"{table.label!r} is a secure table, which needs one of the scopes {', '.join(table.secure_scopes)}",
            details={"scopes": list(table.secure_scopes)},
        )
    if table.owner != secure_role_of(ctx.resources.settings.data_role):
        # What stands there now may have triggers, which would run with the rights to all secure tables.
        raise AuthorizationError(
            f"{table.label!r} is registered as a secure table, and was replaced by another: its owner is {table.owner}",
            code="insufficient_privilege",
            details={"schema": table.schema, "table": table.name},
            hint="delete its record (auth.delete_secure_table), and make it secure again",
        )


def access_of(
    operation: str,
    table: Table,
    request: contract.Access,
    count: int,
    ids: str | None,
    outcome: str = OK,
) -> Access:
    """Return what is written down of a request."""
    filters: Any = getattr(request, "filters", None)
    return Access(
        operation=operation,
        schema=table.schema,
        table=table.name,
        reason=request.reason or "",
        actor=request.actor,
        filters=filters,
        row_count=count,
        ids=ids,
        outcome=outcome,
    )


async def audited(
    ctx: Context, operation: str, request: contract.Access, table: Table, statement: Statement
) -> Record | None:
    """Run a statement on a secure table, and write the access down; both or neither."""
    pool = await ctx.resources.postgres.secure()
    if operation in _READS:
        # One statement, hence one transaction: the rows, and the entry that says which they were.
        access = access_of(operation, table, request, 0, None)
        sql, args = noted(ctx, statement.sql, statement.args, access)
        return await pool.fetchrow(sql, *args, is_inert=True)
    is_inert = not table.has_foreign_keys
    async with pool.acquire(is_inert=is_inert) as connection, connection.transaction():
        record = await connection.fetchrow(statement.sql, *statement.args)
        if not is_inert:
            await connection.execute(LEFT_BEHIND)
        # The last two columns of a statement on a secure table: how many rows it touched, and which.
        count, ids = (record[-2], record[-1]) if record is not None else (0, None)
        await append(ctx, connection, access_of(operation, table, request, count, ids))
    return record


async def witnessed(
    ctx: Context, operation: str, request: contract.Access, work: Awaitable[Answer]
) -> Answer:
    """Run a request on rows; where a secure table refuses it, or it fails, write that down in a transaction of its own.

    An error tells of rows, too (that a key is taken, that an update met some): without its entry it is not told.
    """
    try:
        return await work
    except DominusError as error:
        # What is the server's fault has a fixed text, which tells nothing of rows; and there is no table to write of.
        is_about_rows = error.status_code is not None and error.status_code < 500
        if is_about_rows and not isinstance(error, NotFoundError):
            await _note(ctx, operation, request, error)
        raise


async def _note(ctx: Context, operation: str, request: contract.Access, error: DominusError) -> None:
    resources = ctx.resources
    try:
        table = await resources.catalog.table(request.schema_, request.table)
        if not table.is_secure:
            return
        access = access_of(operation, table, request, 0, None, error.code)
        pool = await resources.postgres.secure()
        async with (
            resources.secure_share.of(ctx.principal.subject, (table.schema, table.name)),
            pool.acquire(is_inert=True) as connection,
            connection.transaction(),
        ):
            await append(ctx, connection, access)
    except (DominusError, *FAILURES) as lost:
        failure = from_postgres(lost)
        if isinstance(error, AuthorizationError):
            # Refused before a row was read: there is nothing to keep back.
            logger.warning("a refused access to a secure table was not written down: %s", failure.code)
            return
        raise failure from error
