"""Who sends the calls of a client and of its user views: settings read at the first call, a pipeline per loop."""

from __future__ import annotations

import re
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dominus.contract.kinds import Auth
from dominus.errors import AuthenticationError, AuthorizationError, DominusTimeoutError, ValidationError

if TYPE_CHECKING:
    import httpx

    from dominus.contract.operation import Operation
    from dominus.contract.request import Request
    from dominus.settings import Settings
    from dominus.shipping.shipper import Shipper
    from dominus.transport.background import Background
    from dominus.transport.circuit import BreakerName
    from dominus.transport.clock import Clock
    from dominus.transport.encode import Lines
    from dominus.transport.pipeline import Pipeline
    from dominus.transport.retry_policy import RetryPolicy
    from dominus.transport.runtime import Runtimes
    from dominus.transport.shared import ColdStart, Shared
    from dominus.transport.verifier import Verifier

__all__ = ["Caller", "Core"]

Data = TypeVar("Data")
_TOKEN = re.compile("[!-~]+")


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
        """What `aclose` ends besides: what a thread or a task of ours has open for this client."""
        self.verifier: Verifier | None = None
        """What verifies tokens here, once one was verified."""
        self.shipper: Shipper | None = None
        """What ships the log lines of this client and its views, once there were any."""

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

    def touch(self) -> None:
        """Import what the first call will need, in the background, if a loop runs: calls are near."""
        if self._runtimes is None and _is_in_loop():
            from dominus.transport.preload import WIRE

            WIRE.start()

    async def warm_up(self) -> None:
        """Import all parts of the client, and open the pool of the running loop."""
        from dominus.transport.preload import NAMESPACES, WIRE

        await WIRE.finish()
        await NAMESPACES.finish()
        await self.pipeline()

    @property
    def is_new(self) -> bool:
        """Whether nothing was called yet, so that modules may have to be imported first."""
        return self._runtimes is None

    async def pipeline(self, endpoint: str | None = None) -> Pipeline:
        """Return the open pipeline of the running loop.

        Raises:
            DominusTimeoutError: the deadline of the block passed while the client's own modules were imported.
        """
        if self._runtimes is None:
            await _finish_imports(endpoint)
            from dominus.transport.runtime import Runtimes

            with self._lock:
                self._runtimes = self._runtimes or Runtimes()
        shared = self.shared
        try:
            return await self._runtimes.pipeline(shared)
        except (AuthenticationError, ValidationError):
            # These settings open nothing: whoever puts them right need not close a client that never was open.
            if self._shared is shared:
                self._shared = None
            raise

    def background(self) -> Background | None:
        """Return the tasks of the running loop that outlive the calls which began them.

        None before the first call, and when the loop ends.
        """
        return None if self._runtimes is None else self._runtimes.background()

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

    def as_user(self, user_token: str, named: str) -> Caller:
        """Return a caller that sends a user's token; errors call the parameter as `named` says.

        Raises:
            AuthenticationError: the token is empty; a missing session must not become the service.
        """
        is_text = isinstance(user_token, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_text or not _TOKEN.fullmatch(user_token):
            raise AuthenticationError(
                f"{named}: the user token is empty or malformed",
                code="token_malformed",
                hint="give the token alone, without `Bearer`",
            )
        return Caller(self.core, user_token)

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
        if timeout is not None and self.core.is_new:
            # The imports of the first call are inside its deadline.
            from dominus.transport.deadline import deadline

            with deadline(timeout, self.core.clock.monotonic):
                await self.core.pipeline(op.name)
                return await self.send(op, request, timeout=timeout, lines=lines, session_token=session_token)
        pipeline = await self.core.pipeline(op.name)
        user_token = self.user_token if op.auth is Auth.TOKEN else session_token
        return await pipeline.call(op, request, timeout=timeout, user_token=user_token, lines=lines)


def _is_in_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _finish_imports(endpoint: str | None) -> None:
    import asyncio

    from dominus.transport.deadline import block_deadline
    from dominus.transport.preload import WIRE

    if WIRE.is_done:
        return
    left = block_deadline()
    try:
        # In a thread: imports in the loop would stop every task of it, and no deadline could end them.
        await asyncio.wait_for(WIRE.finish(), left)
    except TimeoutError:
        raise DominusTimeoutError(
            f"no answer within {left:.3g} s: the client itself was still being imported",
            endpoint=endpoint,
            hint="await dominus.health.warmup() when the program starts",
        ) from None
