"""A record of a secure table makes the table itself secure; the end of the last such record makes it plain again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dominus.contract.guardian.entities import SECURE_TABLES
from dominus.errors import NotFoundError
from dominus.orchestrator.engines.postgres.secure_role import make_plain, make_secure
from dominus.orchestrator.handlers.audit import Access, append
from dominus.orchestrator.services.guardian.entities import EntityHandlers
from dominus.orchestrator.sql.tables import is_system_schema

if TYPE_CHECKING:
    from dominus.contract.request import Request
    from dominus.orchestrator.engines.postgres.typing import Connection
    from dominus.orchestrator.handlers.context import Context, RawJson

__all__ = ["SecureTables"]

# Those who register and release tables take turns: of two who release one, the last gives the table back.
_TURN = "LOCK TABLE dominus.secure_turns IN EXCLUSIVE MODE"
# A tenant's schema is its project's and environment's, and for all others as little there as one that nobody has; the
# schemas that are no tenant's are everybody's.
_IS_THERE = """
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $3) AND NOT EXISTS (
  SELECT FROM dominus.ddl_schemas d WHERE d.name = $3 AND (d.project, d.environment) <> ($1, $2)
)
"""
_IS_STILL = "SELECT EXISTS (SELECT FROM dominus.secure_tables WHERE schema_name = $1 AND table_name = $2)"


class SecureTables(EntityHandlers):
    """The operations of secure tables: the table changes its owner in the transaction of its record."""

    def __init__(self) -> None:
        super().__init__(SECURE_TABLES.entity)

    async def create(self, ctx: Context, request: Request) -> RawJson:
        """Register a table."""
        # Who cannot reach it afterwards does not make it secure.
        await ctx.resources.postgres.secure()
        made = await super().create(ctx, request)
        # The others are notified; the caller's next request here shall not have to race with that.
        ctx.resources.catalog.forget()
        return made

    async def delete(self, ctx: Context, request: Any) -> RawJson:
        """Release a table."""
        deleted = await super().delete(ctx, request)
        ctx.resources.catalog.forget()
        return deleted

    async def made(self, ctx: Context, connection: Connection, record: dict[str, Any]) -> None:
        """Give the table to the role of secure tables."""
        schema, table = record["schema_name"], record["table_name"]
        if is_system_schema(schema) or not await connection.fetchval(_IS_THERE, *ctx.principal.place, schema):
            raise NotFoundError(
                f"there is no schema {schema!r}", code="unknown_schema", details={"schema": schema}
            )
        await connection.execute(_TURN)
        await make_secure(connection, ctx.resources.settings.data_role, schema, table)
        await self._note(ctx, connection, record, "create_secure_table")

    async def deleted(self, ctx: Context, connection: Connection, record: dict[str, Any]) -> None:
        """Give the table back, unless another project or environment keeps it secure."""
        await connection.execute(_TURN)
        schema, table = record["schema_name"], record["table_name"]
        if not await connection.fetchval(_IS_STILL, schema, table):
            await make_plain(connection, ctx.resources.settings.data_role, schema, table)
        await self._note(ctx, connection, record, "delete_secure_table")

    @staticmethod
    async def _note(ctx: Context, connection: Connection, record: dict[str, Any], operation: str) -> None:
        reason = "the table becomes secure" if operation.startswith("create") else "the record is deleted"
        access = Access(operation, record["schema_name"], record["table_name"], reason, None)
        await append(ctx, connection, access)
