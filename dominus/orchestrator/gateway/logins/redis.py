"""Logins of Redis: ACL users who reach data, but no code, no administration and no entry of the orchestrator's."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from dominus.errors import ServiceError, ValidationError
from dominus.orchestrator.gateway.upstream.connection import Address, RedisLogin, open_upstream

if TYPE_CHECKING:
    import datetime as dt

    from dominus.orchestrator.engines.redis.client import RedisEngine

__all__ = ["RedisLogins", "SharedLogin", "rules_of"]

OWN_PREFIXES = ("dominus:", "dominus-")
"""With which all names of the orchestrator in Redis begin, and none of a session's."""
ANSWER_SECONDS = 5.0

# Categories of data; of those which not every version has, the ones whose commands reach one key at a time. `search` is
# none of them: an index over hashes would show the orchestrator's.
_CATEGORIES = (
    *("keyspace", "string", "hash", "list", "set", "sortedset", "stream", "bitmap", "hyperloglog", "geo"),
    *("pubsub", "transaction", "connection"),
)
_MORE_CATEGORIES = ("json", "bloom", "cuckoo", "cms", "topk", "tdigest", "vectorset", "array")
_REFUSED = ("-@admin", "-@dangerous", "-@scripting")
# Harmless ones that the line above refuses, or that are in no category of data.
_ALLOWED = ("+info", "+keys", "+time", "+memory|usage")
_EMBEDDED_RULES = ("~*", "&*", "+@all")
_FIRST_WITH_SORT = 7
"""Before, SORT read through BY and GET what the key patterns of its user refuse."""


def _patterns_beside(*prefixes: str) -> Iterator[str]:
    """Yield globs that match every name except those that begin with a prefix: ACLs have no pattern that refuses."""
    starts = sorted({prefix[:length] for prefix in prefixes for length in range(len(prefix))})
    for start in starts:
        followers = {prefix[len(start)] for prefix in prefixes if prefix.startswith(start)}
        # A hyphen that is not the first would make a range.
        yield f"{start}[^{''.join(sorted(followers))}]*"
        if start:
            yield start


async def rules_of(redis: RedisEngine, *, has_scripts: bool) -> tuple[str, ...]:
    """Return what a session may do, as rules of `ACL SETUSER`.

    Raises:
        ServiceError: the orchestrator's own user may not look at the categories.
    """
    if redis.is_embedded:
        # There the gateway itself has a list of commands, and the sessions have data of their own.
        return _EMBEDDED_RULES
    known = {_text(name) for name in await redis.execute("ACL CAT")}
    wanted = (*_CATEGORIES, *(name for name in _MORE_CATEGORIES if name in known))
    return (
        *(f"~{pattern}" for pattern in _patterns_beside(*OWN_PREFIXES)),
        "&*",
        *(f"+@{name}" for name in wanted),
        *_REFUSED,
        *_ALLOWED,
        *(("+sort",) if await _major_version(redis) >= _FIRST_WITH_SORT else ()),
        *(("+@scripting",) if has_scripts else ()),
    )


async def _major_version(redis: RedisEngine) -> int:
    # HELLO needs no rights, INFO does.
    answer = cast("dict[Any, Any] | list[Any]", await redis.execute("HELLO"))
    said = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    return int(_text(said.get(b"version") or said["version"]).partition(".")[0])


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


class RedisLogins:
    """Makes and ends the users."""

    def __init__(self, redis: RedisEngine, *, has_scripts: bool) -> None:
        self._redis = redis
        self._has_scripts = has_scripts

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
        await _make(self._redis, username, password, has_scripts=self._has_scripts)

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
    """The user under which the gateway logs in for sessions, which have no login of their own.

    The orchestrator's own user may administer the server, which a session must not. All replicas share this one.
    """

    def __init__(self, redis: RedisEngine, secret: str, address: Address, *, has_scripts: bool) -> None:
        """Take a secret that all replicas know; nothing is made yet."""
        # Replicas with other rules, of another version or other settings, have another user.
        told = f"{secret} {_CATEGORIES} {_MORE_CATEGORIES} {_ALLOWED} {OWN_PREFIXES} {has_scripts}"
        self.username = f"dominus_sessions_{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self.password = secret
        self._redis = redis
        self._address = address
        self._has_scripts = has_scripts
        self._is_made = False

    def __repr__(self) -> str:
        return f"SharedLogin({self.username!r})"

    async def ensure(self) -> None:
        """Make the user, unless this process has made it.

        Raises:
            ServiceError: `redis_unprotected`: a session could leave the user for one without a password;
                `credentials_unavailable`: the orchestrator's own user may not make users.
        """
        if not self._is_made:
            await self.make()

    async def make(self) -> None:
        """Make the user, or find it made; Redis forgets its users when it starts again. Raises as `ensure`."""
        self._is_made = False
        await _refuse_open_default(self._address)
        await _make(self._redis, self.username, self.password, has_scripts=self._has_scripts)
        self._is_made = True


async def _make(redis: RedisEngine, username: str, password: str, *, has_scripts: bool) -> None:
    # The digest instead of the password: MONITOR and logs show commands. `reset` ends the rules of an older version.
    try:
        rules = await rules_of(redis, has_scripts=has_scripts)
        await redis.execute("ACL SETUSER", username, "reset", "on", _digest(password), *rules)
    except ServiceError as error:
        if error.code != "redis_refused":
            raise
        raise ServiceError(
            "sessions of Redis need logins, which the orchestrator's own user of Redis may not make",
            code="credentials_unavailable",
            status_code=503,
            retryable=False,
            hint="give the user of DOMINUS_REDIS_URL the commands ACL SETUSER, ACL DELUSER and ACL CAT, "
            "or name another Redis in DOMINUS_GATEWAY_TARGETS",
        ) from error


async def _refuse_open_default(address: Address) -> None:
    """Raise when the `default` user takes any password: by AUTH, which no rule refuses, a session would become it."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            transport, upstream = await open_upstream(address, None)
            try:
                login = RedisLogin("default", secrets.token_urlsafe(32))
                transport.write(login.encoded)
                answer = await upstream.read_line()
            finally:
                transport.abort()
    except (OSError, TimeoutError) as error:
        raise ServiceError("Redis is not available", code="redis_unavailable", status_code=503) from error
    if answer.startswith(b"-WRONGPASS"):
        return
    if answer == b"+OK":
        raise ServiceError(
            "sessions of Redis are off: its `default` user has no password, so every session could become it",
            code="redis_unprotected",
            status_code=503,
            retryable=False,
            hint="set `requirepass` (or ACL SETUSER default >password) in Redis and name the password in "
            "DOMINUS_REDIS_URL, or name another Redis in DOMINUS_GATEWAY_TARGETS",
        )
    # Too many clients, for example: whether the door is open cannot be told.
    raise ServiceError("Redis is not available", code="redis_unavailable", status_code=503)


def _digest(password: str) -> str:
    return "#" + hashlib.sha256(password.encode("ascii")).hexdigest()
