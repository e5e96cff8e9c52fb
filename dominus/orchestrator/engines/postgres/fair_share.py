"""Which caller is next for one of a few connections: nobody has all of them, and who has fewest goes first."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from types import TracebackType

from dominus.errors import ServiceError

__all__ = ["FairShare"]


class FairShare:
    """A line before a pool of `size` connections. A connection that is free and not needed by others is had at once.

    One caller holds three quarters at most, so that statements which wait for a lock, or bodies that drip, never keep
    everybody else out. When several wait, the one that holds least is next: two that ask for more than there is have
    half each.
    """

    def __init__(self, size: int, *, wait_seconds: float, what: str) -> None:
        """Prepare.

        Args:
            size: connections.
            wait_seconds: how long a caller waits at most.
            what: names them in the error, for example `database connections`.
        """
        self._free = size
        self.most_each = max(1, size - max(1, size // 4))
        self._size, self._wait_seconds, self._what = size, wait_seconds, what
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def of(self, subject: str) -> _Place:
        """Return a context manager that holds one of them for a caller."""
        return _Place(self, subject)

    async def take(self, subject: str) -> None:
        """Take one; raises ServiceError (503, `database_busy`) when none becomes free in time."""
        # Who waits while one is free may not have more: nobody is overtaken.
        if self._free and self._held[subject] < self.most_each:
            self._free -= 1
            self._held[subject] += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(subject, deque()).append(place)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.give(subject)
            else:
                self._leave(subject, place)
            if isinstance(error, TimeoutError):
                raise self._busy(subject) from error
            raise

    def give(self, subject: str) -> None:
        """Give one back, to the waiting caller that holds least."""
        self._free += 1
        self._held[subject] -= 1
        if not self._held[subject]:
            del self._held[subject]
        while self._free and self._waiting:
            following = min(self._waiting, key=self._holds)
            if self._holds(following) >= self.most_each:
                return
            line = self._waiting[following]
            place = line.popleft()
            if not line:
                del self._waiting[following]
            if not place.done():
                self._free -= 1
                self._held[following] += 1
                place.set_result(None)

    def _holds(self, subject: str) -> int:
        return self._held.get(subject, 0)

    def _leave(self, subject: str, place: asyncio.Future[None]) -> None:
        line = self._waiting.get(subject)
        if line is not None and place in line:
            line.remove(place)
            if not line:
                del self._waiting[subject]

    def _busy(self, subject: str) -> ServiceError:
        own = self._holds(subject) >= self.most_each
        return ServiceError(
            f"this caller uses {self.most_each} {self._what}, the most that one may have"
            if own
            else f"all {self._size} {self._what} are busy",
            code="database_busy",
            status_code=503,
            retry_after=1.0,
            hint="raise DOMINUS_POOL_SIZE, or find the slow statements",
        )


class _Place:
    __slots__ = ("_share", "_subject")

    def __init__(self, share: FairShare, subject: str) -> None:
        self._share, self._subject = share, subject

    async def __aenter__(self) -> None:
        await self._share.take(self._subject)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._share.give(self._subject)
