"""`async with dominus.redis.lock("job", ttl=60) as lease:`: a lock with an owner, renewal and a fence."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.errors import DominusError, LockNotAcquiredError
from dominus.hints import refuses
from dominus.namespaces.claim import Claim, may_be_taken
from dominus.namespaces.lease import Lease
from dominus.namespaces.leases import Leases
from dominus.namespaces.returns import Returns
from dominus.transport.deadline import block_deadline

if TYPE_CHECKING:
    from types import TracebackType

    from dominus.caller import Caller

__all__ = ["Lease", "Lock"]

_log = logging.getLogger("dominus.redis")
POLL_SECONDS = 0.25
"""How often a waiting caller asks again."""
LONGEST_PAUSE_SECONDS = 1.0
"""Between two tries while the server is away."""
CANCEL_SECONDS = 0.25
"""How long a cancelled caller waits for what may be its lock to be given back; that goes on in the background."""


@dataclass(slots=True)
class _Seen:
    """What the tries of one entering have shown."""

    failure_count: int = 0
    """Since the last answer."""
    may_be_taken: bool = False


@refuses("with", "await", instead="async with dominus.redis.lock(...) as lease:")
class Lock:
    """Made by `dominus.redis.lock()`. It is entered once at a time: every holder makes its own."""

    def __init__(
        self,
        caller: Caller,
        name: str,
        *,
        ttl: int,
        category: str | None,
        wait: float,
        owner: str | None,
    ) -> None:
        self._caller = caller
        self._clock = caller.shared.clock
        self._name = name
        self._ttl = ttl
        self._category = category
        self._wait = wait
        self._owner = owner
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
        # A new owner for each entering: what is given back of an earlier one is never this one's.
        owner = self._owner or secrets.token_urlsafe(24)
        claim = Claim(self._caller, self._name, owner, self._ttl, self._category)
        lease = await self._acquire(claim)
        leases = Leases.of(self._caller.core)
        leases.add(lease)
        # No `dominus.deadline` of the holder's code ends the renewals.
        renewal = asyncio.create_task(
            self._renew(lease, leases), name=f"dominus-lease-{self._name}", context=contextvars.Context()
        )
        try:
            yield lease
        finally:
            renewal.cancel()
            watcher = leases.drop(lease)
            release = Returns.of(self._caller.core).begin(claim, was_held=True)
            ended = [task for task in (renewal, watcher) if task is not None]
            await asyncio.gather(*ended, return_exceptions=True)
            if release is not None:
                await release.tried.wait()

    async def _acquire(self, claim: Claim) -> Lease:
        """Take the lock. What may have been taken when this ends without it is given back in the background."""
        if self._owner is not None:
            await Returns.of(self._caller.core).stop(claim)
        seen = _Seen()
        try:
            return await self._granted(claim, seen)
        except asyncio.CancelledError:
            returns = Returns.of(self._caller.core)
            release = returns.begin(claim, was_held=False) if seen.may_be_taken else None
            if release is not None:
                # A program that ends would end the release, too, and a server that is there takes milliseconds.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CANCEL_SECONDS):
                        await release.tried.wait()
            raise
        except Exception:
            if seen.may_be_taken:
                Returns.of(self._caller.core).begin(claim, was_held=False)
            raise

    async def _granted(self, claim: Claim, seen: _Seen) -> Lease:
        """Ask until the lock is granted or `wait` is over. One owner asks: a grant whose answer was lost is told again.

        Raises:
            LockNotAcquiredError: another holds it.
            DominusError: the last answer, or what came instead of it.
        """
        ends = self._clock.monotonic() + self._wait
        while True:
            try:
                lease = await self._ask(claim, ends - self._clock.monotonic())
            except DominusError as error:
                pause = self._pause_after(error, seen, ends - self._clock.monotonic())
                if pause is None:
                    raise
            except (asyncio.CancelledError, Exception):
                seen.may_be_taken = True
                raise
            else:
                seen.failure_count = 0
                left = ends - self._clock.monotonic()
                if lease is not None:
                    if lease.left() > self._ttl * 2 / 3 or left <= 0:
                        return lease
                    # The call waited out an outage, and much of the life is over: who asks again gets a new one.
                    seen.may_be_taken, pause = True, 0.0
                elif left > 0:
                    pause = min(POLL_SECONDS, left)
                else:
                    raise self._is_taken()
            await self._clock.sleep(pause)

    def _is_taken(self) -> LockNotAcquiredError:
        return LockNotAcquiredError(
            f"the lock {self._name!r} is held by another", endpoint="redis.lock", hint="wait= waits for it"
        )

    async def _ask(self, claim: Claim, left: float) -> Lease | None:
        # Its life begins on the server, before the answer is here.
        began = self._clock.monotonic()
        # A deadline of the rest of the wait, where that is longer than the usual one.
        grant = await claim.acquire(left if left > self._caller.shared.settings.timeout else None)
        fence = grant.get("fence") if grant["acquired"] else None
        if fence is None:
            return None
        return Lease(claim, self._clock, fence, began + self._ttl, grant.get("epoch"))

    def _pause_after(self, error: DominusError, seen: _Seen, left: float) -> float | None:
        seen.failure_count += 1
        seen.may_be_taken = seen.may_be_taken or may_be_taken(error)
        block = block_deadline()
        if block is not None and block <= 0:
            return None
        return pause_after(error, seen.failure_count, left, self._caller.shared.random())

    async def _renew(self, lease: Lease, leases: Leases) -> None:
        """Renew after a third of the life; a failed try leaves time for two more."""
        while leases.holds(lease):
            await self._clock.sleep(min(self._ttl / 3, lease.left()))
            if lease.is_lost or not leases.holds(lease):
                break
            try:
                await leases.renew(lease, self._ttl / 4)
            except DominusError as error:
                _log.warning("renewing the lock %r failed: %s", self._name, error)
        if leases.holds(lease):
            lease.lose()
            leases.drop(lease)


def pause_after(error: DominusError, failure_count: int, left: float, chance: float) -> float | None:
    """Return the seconds until a waiting caller asks again after a failure; None when there is no use in it.

    Args:
        error: the failure.
        failure_count: how many there were in a row.
        left: seconds of the wait that are left.
        chance: 0 to 1, for the jitter.
    """
    least = error.retry_after or 0.0
    if not error.retryable or left <= 0 or least > left:
        return None
    ceiling = min(LONGEST_PAUSE_SECONDS, POLL_SECONDS * 2 ** min(failure_count, 8))
    return min(max(least, ceiling * (0.5 + chance / 2)), left)
