"""Who sends the calls of a client and of its user views: settings read at the first call, a pipeline per loop."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dominus.contract.kinds import Auth
from dominus.errors import AuthorizationError

if TYPE_CHECKING:
    import httpx

    from dominus.contract.operation import Operation
    from dominus.contract.request import Request
    from dominus.settings import Settings
    from dominus.transport.breaker import BreakerName
    from dominus.transport.clock import Clock
    from dominus.transport.encode import Lines
    from dominus.transport.pipeline import Pipeline
    from dominus.transport.retry_policy import RetryPolicy
    from dominus.transport.runtime import Runtimes
    from dominus.transport.shared import ColdStart, Shared

__all__ = ["Caller", "Core"]

Data = TypeVar("Data")


class Core:
    """What a client and its user views share; made at the first call, when the environment is read."""

    def __init__(
        self,
        options: dict[str, Any],
        settings: Settings | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        on_cold_start: Callable[[ColdStart], None] | None = None,
        *,
        on_breaker_change: Callable[[str, BreakerName, BreakerName], None] | None = None,
        retry: RetryPolicy | None = None,
        speaks_json: bool = False,
    ) -> None:
        self._options = options
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._on_cold_start = on_cold_start
        self._on_breaker_change = on_breaker_change
        self._retry = retry
        self._speaks_json = speaks_json
        self._lock = threading.Lock()
        self._shared: Shared | None = None
        self._runtimes: Runtimes | None = None
        self.also_close: list[Callable[[], Awaitable[None]]] = []
        """What `aclose` ends besides: what a thread of ours has open for this client."""

    @property
    def clock(self) -> Clock:
        """The time that deadlines and back-off live in."""
        from dominus.transport.clock import SystemClock

        return self._clock or SystemClock()

    @property
    def shared(self) -> Shared:
        """Settings, breakers, budget and counters."""
        if self._shared is None:
            with self._lock:
                self._shared = self._shared or self._make_shared()
        return self._shared

    def _make_shared(self) -> Shared:
        from dominus.settings import load_settings
        from dominus.transport.budget import Budget
        from dominus.transport.retry import Policy
        from dominus.transport.retry_policy import RetryPolicy
        from dominus.transport.shared import Shared
        from dominus.transport.stale_cache import StaleCache

        settings = self._settings or load_settings(**self._options)
        return Shared(
            settings=settings,
            clock=self.clock,
            transport=self._transport,
            on_cold_start=self._on_cold_start,
            on_breaker_change=self._on_breaker_change,
            retry=self._retry or RetryPolicy(),
            policy=Policy(
                max_attempts=settings.max_attempts,
                backoff_base=settings.backoff_base,
                backoff_cap=settings.backoff_cap,
                cold_start_timeout=settings.cold_start_timeout,
            ),
            budget=Budget(settings.retry_budget),
            cache=StaleCache(),
            speaks_json=self._speaks_json,
        )

    async def pipeline(self) -> Pipeline:
        """Return the open pipeline of the running loop."""
        if self._runtimes is None:
            from dominus.transport.runtime import Runtimes

            with self._lock:
                self._runtimes = self._runtimes or Runtimes()
        return await self._runtimes.pipeline(self.shared)

    async def aclose(self) -> None:
        """Close what the running loop holds; the next call reads the environment anew."""
        also, self.also_close = self.also_close, []
        for close in also:
            await close()
        if self._runtimes is not None:
            await self._runtimes.aclose()
        self._shared = None


class Caller:
    """Sends operations, as the service or as one user."""

    __slots__ = ("core", "user_token")

    def __init__(self, core: Core, user_token: str | None = None) -> None:
        self.core = core
        self.user_token = user_token

    @property
    def shared(self) -> Shared:
        """Settings, breakers, budget and counters."""
        return self.core.shared

    async def send(
        self,
        op: Operation[Any, Data],
        request: Request,
        *,
        timeout: float | None = None,
        lines: Lines | None = None,
        session_token: str | None = None,
    ) -> Data:
        """Send an operation and return its data; `session_token` is for what the gateway's operations ask."""
        if self.user_token is not None and op.auth is Auth.PSK:
            raise AuthorizationError(
                f"{op.name} is the service's to call, not a user's",
                endpoint=op.name,
                hint="call it on the client itself, not on as_user(...)",
            )
        pipeline = await self.core.pipeline()
        user_token = self.user_token if op.auth is Auth.TOKEN else session_token
        return await pipeline.call(op, request, timeout=timeout, user_token=user_token, lines=lines)
