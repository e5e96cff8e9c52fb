"""Logins of Redis: an ACL user with every command but those that administer the server."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from dominus.errors import ServiceError, ValidationError

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.redis.client import RedisEngine

__all__ = ["RULES", "RedisLogins", "SharedLogin"]

RULES = ("~*", "&*", "+@all", "-@admin", "-@dangerous", "+info", "+keys", "+sort", "+restore")
"""What a session may do: all but to administer the server. The last four reach keys only, as the others do."""


class RedisLogins:
    """Makes and ends the users."""

    def __init__(self, redis: RedisEngine) -> None:
        self._redis = redis

    async def database(self) -> None:
        """Redis names no databases."""

    async def make(self, username: str, password: str, expires_at: dt.datetime) -> None:
        """Make a user. Redis knows no expiry: the reaper ends it.

        Raises:
            ServiceError: the orchestrator's own user may not make users.
            ValidationError: this Redis is a cluster.
        """
        _ = expires_at
        if self._redis.is_cluster:
            raise ValidationError(
                "a Redis cluster has no logins for sessions", code="credentials_unavailable"
            )
        # The digest instead of the password: MONITOR and logs show commands.
        try:
            await self._redis.execute("ACL SETUSER", username, "on", "resetpass", _digest(password), *RULES)
        except ServiceError as error:
            if error.code != "redis_refused":
                raise
            raise ServiceError(
                "the orchestrator's Redis user may not make logins for sessions",
                code="credentials_unavailable",
                retryable=False,
                hint="sessions of Redis work without: the gateway logs in for them. "
                "Or give the user of DOMINUS_REDIS_URL the ACL commands",
            ) from error

    async def lock(self, username: str) -> None:
        """Let a user log in no more; its connections stay."""
        # The embedded one would refuse the commands of its connections too.
        if not self._redis.is_embedded:
            await self._redis.execute("ACL SETUSER", username, "off")

    async def is_used(self, username: str) -> bool:
        """Return whether a user has connections; those of the embedded one do not end with their user."""
        if self._redis.is_embedded:
            return False
        clients: list[dict[str, Any]] = await self._redis.execute("CLIENT LIST")
        return any(client.get("user") == username for client in clients)

    async def drop(self, username: str) -> None:
        """End a user and its connections."""
        await self._redis.execute("ACL DELUSER", username)


class SharedLogin:
    """The user under which the gateway logs in for sessions without a login of their own.

    The orchestrator's own user may administer the server, which a session must not. All replicas share this one.
    """

    def __init__(self, redis: RedisEngine, secret: str) -> None:
        """Take a secret that all replicas know; nothing is made yet."""
        self.username = f"dominus_sessions_{hashlib.sha256(secret.encode('ascii')).hexdigest()[:12]}"
        self.password = secret
        self._redis = redis

    def __repr__(self) -> str:
        return f"SharedLogin({self.username!r})"

    async def ensure(self) -> None:
        """Make the user, or find it made; Redis forgets its users when it starts again.

        Raises:
            ServiceError: the orchestrator's own user may not make users.
        """
        await self._redis.execute(
            "ACL SETUSER", self.username, "on", "resetpass", _digest(self.password), *RULES
        )


def _digest(password: str) -> str:
    return "#" + hashlib.sha256(password.encode("ascii")).hexdigest()
