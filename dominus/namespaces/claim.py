"""The calls about one lock by one owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dominus.contract import redis as contract
from dominus.contract.request import Empty
from dominus.errors import CircuitOpenError, DominusError

if TYPE_CHECKING:
    from dominus.caller import Caller

__all__ = ["Claim", "may_be_taken"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants, has or had which lock."""

    caller: Caller
    name: str
    owner: str
    ttl: int
    category: str | None

    @property
    def key(self) -> tuple[str, str | None, str]:
        """What the server knows it by."""
        return self.name, self.category, self.owner

    async def acquire(self, timeout: float | None) -> contract.LockGrant:
        """Take the lock, or find who asks again still has it."""
        return await self.caller.send(contract.ACQUIRE_LOCK, self._request(), timeout=timeout)

    async def renew(self, timeout: float) -> contract.LockKept:
        """Keep it."""
        return await self.caller.send(contract.RENEW_LOCK, self._request(), timeout=timeout)

    async def release(self, timeout: float) -> bool:
        """Give it back; false when it was not this owner's."""
        request = contract.LockRelease(logical_path=self.name, owner=self.owner, category=self.category)
        return (await self.caller.send(contract.RELEASE_LOCK, request, timeout=timeout))["held"]

    async def epoch(self, timeout: float) -> str:
        """Ask which store the locks are in."""
        return (await self.caller.send(contract.LOCK_EPOCH, Empty(), timeout=timeout))["epoch"]

    def _request(self) -> contract.LockRequest:
        return contract.LockRequest(
            logical_path=self.name, owner=self.owner, ttl_seconds=self.ttl, category=self.category
        )


def may_be_taken(error: DominusError) -> bool:
    """Return whether the lock may have been granted by a call that failed so."""
    if error.attempts == 0:
        return False
    status = error.status_code or 0
    was_refused = isinstance(error, CircuitOpenError) or (400 <= status < 500 and status not in {408, 425})
    # Of several attempts the last one alone is told: an earlier one may have been granted, and its answer lost.
    return not was_refused or error.attempts > 1
