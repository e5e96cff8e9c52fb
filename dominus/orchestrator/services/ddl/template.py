"""The schema that the migrations of a category make: built in a transaction that is always rolled back.

So a change is tried before it is recorded, what it takes away is described by PostgreSQL, and nothing can go stale.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.contract.ddl import OperationName
from dominus.contract.request import Request
from dominus.contract.suggestion import suggestion
from dominus.errors import ConflictError, DominusError, NotFoundError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.ddl.change import (
    SEE_OURS,
    SESSION,
    drop_tickets,
    open_ticket,
    require_types,
    run,
)
from dominus.orchestrator.services.ddl.reach import require_own_schemas
from dominus.orchestrator.services.ddl.records import with_sql
from dominus.orchestrator.sql.changes import Change, change_of, in_place, parse
from dominus.orchestrator.sql.structure import Structure, describe, inside

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection, Record

__all__ = ["Template", "template"]


class _RolledBack(Exception):  # noqa: N818 - no error: it ends the transaction
    pass


@dataclass(frozen=True, slots=True)
class Template:
    """A category's schema, for as long as the transaction lives."""

    ctx: Context
    schema: str
    slug: str
    connection: Connection

    async def describe(self, table: str | None = None) -> list[Structure]:
        """Return its tables."""
        return await describe(self.connection, self.schema, table)

    async def plan(self, operation: OperationName, request: Request) -> Change:
        """Return the change that a request asks for, after it was tried here.

        Raises:
            DominusError: PostgreSQL refuses it, or it is not understood.
        """
        parse(operation, request)
        table: str | None = getattr(request, "table", None)
        before = await self.describe(None if operation == "drop_index" else table)
        if operation not in {"create_table", "drop_index"} and not before:
            known = [found["table"] for found in await self.describe()]
            raise NotFoundError(
                f"the category {self.slug!r} has no table {table!r}",
                code="unknown_table",
                details={"category_slug": self.slug, "table": table},
                hint=suggestion(table or "", known),
            )
        change = change_of(operation, request, before)
        await require_own_schemas(self.ctx, change)
        await require_types(self.connection, change.types)
        await run(self.connection, [in_place(statement, self.schema) for statement in change.up])
        return change


@asynccontextmanager
async def template(ctx: Context, category: Record, migrations: Sequence[Record]) -> AsyncGenerator[Template]:
    """Give the schema that these migrations make.

    Raises:
        ConflictError: they do not follow from one another (`later_migrations`).
    """
    slug: str = category["slug"]
    schema = f"category_{slug[:40]}_{secrets.token_hex(4)}"
    ticket = await open_ticket(ctx, schema)
    try:
        async with (
            ctx.resources.data_share.of(ctx.principal.subject, (schema, "")),
            ctx.resources.postgres.data.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(SESSION)
            await connection.fetchval("SELECT dominus_api.make_schema($1)", ticket.key)
            await connection.execute(inside(schema))
            for row in await with_sql(ctx, migrations):
                await _replay(connection, row, schema)
            yield Template(ctx, schema, slug, connection)
            await connection.execute(SEE_OURS)
            raise _RolledBack  # noqa: TRY301 - what ends a transaction without its changes
    except _RolledBack:
        pass
    except (DominusError, *FAILURES) as error:
        failure = from_postgres(error)
        # The name of a schema that never was helps nobody.
        failure.message = failure.message.replace(f"{schema}.", "").replace(schema, slug)
        raise failure from error
    finally:
        await drop_tickets(ctx, ticket)


async def _replay(connection: Connection, row: Record, schema: str) -> None:
    try:
        await run(connection, [in_place(statement, schema) for statement in row["up"]])
    except FAILURES as error:
        failure = from_postgres(error)
        if failure.status_code is not None and failure.status_code >= 500:
            raise failure from error
        raise ConflictError(
            f"the migration {row['version']} ({row['name']}) does not follow from those before it: {failure.message}",
            code="later_migrations",
            details={"versions": [row["version"]]},
        ) from error
