"""Failed logins in a row lock a name for a growing time: of a user or of nobody, which looks the same.

A try is counted before its password is looked at, and taken back when it was right: of a hundred tries at once no more
get through than one after the other.
"""

from __future__ import annotations

from dominus.errors import RateLimitError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.engines.postgres.typing import Executor
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.portal.registry import place_of

__all__ = ["FREE_TRIES", "forgive", "name_of", "take"]

FREE_TRIES = 5
"""So many failures in a row lock; the lock lasts 1, 2, 4, 8 minutes, and 15 from then on."""
_TAKE = f"""
INSERT INTO dominus.login_failures AS f (project, environment, name, failures, last_at)
VALUES ($1, $2, $3, 1, now())
ON CONFLICT (project, environment, name) DO UPDATE SET
  failures = CASE WHEN f.last_at < now() - interval '1 day' THEN 1 ELSE f.failures + 1 END,
  last_at = now(),
  locked_until = CASE
    WHEN f.last_at >= now() - interval '1 day' AND f.failures + 1 >= {FREE_TRIES}
    THEN now() + least(power(2, least(f.failures + 1 - {FREE_TRIES}, 10)), 15) * interval '1 minute'
  END
WHERE f.locked_until IS NULL OR f.locked_until <= now()
RETURNING failures
"""
_WAIT = """
SELECT extract(epoch FROM locked_until - now())::float8
FROM dominus.login_failures
WHERE project = $1 AND environment = $2 AND name = $3
"""
_FORGIVE = "DELETE FROM dominus.login_failures WHERE project = $1 AND environment = $2 AND name = $3"


def name_of(ctx: Context, kind: str, name: str) -> bytes:
    """Return what the tries of a name are counted under."""
    return bytes.fromhex(ctx.resources.vault.fingerprint(b"login", kind.encode(), name.casefold().encode()))


async def take(ctx: Context, name: bytes) -> None:
    """Count a try.

    Raises:
        RateLimitError: there were too many; this one does not count.
    """
    system = ctx.resources.postgres.system
    try:
        if await system.fetchval(_TAKE, *place_of(ctx), name) is not None:
            return
        wait = await system.fetchval(_WAIT, *place_of(ctx), name)
    except FAILURES as error:
        raise from_postgres(error) from error
    raise RateLimitError(
        "too many logins failed in a row", code="login_locked", retry_after=max(1.0, wait or 0.0)
    )


async def forgive(ctx: Context, database: Executor, name: bytes) -> None:
    """Forget the failures: this try was right."""
    await database.execute(_FORGIVE, *place_of(ctx), name)
