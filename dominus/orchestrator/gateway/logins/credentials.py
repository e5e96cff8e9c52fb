"""Database logins of native sessions: made on request, ended on release, reaped when nobody ends them.

Every login is a row of `dominus.gateway_logins` before it exists on its engine, so that none is left behind, whatever
fails or dies in between. An expired login opens no connections; those that are open live on until they are closed, or
until the policy (`DOMINUS_GATEWAY_MAX_LIFETIME`) ends them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dominus.errors import DominusError, NotFoundError, RateLimitError, ValidationError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.gateway.logins.postgres import PostgresLogins
from dominus.orchestrator.gateway.logins.redis import RedisLogins

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.postgres.pools import Postgres
    from dominus.orchestrator.engines.postgres.typing import Pool, Record
    from dominus.orchestrator.engines.redis.client import RedisEngine
    from dominus.orchestrator.identity.principal import Principal
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["REAP_SECONDS", "USERNAME_PREFIX", "Credentials", "Login"]

_log = logging.getLogger("dominus.gateway")
USERNAME_PREFIX = "dominus_s_"
REAP_SECONDS = 60.0

# Counting and adding are not one step: of many at the very same time a few more than allowed may pass.
_ADD = """
INSERT INTO dominus.gateway_logins (username, target, principal, project, environment, expires_at, reap_after)
SELECT $1, $2, $3, $4, $5, now() + make_interval(secs => $6), now() + make_interval(secs => $6)
WHERE (SELECT count(*) FROM dominus.gateway_logins WHERE principal = $3) < $7
RETURNING expires_at
"""
_FIND_DATABASE = """
SELECT current_database()
FROM dominus.gateway_logins
WHERE username = $1 AND principal = $2 AND project = $3 AND environment = $4
  AND target = 'postgres' AND NOT is_released AND expires_at > now()
"""
# The work on a login is its replica's for a minute; whoever dies at it leaves it to the next.
_RELEASE = """
UPDATE dominus.gateway_logins
SET is_released = true, expires_at = least(expires_at, now()), reap_after = now() + interval '1 minute'
WHERE username = $1 AND principal = $2 AND project = $3 AND environment = $4
RETURNING username, target
"""
_CLAIM = """
UPDATE dominus.gateway_logins
SET reap_after = now() + interval '1 minute'
WHERE username = (
  SELECT username
  FROM dominus.gateway_logins
  WHERE reap_after <= now()
  ORDER BY reap_after
  LIMIT 1
  FOR UPDATE SKIP LOCKED
)
RETURNING username, target, is_released, extract(epoch FROM now() - expires_at)::float8 AS overdue
"""
_POSTPONE = """
UPDATE dominus.gateway_logins
SET reap_after = now() + interval '10 minutes'
WHERE username = $1
"""
_FORGET = """
DELETE FROM dominus.gateway_logins
WHERE username = $1
"""


class Logins(Protocol):
    """The logins of one engine; every step may be repeated."""

    async def database(self) -> str | None:
        """Return the database that a login is for, where there are several."""
        ...

    async def make(self, username: str, password: str, expires_at: dt.datetime) -> None:
        """Make a login."""
        ...

    async def lock(self, username: str) -> None:
        """Let it open no more connections."""
        ...

    async def is_used(self, username: str) -> bool:
        """Return whether it has connections."""
        ...

    async def drop(self, username: str) -> None:
        """End its connections, and itself."""
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """A login as its owner gets it, once."""

    username: str
    password: str = field(repr=False)
    database: str | None
    expires_in: int
    """Seconds."""


class Credentials:
    """The logins of all engines that have any: `redis` and `postgres`."""

    def __init__(self, postgres: Postgres, redis: RedisEngine, settings: ServerSettings) -> None:
        self._pool: Pool = postgres.system
        self._settings = settings
        limit = settings.gateway_connections_per_principal
        self._logins: Mapping[str, Logins] = {
            "postgres": PostgresLogins(postgres, settings.data_role, limit),
            "redis": RedisLogins(redis, has_scripts=settings.gateway_redis_scripts),
        }

    async def create(
        self, principal: Principal, target: str, database: str | None = None, *, seconds: int | None = None
    ) -> Login:
        """Make a login for a target, which opens connections for so long; without `seconds` as the settings say.

        Raises:
            ValidationError: the target has no logins of ours, or not for this database.
            RateLimitError: the principal has too many.
            ServiceError: the engine refuses; nothing is left behind.
        """
        logins = self._logins.get(target)
        if logins is None:
            raise ValidationError(
                f"no logins are made for {target!r}, only for {', '.join(self._logins)}",
                code="credentials_unavailable",
                hint="log in with the database's own credentials",
            )
        username, password = USERNAME_PREFIX + secrets.token_hex(12), secrets.token_urlsafe(32)
        try:
            own = await logins.database()
            if database is not None and database != own:
                raise _other_database(target, database, own)
            seconds = seconds or self._settings.gateway_login_lifetime
            expires_at = await self._add(principal, target, username, seconds)
        except FAILURES as error:
            raise from_postgres(error) from error
        try:
            await logins.make(username, password, expires_at)
        except DominusError as error:
            # After any other failure it may exist; then the reaper ends it.
            if error.code == "credentials_unavailable":
                await self._pool.execute(_FORGET, username)
            raise
        return Login(username, password, own, seconds)

    async def _add(self, principal: Principal, target: str, username: str, seconds: int) -> dt.datetime:
        limit = self._settings.gateway_connections_per_principal
        row = await self._pool.fetchrow(
            _ADD,
            username,
            target,
            *_owner(principal),
            seconds,
            limit,
        )
        if row is None:
            raise RateLimitError(
                f"this caller has {limit} database logins already",
                code="too_many_logins",
                retry_after=REAP_SECONDS,
                hint="release them when a session ends, or share one between connections",
            )
        return row["expires_at"]

    async def find_database(self, principal: Principal, username: str) -> str | None:
        """Return the database of a principal's own login on PostgreSQL, None when it has no such login any more.

        Raises:
            DominusError: the database is not available.
        """
        try:
            return await self._pool.fetchval(_FIND_DATABASE, username, *_owner(principal))
        except FAILURES as error:
            raise from_postgres(error) from error

    async def release(self, principal: Principal, username: str) -> bool:
        """End a login of this principal, and its connections; return whether there was one."""
        try:
            row = await self._pool.fetchrow(_RELEASE, username, *_owner(principal))
            if row is None:
                return False
            await self._end(self._logins[row["target"]], username)
        except FAILURES as error:
            raise from_postgres(error) from error
        return True

    async def reap(self) -> int:
        """End the logins whose time is over; return how many there were. Any number of replicas may do it at once."""
        ended_count = 0
        while True:
            row = await self._pool.fetchrow(_CLAIM)
            if row is None:
                return ended_count
            try:
                ended_count += await self._retire(row)
            except (DominusError, *FAILURES) as error:
                _log.warning("the login %s is not ended yet: %s", row["username"], error)
                await self._pool.execute(_POSTPONE, row["username"])

    async def keep_reaping(self) -> None:
        """Reap every minute, until cancelled."""
        while True:
            await asyncio.sleep(REAP_SECONDS)
            try:
                await self.reap()
            except (DominusError, *FAILURES) as error:
                _log.warning("expired logins wait for the next minute: %s", error)

    async def _retire(self, row: Record) -> bool:
        username, logins = row["username"], self._logins[row["target"]]
        most = self._settings.gateway_max_lifetime
        is_over = row["is_released"] or (most is not None and row["overdue"] >= most)
        if not is_over:
            await logins.lock(username)
            if await logins.is_used(username):
                return False
        await self._end(logins, username)
        return True

    async def _end(self, logins: Logins, username: str) -> None:
        await logins.lock(username)
        await logins.drop(username)
        await self._pool.execute(_FORGET, username)


def _other_database(target: str, asked: str, own: str | None) -> NotFoundError:
    known = f"only {own!r}" if own else "it names none"
    return NotFoundError(
        f"{target!r} has no database {asked!r} for sessions, {known}", code="unknown_database"
    )


def _owner(principal: Principal) -> tuple[str, str, str]:
    return principal.subject, principal.project, principal.environment
