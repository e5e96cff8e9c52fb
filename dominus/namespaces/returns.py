"""Locks that are given back in the background, where nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dominus.errors import DominusError

if TYPE_CHECKING:
    from dominus.caller import Core
    from dominus.namespaces.claim import Claim

__all__ = ["Returns"]

_log = logging.getLogger("dominus.redis")
RELEASE_SECONDS = 5.0
"""The deadline of each try."""
TRY_SECONDS = 60.0
"""How long a server that is away is waited for."""
LATE_SECONDS = 15.0
"""How long a request for the lock that nobody waits for any more may still be under way."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
MAX_COUNT = 256
"""So many at a time in a client and loop; those beyond are left to their ttl, which is logged."""


class _Return:
    """One lock on its way back."""

    def __init__(self, claim: Claim, *, was_held: bool) -> None:
        self.claim = claim
        self.tried = asyncio.Event()
        """The first try has ended, one way or the other."""
        self.task: asyncio.Task[None] | None = None
        self._was_held = was_held
        self._is_resting = False
        self._is_stopped = False

    async def run(self) -> None:
        """Try until it is given back, or until it is no use any more."""
        shared = self.claim.caller.shared
        clock, pause = shared.clock, FIRST_PAUSE_SECONDS
        began = clock.monotonic()
        while not self._is_stopped:
            lasts, failed = await self._try()
            self.tried.set()
            rest = pause * (0.5 + shared.random() / 2)
            if clock.monotonic() - began + rest > lasts:
                if failed is not None:
                    message = "releasing the lock %r failed, it ends in at most %d s: %s"
                    _log.warning(message, self.claim.name, self.claim.ttl, failed)
                return
            self._is_resting = True
            await clock.sleep(rest)
            self._is_resting = False
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _try(self) -> tuple[float, DominusError | None]:
        """Release it once; return for how many seconds since the beginning it is worth another try, and why."""
        try:
            is_done = await self.claim.release(RELEASE_SECONDS)
        except DominusError as error:
            return (min(TRY_SECONDS, self.claim.ttl) if error.retryable else 0.0), error
        # It may be taken after this: the request that nobody waits for was overtaken by the release.
        return (0.0 if is_done or self._was_held else LATE_SECONDS), None

    async def stop(self) -> None:
        """End it; a try that is under way ends first, since the server may have it already."""
        self._is_stopped = True
        if self.task is not None:
            if self._is_resting:
                self.task.cancel()
            await asyncio.wait({self.task})


class Returns:
    """Those of one client in one event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._under_way: dict[tuple[str, str | None, str], _Return] = {}

    @classmethod
    def of(cls, core: Core) -> Returns:
        """Return those of the running loop."""
        background = core.background()
        return cls(core) if background is None else background.single(cls, lambda: cls(core))

    def begin(self, claim: Claim, *, was_held: bool) -> _Return | None:
        """Give a lock back in the background; None where there is nothing to do it with."""
        background = self._core.background()
        if background is None:
            # Nothing was ever sent.
            return None
        if len(self._under_way) >= MAX_COUNT and not was_held:
            _log.warning("the lock %r is not released: %d others are", claim.name, len(self._under_way))
            return None
        made = _Return(claim, was_held=was_held)
        self._under_way[claim.key] = made

        def ended(_: asyncio.Task[None]) -> None:
            made.tried.set()
            if self._under_way.get(claim.key) is made:
                del self._under_way[claim.key]

        made.task = background.start(made.run(), f"dominus-release-{claim.name}")
        made.task.add_done_callback(ended)
        return made

    async def stop(self, claim: Claim) -> None:
        """End the return of an earlier lock of the same owner, before that owner takes it again."""
        under_way = self._under_way.get(claim.key)
        if under_way is not None:
            await under_way.stop()
