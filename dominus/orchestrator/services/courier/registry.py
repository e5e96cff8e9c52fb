"""Where the modules of courier register their handlers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from dominus.contract.courier import courier
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.handlers.registry import Handlers

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Record

__all__ = ["fetched", "handlers", "iso", "place_of"]

handlers = Handlers(courier)


def place_of(ctx: Context) -> tuple[str, str]:
    """Return the first two parameters of every statement."""
    return ctx.principal.project, ctx.principal.environment


async def fetched(ctx: Context, sql: str, *values: Any) -> list[Record]:
    """Return the rows of a query of the caller's project and environment."""
    try:
        return await ctx.resources.postgres.system.fetch(sql, *place_of(ctx), *values)
    except FAILURES as error:
        raise from_postgres(error) from error


def iso(moment: dt.datetime | None) -> str | None:
    """Return a time as it travels."""
    return moment.isoformat() if moment is not None else None
