"""What portal forgets: sessions that are over, links that are too old, failures of long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.pools import Postgres

__all__ = ["purge"]

# A token lives for a day at most: until then its session has to be known as revoked.
_STATEMENTS = [
    f"DELETE FROM dominus.{table} WHERE ctid IN (SELECT ctid FROM dominus.{table} WHERE {what} LIMIT $1)"
    for table, what in (
        ("portal_sessions", "expires_at < now() - interval '2 days'"),
        ("portal_sessions", "revoked_at < now() - interval '2 days'"),
        ("one_time_tokens", "expires_at < now() - interval '7 days'"),
        ("login_failures", "last_at < now() - interval '1 day'"),
    )
]
_BATCH = 10_000


async def purge(postgres: Postgres) -> int:
    """Delete what nobody asks for any more, in batches; return how much it was."""
    deleted = 0
    for statement in _STATEMENTS:
        batch = _BATCH
        while batch == _BATCH:
            said: str = await postgres.system.execute(statement, _BATCH)
            batch = int(said.rpartition(" ")[2])
            deleted += batch
    return deleted
