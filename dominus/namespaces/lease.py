"""A lock that is held."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dominus.errors import LeaseLostError

if TYPE_CHECKING:
    from dominus.namespaces.claim import Claim
    from dominus.transport.clock import Clock

__all__ = ["Lease"]

_log = logging.getLogger("dominus.redis")


class Lease:
    """A held lock.

    Attributes:
        fence: grows with every acquisition; a store that remembers the greatest it saw can refuse late writers.
        owner: the token that renews and releases.
        epoch: which store it was last known to be in; None from a server that tells none.
    """

    def __init__(self, claim: Claim, clock: Clock, fence: int, good_until: float, epoch: str | None) -> None:
        self.name = claim.name
        self.owner = claim.owner
        self.fence = fence
        self.epoch = epoch
        self._claim = claim
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

    @property
    def claim(self) -> Claim:
        """The calls about it."""
        return self._claim

    def renewed(self, good_until: float) -> None:
        """Note a renewal; what was lost stays lost."""
        self._good_until = max(self._good_until, good_until)

    def lose(self) -> None:
        """Note that it is another's, and say so once."""
        if not self._is_lost:
            self._is_lost = True
            _log.error("the lock %r was lost while it was held", self.name)

    def left(self) -> float:
        """Return the seconds until it is lost without a renewal.

        Example:
            ```python
            async with dominus.redis.lock("billing", ttl=60) as lease:
                assert lease.left() <= 60
            ```
        """
        return self._good_until - self._clock.monotonic()
