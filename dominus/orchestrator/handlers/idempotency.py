"""Writes that happen once, however often they are sent.

A write to PostgreSQL stores its outcome in its own transaction, by `dominus_api.remember`, under a slot: a keyed hash
of principal, project, environment and idempotency key. A repeat runs into that primary key (or into the user's own
constraints), is rolled back, and is answered with what was stored. So the first, common call pays no extra round trip,
and two at the same time cannot both win: the second waits on the slot until the first has ended. Sessions may call the
function too; they cannot make the slot of anybody's key.

A write to Redis has its record there, stored by its own script (`once.lua`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic_core import to_json

from dominus.errors import ConflictError, DominusError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context, Idempotency, RawJson
from dominus.orchestrator.sql.outcomes import REMEMBER, as_outcome, read_outcome

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["exactly_once", "purge", "record_life", "remembered", "stored_outcome", "written"]

logger = logging.getLogger("dominus.orchestrator.handlers.idempotency")

_FIND = """
SELECT fingerprint, outcome
FROM dominus.outcomes
WHERE slot = $1
"""
_PURGE = """
DELETE FROM dominus.{table}
WHERE ctid IN (
  SELECT ctid
  FROM dominus.{table}
  WHERE created_at < now() - make_interval(hours => $1)
  LIMIT $2
)
"""
_PURGE_BATCH = 10_000
# The second is written by replicas of the version before 0003 alone.
_TABLES = ("outcomes", "idempotency")


def record_life(ctx: Context, sent: Idempotency) -> int:
    """Return the seconds that Redis keeps the record of a write.

    The caller sends nothing after its deadline. What it sent before may be late: on its way, or in the buffer of a
    replica that hangs. That would do harm even where a repeat in time changes nothing: a `set` undoes what others wrote
    since, a `setnx` that had failed succeeds for nobody. So every write has a record, and keeps it for longer.
    """
    return math.ceil(sent.deadline_seconds) + ctx.resources.settings.redis_idempotency_minutes * 60


def remembered(ctx: Context) -> tuple[bytes, str] | None:
    """Return slot and fingerprint of a keyed write; None when the caller sent no key."""
    if ctx.idempotency is None:
        return None
    principal, sent = ctx.principal, ctx.idempotency
    place = (principal.subject, principal.project, principal.environment, sent.key)
    slot = ctx.resources.vault.fingerprint(b"outcome", *(part.encode() for part in place))
    return bytes.fromhex(slot), sent.fingerprint


async def stored_outcome(ctx: Context) -> RawJson | None:
    """Return what the write under this key was answered with before; None when there was none.

    Raises:
        ConflictError: the key was used for another write.
    """
    known = remembered(ctx)
    if known is None:
        return None
    slot, fingerprint = known
    record = await ctx.resources.postgres.system.fetchrow(_FIND, slot)
    if record is None:
        return None
    if record["fingerprint"] != fingerprint:
        raise ConflictError(
            "this idempotency key was used for another request",
            code="idempotency_key_reused",
            hint="send a new key with each new write",
        )
    return RawJson.of(*read_outcome(record["outcome"]))


async def exactly_once(ctx: Context, write: Callable[[], Awaitable[RawJson]]) -> RawJson:
    """Run a write that stores its outcome in its own transaction, or answer as it was answered before.

    Raises:
        DominusError: what the write raised, PostgreSQL's errors typed; ConflictError for a reused key.
    """
    try:
        return await write()
    except (DominusError, *FAILURES) as error:
        failure = from_postgres(error)
        try:
            stored = await stored_outcome(ctx)
        except FAILURES as lost:
            # The failure may be that of a repeat: only who asks again learns what became of the write.
            logger.warning(
                "no look at the idempotency record after %s: %s", failure.code, type(lost).__name__
            )
            raise from_postgres(lost) from error
        if stored is not None:
            return stored
        if failure is error:
            raise
        raise failure from error


async def written(ctx: Context, change: Callable[[Connection], Awaitable[object]]) -> RawJson:
    """Change our own tables in a transaction that keeps its answer, so that a repeat is answered the same.

    Raises:
        DominusError: what the change raised, PostgreSQL's errors typed; nothing was changed then.
    """

    async def write() -> RawJson:
        async with ctx.resources.postgres.system.acquire() as connection, connection.transaction():
            data = to_json(await change(connection))
            known = remembered(ctx)
            if known is not None:
                await connection.execute(REMEMBER, *known, as_outcome(data.decode()))
        return RawJson.of(data)

    return await exactly_once(ctx, write)


async def purge(postgres: Postgres, hours: int) -> int:
    """Delete the records that are older than `hours`, in batches; return how many there were."""
    return sum([await _purge(postgres, _PURGE.format(table=table), hours) for table in _TABLES])


async def _purge(postgres: Postgres, statement: str, hours: int) -> int:
    deleted = 0
    while True:
        tag: str = await postgres.system.execute(statement, hours, _PURGE_BATCH)
        batch = int(tag.rpartition(" ")[2])
        deleted += batch
        if batch < _PURGE_BATCH:
            return deleted
