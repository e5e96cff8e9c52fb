"""What all sessions do: connect once, close once, in any order and from any task or thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from dominus.errors import DominusConnectionError
from dominus.hints import refuses

__all__ = ["AsyncSession", "Session"]

T = TypeVar("T")
_log = logging.getLogger("dominus.sessions")


class _Leaves(Protocol):
    """How a native client ends its own `with` block."""

    def __call__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...


@refuses("with", instead="async with ... as client:")
@refuses("await", instead="await session.connect()")
class AsyncSession(Generic[T]):
    """The way to a native asynchronous client. Nothing is sent before `connect()` or `async with`.

    `connect()` gives the native client, the same one each time. `close()` ends it; a closed session stays closed.
    Both may be called often, and from several tasks of one event loop.
    """

    def __init__(self, name: str, opening: Callable[[contextlib.AsyncExitStack], Awaitable[T]]) -> None:
        self._name = name
        self._opening = opening
        self._lock = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()
        self._native: T | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<{self._name} session, {_state(self._native, self._is_closed)}>"

    async def connect(self) -> T:
        """Connect, and return the native client.

        Raises:
            AuthenticationError: the gateway does not take the token.
            GatewayError: the gateway is not reached, or refuses.
            DominusConnectionError: the database does not answer, or the session was closed.

        Example:
            ```python
            session = dominus.sessions.redis()
            rd = await session.connect()
            await rd.ping()
            await session.close()
            ```
        """
        async with self._lock:
            if self._is_closed:
                raise _closed(self._name)
            if self._native is None:
                async with contextlib.AsyncExitStack() as stack:
                    self._native = await self._opening(stack)
                    self._stack = stack.pop_all()
            return self._native

    async def close(self) -> None:
        """Close the native client and its connections, and release its login. A failure is logged.

        Example:
            ```python
            session = dominus.sessions.postgres.pool(max_size=2)
            await session.connect()
            await session.close()
            ```
        """
        async with self._lock:
            self._is_closed = True
            self._native = None
            stack, self._stack = self._stack, contextlib.AsyncExitStack()
            try:
                await stack.aclose()
            except Exception as error:  # noqa: BLE001 - drivers have error trees of their own, and the work is done
                _log.warning("closing the %s session: %r", self._name, error)

    async def __aenter__(self) -> T:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())


@refuses("async with", "await", instead="with ... as client:")
class Session(Generic[T]):
    """The way to a native synchronous client. Nothing is sent before `connect()` or `with`.

    `connect()` gives the native client, the same one each time. `close()` ends it; a closed session stays closed.
    Both may be called often, and from several threads.
    """

    def __init__(
        self, name: str, opening: Callable[[contextlib.ExitStack], tuple[T, _Leaves | None]]
    ) -> None:
        self._name = name
        self._opening = opening
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._native: T | None = None
        self._leave: _Leaves | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<{self._name} session, {_state(self._native, self._is_closed)}>"

    def connect(self) -> T:
        """Connect, and return the native client.

        Raises:
            AuthenticationError: the gateway does not take the token.
            GatewayError: the gateway is not reached, or refuses.
            DominusConnectionError: the database does not answer, or the session was closed.

        Example:
            ```python
            session = dominus.sessions.redis.sync()
            rd = session.connect()
            rd.ping()
            session.close()
            ```
        """
        with self._lock:
            if self._is_closed:
                raise _closed(self._name)
            if self._native is None:
                with contextlib.ExitStack() as stack:
                    self._native, self._leave = self._opening(stack)
                    self._stack = stack.pop_all()
            return self._native

    def close(self) -> None:
        """Close the native client and its connections, and release its login. A failure is logged.

        Example:
            ```python
            session = dominus.sessions.redis.sync()
            session.connect()
            session.close()
            ```
        """
        with self._lock:
            self._is_closed = True
            self._native = self._leave = None
            stack, self._stack = self._stack, contextlib.ExitStack()
            try:
                stack.close()
            except Exception as error:  # noqa: BLE001 - drivers have error trees of their own, and the work is done
                _log.warning("closing the %s session: %r", self._name, error)

    def __enter__(self) -> T:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._leave is not None:
                self._leave(kind, error, trace)
        finally:
            self.close()


def _state(native: object, is_closed: bool) -> str:
    return "closed" if is_closed else "not connected" if native is None else "connected"


def _closed(name: str) -> DominusConnectionError:
    return DominusConnectionError(
        f"the {name} session was closed", code="session_closed", retryable=False, hint="make another one"
    )
