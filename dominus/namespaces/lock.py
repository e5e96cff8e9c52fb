"""`async with dominus.redis.lock("job", ttl=60) as lease:`: a lock with an owner, renewal and a fence."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import secrets
from collections.abc import AsyncGenerator, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from dominus.errors import DominusError, DominusTimeoutError, LeaseLostError, LockNotAcquiredError
from dominus.hints import refuses

if TYPE_CHECKING:
    from types import TracebackType

    from dominus.transport.clock import Clock

__all__ = ["Lease", "Lock"]

_log = logging.getLogger("dominus.redis")
POLL_SECONDS = 0.25
"""How often a waiting caller asks again."""
RELEASE_SECONDS = 5.0
"""How long giving a lock back may keep its holder; the lock ends by itself."""


class LockCalls(Protocol):
    """The calls that a lock is made of: `dominus.redis`."""

    async def acquire_lock(self, key: str, owner: str, ttl: int, category: str | None) -> int | None:
        """Take the lock; None when another holds it."""
        ...

    async def renew_lock(
        self, key: str, owner: str, ttl: int, category: str | None, *, timeout: float | None
    ) -> bool:
        """Keep it; false when it is no longer the owner's."""
        ...

    async def release_lock(
        self, key: str, owner: str, category: str | None, *, timeout: float | None
    ) -> bool:
        """Give it back."""
        ...


class Lease:
    """A held lock.

    Attributes:
        fence: grows with every acquisition; a store that remembers the greatest it saw can refuse late writers.
        owner: the token that renews and releases.
    """

    def __init__(self, name: str, owner: str, fence: int, clock: Clock, good_until: float) -> None:
        self.name = name
        self.owner = owner
        self.fence = fence
        self._clock = clock
        self._good_until = good_until
        self._is_lost = False

    @property
    def is_lost(self) -> bool:
        """Whether another may hold the lock by now: it was taken over, or not renewed in time."""
        return self._is_lost or self._clock.monotonic() >= self._good_until

    def check(self) -> None:
        """Raise LeaseLostError when the lock is known to be lost; ask before what must not be done twice.

        Raises:
            LeaseLostError: another may hold the lock by now.

        Example:
            ```python
            async with dominus.redis.lock("billing", ttl=60) as lease:
                lease.check()
            ```
        """
        if self.is_lost:
            raise LeaseLostError(f"the lock {self.name!r} was lost while it was held", endpoint="redis.lock")

    def renewed(self, good_until: float) -> None:
        """Note a renewal."""
        self._good_until = good_until

    def lose(self) -> None:
        """Note that it is another's."""
        self._is_lost = True

    def left(self) -> float:
        """Return the seconds until it is lost without a renewal.

        Example:
            ```python
            async with dominus.redis.lock("billing", ttl=60) as lease:
                assert lease.left() <= 60
            ```
        """
        return self._good_until - self._clock.monotonic()


@refuses("with", "await", instead="async with dominus.redis.lock(...) as lease:")
class Lock:
    """Made by `dominus.redis.lock()`. It is entered once at a time: every holder makes its own."""

    def __init__(
        self,
        redis: LockCalls,
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
        self._is_entered = False

    def __repr__(self) -> str:
        return f"<lock {self._name!r}>"

    async def __aenter__(self) -> Lease:
        if self._is_entered:
            # The server grants the same owner again: two tasks with one object would both be in.
            raise LockNotAcquiredError(
                f"the lock {self._name!r} is in use through this very object",
                endpoint="redis.lock",
                hint="every holder makes its own: `async with dominus.redis.lock(...)`",
            )
        self._is_entered = True
        try:
            return await self._stack.enter_async_context(self._held())
        except BaseException:
            self._is_entered = False
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._stack.__aexit__(kind, error, trace)
        finally:
            self._is_entered = False

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncGenerator[Lease]:
        lease = await self._acquire()
        renewal = _apart(self._renew(lease), f"dominus-lease-{self._name}")
        try:
            yield lease
        finally:
            renewal.cancel()
            release = _apart(self._release(), f"dominus-release-{self._name}")
            await asyncio.gather(renewal, return_exceptions=True)
            await asyncio.shield(release)

    async def _acquire(self) -> Lease:
        ends = self._clock.monotonic() + self._wait
        while True:
            # Its life begins on the server, before the answer is here.
            began = self._clock.monotonic()
            try:
                fence = await self._redis.acquire_lock(self._name, self._owner, self._ttl, self._category)
            except (asyncio.CancelledError, DominusTimeoutError):
                # It may have been granted, and nobody would know.
                await asyncio.shield(_apart(self._release(), f"dominus-release-{self._name}"))
                raise
            if fence is not None:
                return Lease(self._name, self._owner, fence, self._clock, began + self._ttl)
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
        while not lease.is_lost:
            await self._clock.sleep(min(self._ttl / 3, lease.left()))
            began = self._clock.monotonic()
            if lease.is_lost:
                break
            try:
                is_held = await self._redis.renew_lock(
                    *(self._name, self._owner, self._ttl, self._category),
                    timeout=min(self._ttl / 4, lease.left()),
                )
            except DominusError as error:
                _log.warning("renewing the lock %r failed: %s", self._name, error)
                continue
            if is_held:
                lease.renewed(began + self._ttl)
            else:
                lease.lose()
        _log.error("the lock %r was lost while it was held", self._name)

    async def _release(self) -> None:
        try:
            await self._redis.release_lock(self._name, self._owner, self._category, timeout=RELEASE_SECONDS)
        except DominusError as error:
            # The work is done, and the lock ends by itself: the caller's result matters more.
            _log.warning(
                "releasing the lock %r failed, it ends in at most %d s: %s", self._name, self._ttl, error
            )


def _apart(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a task that no `dominus.deadline` of the holder's code ends."""
    return asyncio.create_task(work, name=name, context=contextvars.Context())
