"""Which data a Redis holds: the epoch is another one after a restart, a failover and a FLUSHALL."""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import time
from collections.abc import Coroutine
from hashlib import blake2b
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoPermissionError, OutOfMemoryError, RedisError

__all__ = ["StoreEpoch"]

CACHE_SECONDS = 0.25
"""Holders of locks ask each second, of every replica: Redis is asked four times a second at most."""
KEY = "dominus-epoch"
_TRIES_FOR_EACH_PRIMARY = 64


class StoreEpoch:
    """The epoch of one client's Redis; one look-up however many ask.

    It is a digest of the `run_id` of each primary, which a restart and a failover change, and of a random value under
    a key of ours, which FLUSHALL takes away. What Redis refuses to tell is left out.
    """

    def __init__(self, client: Redis | RedisCluster, *, has_run_id: bool) -> None:
        """Ask with this client; the Redis inside this process has no `run_id`, and ends with its data."""
        self._client: Any = client
        self._has_run_id = has_run_id
        self._known = ""
        self._known_until = 0.0
        self._flight: asyncio.Task[str] | None = None

    async def current(self) -> str:
        """Return the epoch, empty where Redis tells nothing of it.

        Raises:
            RedisError: it is not known now; OSError likewise.
        """
        if time.monotonic() < self._known_until:
            return self._known
        if self._flight is None:
            # An empty context: the deadline of whoever came first must not end the look-up for all.
            self._flight = asyncio.create_task(
                self._look(), name="dominus-redis-epoch", context=contextvars.Context()
            )
            self._flight.add_done_callback(_retrieve)
        return await asyncio.shield(self._flight)

    async def aclose(self) -> None:
        """End a look-up that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    async def _look(self) -> str:
        try:
            asked_at = time.monotonic()
            told = await asyncio.gather(*self._questions(), return_exceptions=True)
            failures = [part for part in told if isinstance(part, BaseException)]
            parts = sorted(part for part in told if isinstance(part, str))
            # The locks of a cluster's other primaries go on when one is away: it is left out, and its return noticed.
            unexpected = (one for one in failures if not isinstance(one, (RedisError, OSError)))
            if failure := next(unexpected, None) or (failures[0] if failures and not any(parts) else None):
                raise failure
            known = "\n".join(filter(None, parts))
            self._known = blake2b(known.encode(), digest_size=16).hexdigest() if known else ""
            self._known_until = asked_at + CACHE_SECONDS
            return self._known
        finally:
            self._flight = None

    def _questions(self) -> list[Coroutine[Any, Any, str]]:
        if not isinstance(self._client, RedisCluster):
            return [self._value(KEY), *([self._run_id()] if self._has_run_id else ())]
        primaries: list[Any] = self._client.get_primaries()
        keys: dict[str, str] = {}
        # A key for each primary: FLUSHALL empties one. Which slots are whose changes, and then so may the epoch.
        for number in range(_TRIES_FOR_EACH_PRIMARY * len(primaries)):
            node: Any = self._client.get_node_from_key(key := f"{KEY}:{{{number}}}")
            if node is not None:
                keys.setdefault(node.name, key)
            if len(keys) == len(primaries):
                break
        return [*map(self._value, keys.values()), *(self._run_id(target_nodes=node) for node in primaries)]

    async def _run_id(self, **where: Any) -> str:
        try:
            info: dict[str, Any] = await self._client.execute_command("INFO", "server", **where)
        except NoPermissionError:
            return ""
        return str(info.get("run_id", ""))

    async def _value(self, key: str) -> str:
        try:
            value: bytes | None = await self._client.get(key)
            if value is None:
                await self._client.set(key, secrets.token_hex(16), nx=True)
                value = await self._client.get(key)
        except (NoPermissionError, OutOfMemoryError):
            return ""
        return value.decode() if value else ""


def _retrieve(flight: asyncio.Task[str]) -> None:
    # Every waiter may have gone by now; an exception that nobody reads would be reported by the loop.
    if not flight.cancelled():
        flight.exception()
