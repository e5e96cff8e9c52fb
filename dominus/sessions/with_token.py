"""Sessions with a token in hand, as plain functions: no client, no pre-shared key. The token says the target."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

from dominus.caller import Caller, Core
from dominus.contract.handshake import MAX_TOKEN_BYTES
from dominus.errors import AuthenticationError
from dominus.sessions.access import GivenRoutes
from dominus.sessions.factories import NativeTypes, PostgresSessions, RedisSessions, TigerBeetleSessions

if TYPE_CHECKING:
    import psycopg
    import redis as native_redis
    import tigerbeetle as native_tigerbeetle

    from dominus.sessions.session import Session

__all__ = ["TigerBeetle", "postgres", "redis"]

TIMEOUT_SECONDS = 10.0
"""Of a call over HTTP, as in the published client."""


def redis(
    jwt_token: str, *, db: int = 0, api_base_url: str | None = None, **options: Any
) -> Session[native_redis.Redis]:
    """Return a session whose native client is `redis.Redis`.

    Args:
        jwt_token: a session token: `await dominus.sessions.token("redis")`.
        db: the number of the database, from 0.
        api_base_url: the orchestrator; `DOMINUS_URL` without it.
        **options: what `redis.Redis` takes; `decode_responses` is true unless given.

    Raises:
        AuthenticationError: it cannot be a token.

    Example:
        ```python
        from dominus.sessions import redis

        token = await dominus.sessions.token("redis")
        with redis(jwt_token=token) as rd:
            rd.set("key", "value", ex=60)
        ```
    """
    return RedisSessions(_routes(jwt_token, api_base_url)).sync(db=db, **options)


def postgres(
    jwt_token: str, *, database: str | None = None, api_base_url: str | None = None, **options: Any
) -> Session[psycopg.Connection[Any]]:
    """Return a session whose native client is a `psycopg.Connection`.

    Args:
        jwt_token: a session token: `await dominus.sessions.token("postgres")`.
        database: another database than the orchestrator's.
        api_base_url: the orchestrator; `DOMINUS_URL` without it.
        **options: what `psycopg.connect` takes.

    Raises:
        AuthenticationError: it cannot be a token.

    Example:
        ```python
        from dominus.sessions import postgres

        token = await dominus.sessions.token("postgres")
        with postgres(jwt_token=token) as pg:
            pg.execute("SELECT 1")
        ```
    """
    return PostgresSessions(_routes(jwt_token, api_base_url)).sync(database=database, **options)


class TigerBeetle(NativeTypes):
    """Makes sessions with TigerBeetle, and hands out its native types: `tigerbeetle.Account`, `tigerbeetle.id()`."""

    def __call__(
        self, jwt_token: str, *, cluster_id: int = 0, api_base_url: str | None = None
    ) -> Session[native_tigerbeetle.ClientSync]:
        """Return a session whose native client is a `tigerbeetle.ClientSync`.

        Args:
            jwt_token: a session token: `await dominus.sessions.token("tigerbeetle")`.
            cluster_id: the number of the cluster, from 0.
            api_base_url: the orchestrator; `DOMINUS_URL` without it.

        Raises:
            AuthenticationError: it cannot be a token.

        Example:
            ```py
            from dominus.sessions import tigerbeetle

            with tigerbeetle(jwt_token=token) as tb:
                tb.create_accounts([tigerbeetle.Account(id=1, ledger=1, code=1)])
            ```
        """
        return TigerBeetleSessions(_routes(jwt_token, api_base_url)).sync(cluster_id=cluster_id)


def _routes(token: str, url: str | None) -> GivenRoutes:
    if (
        not token.isascii()
        or not token.isprintable()
        or " " in token
        or not 0 < len(token) <= MAX_TOKEN_BYTES
    ):
        raise AuthenticationError(
            f"jwt_token: not a token of 1 to {MAX_TOKEN_BYTES} printable characters", code="token_malformed"
        )
    # This client mints nothing, so that no key of it is ever sent; what a client needs is one that fits the form.
    key = secrets.token_urlsafe(32)
    timeout = None if "DOMINUS_TIMEOUT" in os.environ else TIMEOUT_SECONDS
    # Plain JSON from the start: without a mint nothing else is ever sent, on other servers neither.
    core = Core({"url": url, "token": key, "timeout": timeout}, speaks_json=True)
    return GivenRoutes(Caller(core), token)
