"""LISTEN on one connection of its own, kept up whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import asyncpg

from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["Listener"]

logger = logging.getLogger("dominus.postgres")

Callback = Callable[[str | None], None]
"""Gets a payload, or None: the connection was lost meanwhile, anything may have been missed."""

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.05, 5.0
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ServiceError)


class Listener:
    """Calls back for each notification of the channels that were asked for."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], *, heartbeat_seconds: float = 30.0
    ) -> None:
        """Prepare; the first `listen` connects.

        Args:
            connect: makes a connection; called again whenever one was lost.
            heartbeat_seconds: how often a silent connection is asked whether it still lives.
        """
        self._connect = connect
        self._heartbeat_seconds = heartbeat_seconds
        self._callbacks: dict[str, list[Callback]] = {}
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._mutex = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def listen(self, channel: str, callback: Callback) -> None:
        """Call `callback` for every notification from now on; when this returns, none is missed any more."""
        async with self._mutex:
            if self._connection is None:
                await self._open()
            if channel not in self._callbacks and self._connection is not None:
                await self._connection.add_listener(channel, self._deliver)
            self._callbacks.setdefault(channel, []).append(callback)
            if self._keeper is None:
                self._keeper = asyncio.create_task(self._keep(), name="dominus-listener")

    async def aclose(self) -> None:
        """Stop listening."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _open(self) -> None:
        connection = await self._connect()
        try:
            connection.add_termination_listener(self._on_termination)
            for channel in self._callbacks:
                await connection.add_listener(channel, self._deliver)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self._lost.clear()
        if connection.is_closed():
            self._lost.set()

    def _on_termination(self, connection: object) -> None:
        if connection is self._connection:
            self._lost.set()

    def _deliver(self, _connection: object, _pid: int, channel: str, payload: str) -> None:
        self._call(channel, payload)

    def _call(self, channel: str, payload: str | None) -> None:
        for callback in self._callbacks.get(channel, ()):
            try:
                callback(payload)
            except Exception:
                # One subscriber's mistake must not end the listening of the others.
                logger.exception("a callback of channel %s failed", channel)

    async def _keep(self) -> None:
        while True:
            if await self._is_alive():
                continue
            logger.warning("lost the connection that listens; connecting again")
            await self._reopen()
            for channel in list(self._callbacks):
                self._call(channel, None)

    async def _is_alive(self) -> bool:
        """Wait for the next heartbeat, or less when the connection is known to be lost."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lost.wait(), self._heartbeat_seconds)
            return False
        try:
            async with self._mutex:
                if self._connection is None:
                    return False
                # A connection that a firewall forgot says nothing at all, so it is asked.
                await self._connection.execute("SELECT 1", timeout=self._heartbeat_seconds)
        except _LOST:
            return False
        return True

    async def _reopen(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            async with self._mutex:
                old, self._connection = self._connection, None
                if old is not None:
                    old.terminate()
                try:
                    await self._open()
                except _LOST as error:
                    logger.debug("cannot listen yet: %s", type(error).__name__)
                else:
                    return
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
