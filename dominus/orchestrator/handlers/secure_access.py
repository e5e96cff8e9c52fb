"""Statements on secure tables: with a reason, by who may, and written down in the same transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.errors import AuthorizationError, SecureTableError
from dominus.orchestrator.handlers.audit import Access, append

if TYPE_CHECKING:
    from dominus.contract import db as contract
    from dominus.orchestrator.engines.postgres.typing import Record
    from dominus.orchestrator.handlers.context import Context
    from dominus.orchestrator.sql.statements import Statement
    from dominus.orchestrator.sql.tables import Table

__all__ = ["access_of", "audited", "require_reason"]


def require_reason(ctx: Context, table: Table, reason: str | None) -> None:
    """Refuse who may not touch a table's rows: before any is read.

    Raises:
        SecureTableError: the table is secure, and there is no reason.
        AuthorizationError: it is, and the caller has none of its scopes.
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


def access_of(operation: str, table: Table, request: contract.Access, count: int, ids: str | None) -> Access:
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
    )


async def audited(
    ctx: Context, operation: str, request: contract.Access, table: Table, statement: Statement
) -> Record | None:
    """Run a statement on a secure table, and write the access down; both or neither."""
    pool = await ctx.resources.postgres.secure()
    async with pool.acquire() as connection, connection.transaction():
        record = await connection.fetchrow(statement.sql, *statement.args)
        # The last two columns of a statement on a secure table: how many rows it touched, and which.
        count, ids = (record[-2], record[-1]) if record is not None else (0, None)
        await append(ctx, connection, access_of(operation, table, request, count, ids))
    return record
