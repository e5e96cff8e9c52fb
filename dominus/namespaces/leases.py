"""The leases that a client holds, and the one task that looks whether their store is still the same.

A lock is lost long before its next renewal when Redis came back empty or with older data, or when another server took
over. The server tells which store it has by an epoch; when that is another than a lease's, the lease is renewed at
once, and the answer says whether it is still held.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dominus.errors import DominusError

if TYPE_CHECKING:
    from dominus.caller import Core
    from dominus.namespaces.lease import Lease

__all__ = ["Leases"]

_log = logging.getLogger("dominus.redis")
WATCH_SECONDS = 1.0
"""How often the epoch is asked for while leases are held."""
ASK_SECONDS = 1.0
RENEW_SECONDS = 2.0
AT_ONCE = 16
"""So many leases of another epoch are renewed at a time."""


class Leases:
    """Those of one client in one event loop. Without any, nothing runs."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._held: dict[Lease, None] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._turn = 0

    @classmethod
    def of(cls, core: Core) -> Leases:
        """Return those of the running loop."""
        background = core.background()
        return cls(core) if background is None else background.single(cls, lambda: cls(core))

    def add(self, lease: Lease) -> None:
        """Watch a lease that was granted just now."""
        self._held[lease] = None
        self._learn(lease, lease.epoch)

    def holds(self, lease: Lease) -> bool:
        """Return whether it is held: neither lost nor given back."""
        return lease in self._held

    def drop(self, lease: Lease) -> asyncio.Task[None] | None:
        """Forget a lease that is lost or given back; return the watcher if it ends with it."""
        self._held.pop(lease, None)
        if self._held or self._watcher is None:
            return None
        watcher, self._watcher = self._watcher, None
        watcher.cancel()
        return watcher

    async def renew(self, lease: Lease, timeout: float) -> None:
        """Renew a lease, or note that it is lost.

        Args:
            lease: one that is not lost yet.
            timeout: seconds.

        Raises:
            DominusError: it is not known.
        """
        began = self._core.clock.monotonic()
        kept = await lease.claim.renew(min(timeout, lease.left()))
        if not self.holds(lease):
            # It was given back meanwhile.
            return
        if kept["held"]:
            lease.renewed(began + lease.claim.ttl)
            self._learn(lease, kept.get("epoch"))
        else:
            lease.lose()
            self.drop(lease)

    def _learn(self, lease: Lease, epoch: str | None) -> None:
        """Note the epoch of an answer about a lease; leases of another one are looked at without delay."""
        lease.epoch = epoch
        if epoch is None:
            return
        watcher = self._watcher
        if watcher is not None and not watcher.done():
            # Answers to its own renewals start no other look: servers that disagree would keep it running.
            if watcher is self._checking or all(other.epoch == epoch for other in self._held):
                return
            watcher.cancel()
        background = self._core.background()
        if background is not None:
            self._watcher = background.start(self._watch(epoch), "dominus-leases")

    async def _watch(self, epoch: str | None) -> None:
        shared = self._core.shared
        # A cancellation may be lost on its way through the libraries below.
        while self._watcher is asyncio.current_task():
            if epoch is not None:
                await self._check(epoch)
            # Jittered: many programs noticed the same restart at the same moment.
            await shared.clock.sleep(WATCH_SECONDS * (0.75 + 0.25 * shared.random()))
            epoch = await self._ask()

    async def _ask(self) -> str | None:
        # Any lease's caller may ask; after a failure the next one does, whose token may still be good.
        askers = list(self._held)
        if not askers:
            return None
        asker = askers[self._turn % len(askers)]
        try:
            return await asker.claim.epoch(ASK_SECONDS)
        except DominusError as error:
            _log.debug("the store of the locks is not known: %s", error)
            self._turn += 1
            return None

    async def _check(self, epoch: str) -> None:
        strange = [lease for lease in self._held if lease.epoch != epoch and not lease.is_lost]
        if not strange:
            return
        me = self._checking = asyncio.current_task()
        try:
            for start in range(0, len(strange), AT_ONCE):
                await asyncio.gather(*map(self._look_after, strange[start : start + AT_ONCE]))
        finally:
            if self._checking is me:
                self._checking = None

    async def _look_after(self, lease: Lease) -> None:
        if lease.is_lost or not self.holds(lease):
            return
        try:
            await self.renew(lease, RENEW_SECONDS)
        except DominusError as error:
            _log.debug("the lock %r was not renewed in another store: %s", lease.name, error)
