"""PSK -> JWT, minted lazily, once however many wait, and refreshed ahead of its end."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
from collections.abc import Awaitable, Callable

from dominus.contract.auth import MintAnswer
from dominus.crypto import SecretBox
from dominus.errors import DominusConnectionError, DominusError, ServiceError
from dominus.transport.clock import Clock

__all__ = ["Credentials", "Freshness", "freshness"]

DEFAULT_LIFETIME = 900.0
"""Seconds, when the server names none; what the published client's servers give."""
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


class Credentials:
    """The service token of one event loop. In memory it is sealed under a key derived from the PSK."""

    def __init__(self, clock: Clock, box: SecretBox, mint: Callable[[], Awaitable[MintAnswer]]) -> None:
        self._clock = clock
        self._box = box
        self._mint = mint
        self._sealed: bytes | None = None
        self._born = 0.0
        self._lifetime = 0.0
        self._flight: asyncio.Task[str] | None = None

    @property
    def is_good(self) -> bool:
        """Whether there is a token that can be had without waiting."""
        age = self._clock.monotonic() - self._born
        return self._sealed is not None and freshness(age, self._lifetime) is not Freshness.EXPIRED

    async def token(self) -> str:
        """Return a token that is good now; waits only when there is none."""
        if self._sealed is not None:
            state = freshness(self._clock.monotonic() - self._born, self._lifetime)
            if state is Freshness.FRESH:
                return self._box.open(self._sealed).decode()
            if state is Freshness.AGING:
                if self._flight is None:
                    self._start().add_done_callback(_log_failed_refresh)
                return self._box.open(self._sealed).decode()
        return await self._wait(self._flight or self._start())

    async def replace(self, refused: str) -> str:
        """Return another token than the one a server refused; one mint however many were refused."""
        if self._sealed is not None and self._box.open(self._sealed).decode() != refused:
            return await self.token()
        return await self._wait(self._flight or self._start())

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
            self._lifetime = float(lifetime) if isinstance(lifetime, (int, float)) else DEFAULT_LIFETIME
            self._born = self._clock.monotonic()
            self._sealed = self._box.seal(token.encode())
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
