"""PSK -> JWT, minted lazily, once however many wait, and refreshed ahead of its end."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dominus.contract.auth import MintAnswer
from dominus.crypto import SecretBox
from dominus.errors import DominusConnectionError, DominusError, ServiceError, ValidationError
from dominus.transport.clock import Clock

__all__ = ["Credentials", "Freshness", "SealedToken", "SharedToken", "freshness"]

DEFAULT_LIFETIME = 900.0
"""Seconds, when the server names none; what the published client's servers give."""
REFRESH_PAUSE_SECONDS = 5.0
"""Between two refreshes that are tried ahead: loops that end before their refresh does would each begin one."""
_log = logging.getLogger("dominus.transport")


class Freshness(enum.Enum):
    """What a token is good for."""

    FRESH = "fresh"
    AGING = "aging"
    """Usable, and a new one is fetched in the background."""
    EXPIRED = "expired"


def freshness(age: float, lifetime: float) -> Freshness:
    """Judge a token by its age in seconds: refreshed after 80 % of its life, dropped 5 s or 5 % before its end."""
    if age >= lifetime - min(5.0, lifetime * 0.05):
        return Freshness.EXPIRED
    return Freshness.AGING if age >= lifetime * 0.8 else Freshness.FRESH


@dataclass(frozen=True, slots=True)
class SealedToken:
    """A token as it lies in memory: sealed under a key derived from the PSK."""

    sealed: bytes = field(repr=False)
    born: float
    """By the clock of the client, which is one for all loops and for the children of a fork."""
    lifetime: float
    """Seconds."""

    def state(self, now: float) -> Freshness:
        """Return what it is good for."""
        return freshness(now - self.born, self.lifetime)


class SharedToken:
    """The latest token of all loops and threads of a client, so that each `asyncio.run` need not mint its own.

    Without a lock: the child of a fork could inherit it held. What two threads do in the same instant leaves a good
    token in any order.
    """

    __slots__ = ("_refresh_at", "latest")

    def __init__(self) -> None:
        self.latest: SealedToken | None = None
        self._refresh_at = -math.inf

    def put(self, minted: SealedToken) -> None:
        """Keep a token, unless a younger one is there."""
        latest = self.latest
        if latest is None or latest.born <= minted.born:
            self.latest = minted

    def takes_refresh(self, now: float) -> bool:
        """Return whether it is time to refresh ahead; whoever is told so does it."""
        if now < self._refresh_at:
            return False
        self._refresh_at = now + REFRESH_PAUSE_SECONDS
        return True


class Credentials:
    """The service token, for one event loop: what it mints, it shares; what others minted, it uses."""

    def __init__(
        self,
        clock: Clock,
        box: SecretBox,
        mint: Callable[[], Awaitable[MintAnswer]],
        shared: SharedToken | None = None,
    ) -> None:
        self._clock = clock
        self._box = box
        self._mint = mint
        self._shared = shared or SharedToken()
        self._flight: asyncio.Task[str] | None = None

    @property
    def is_good(self) -> bool:
        """Whether there is a token that can be had without waiting."""
        latest = self._shared.latest
        return latest is not None and latest.state(self._clock.monotonic()) is not Freshness.EXPIRED

    async def token(self) -> str:
        """Return a token that is good now; waits only when there is none."""
        latest = self._shared.latest
        if latest is not None:
            now = self._clock.monotonic()
            state = latest.state(now)
            token = None if state is Freshness.EXPIRED else self._opened(latest)
            if token is not None:
                if state is Freshness.AGING and self._flight is None and self._shared.takes_refresh(now):
                    self._start().add_done_callback(_log_failed_refresh)
                return token
        return await self._wait(self._flight or self._start())

    async def replace(self, refused: str) -> str:
        """Return another token than the one a server refused; one mint however many were refused."""
        latest = self._shared.latest
        if latest is not None and self._opened(latest) not in {None, refused}:
            return await self.token()
        return await self._wait(self._flight or self._start())

    def _opened(self, latest: SealedToken) -> str | None:
        try:
            return self._box.open(latest.sealed).decode()
        except ValidationError:
            # Sealed under another PSK, so it is no token of ours.
            return None

    def _start(self) -> asyncio.Task[str]:
        # An empty context: the deadline of whoever came first must not end the mint for all.
        self._flight = asyncio.get_running_loop().create_task(
            self._fetch(), name="dominus-mint", context=contextvars.Context()
        )
        self._flight.add_done_callback(_retrieve)
        return self._flight

    async def _fetch(self) -> str:
        try:
            minted = await self._mint()
            token = minted.get("access_token") or minted.get("token")
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
                raise ServiceError("the mint gave no token", code="not_dominus", endpoint="auth.self")
            lifetime = minted.get("expires_in")
            seconds = float(lifetime) if isinstance(lifetime, (int, float)) else DEFAULT_LIFETIME
            sealed = self._box.seal(token.encode())
            self._shared.put(SealedToken(sealed, self._clock.monotonic(), seconds))
            return token
        finally:
            self._flight = None

    async def _wait(self, flight: asyncio.Task[str]) -> str:
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not flight.cancelled() or (task is not None and task.cancelling()):
                raise
            # Not the caller was cancelled: the client was closed under it.
            raise DominusConnectionError(
                "the client was closed during the call", endpoint="auth.self"
            ) from None
        except DominusError as error:
            # One copy for each waiter: a shared exception would collect all their tracebacks.
            rebuild, arguments = error.__reduce__()
            raise rebuild(*arguments) from None

    async def aclose(self) -> None:
        """End a mint that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)


def _retrieve(flight: asyncio.Task[str]) -> None:
    # Every waiter may have gone by now; an exception that nobody reads would be reported by the loop.
    if not flight.cancelled():
        flight.exception()


def _log_failed_refresh(flight: asyncio.Task[str]) -> None:
    if not flight.cancelled() and (error := flight.exception()) is not None:
        _log.warning("refreshing the token ahead of its end failed, will try again: %s", error)
