"""`async with dominus.redis.lock("job", ttl=60) as lease:`: a lock with an owner, renewal and a fence."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from dominus.errors import DominusError, LeaseLostError, LockNotAcquiredError

if TYPE_CHECKING:
    from types import TracebackType

    from dominus.namespaces.redis import Redis
    from dominus.transport.clock import Clock

__all__ = ["Lease", "Lock"]

_log = logging.getLogger("dominus.redis")
POLL_SECONDS = 0.25
"""How often a waiting caller asks again."""


class Lease:
    """A held lock.

    Attributes:
        fence: grows with every acquisition; a store that remembers the greatest it saw can refuse late writers.
        owner: the token that renews and releases.
    """

    def __init__(self, name: str, owner: str, fence: int) -> None:
        self.name = name
        self.owner = owner
        self.fence = fence
        self.is_lost = False

    def check(self) -> None:
        """Raise LeaseLostError when the lock is known to be lost; ask before what must not be done twice."""
        if self.is_lost:
            raise LeaseLostError(f"the lock {self.name!r} was lost while it was held", endpoint="redis.lock")


class Lock:
    """Made by `dominus.redis.lock()`. Enter it once at a time."""

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        name: str,
        *,
        ttl: int,
        category: str | None,
        wait: float,
        owner: str | None,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._name = name
        self._ttl = ttl
        self._category = category
        self._wait = wait
        self._owner = owner or secrets.token_urlsafe(24)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Lease:
        return await self._stack.enter_async_context(self._held())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncGenerator[Lease]:
        lease = Lease(self._name, self._owner, await self._acquire())
        renewal = asyncio.create_task(self._renew(lease), name=f"dominus-lease-{self._name}")
        try:
            yield lease
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            await asyncio.shield(self._release(lease))

    async def _acquire(self) -> int:
        ends = self._clock.monotonic() + self._wait
        while True:
            fence = await self._redis.acquire_lock(self._name, self._owner, self._ttl, self._category)
            if fence is not None:
                return fence
            left = ends - self._clock.monotonic()
            if left <= 0:
                raise LockNotAcquiredError(
                    f"the lock {self._name!r} is held by another",
                    endpoint="redis.lock",
                    hint="wait= waits for it",
                )
            await self._clock.sleep(min(POLL_SECONDS, left))

    async def _renew(self, lease: Lease) -> None:
        """Renew after a third of the life; a failed try leaves time for two more."""
        good_until = self._clock.monotonic() + self._ttl
        while True:
            await self._clock.sleep(self._ttl / 3)
            began = self._clock.monotonic()
            try:
                is_held = await self._redis.renew_lock(
                    self._name, self._owner, self._ttl, self._category, timeout=self._ttl / 4
                )
            except DominusError as error:
                _log.warning("renewing the lock %r failed: %s", self._name, error)
                if self._clock.monotonic() < good_until:
                    continue
                is_held = False
            if not is_held:
                lease.is_lost = True
                _log.error("the lock %r was lost while it was held", self._name)
                return
            good_until = began + self._ttl

    async def _release(self, lease: Lease) -> None:
        try:
            await self._redis.release_lock(self._name, self._owner, self._category)
        except DominusError as error:
            # The work is done, and the lock ends by itself: the caller's result matters more.
            _log.warning(
                "releasing the lock %r failed, it ends in at most %d s: %s", lease.name, self._ttl, error
            )
