"""The native asynchronous Redis client, whose connections go straight to the gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from redis.asyncio.connection import Connection
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from dominus.errors import DominusConnectionError, DominusError
from dominus.sessions.access import Access

__all__ = ["open_client"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class GatewayConnection(Connection):
    """A connection of the native pool. It comes from the gateway, with a fresh token each time."""

    def __init__(self, *, open_streams: Callable[[], Awaitable[Streams]], **options: Any) -> None:
        self._open_streams = open_streams
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await self._open_streams()

    def _host_error(self) -> str:
        return "the gateway"


class _Streams:
    """Opens connections. The first one is opened ahead, outside the driver, which would retry and rephrase."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._spare: Streams | None = None

    async def prepare(self) -> None:
        self._spare = await self._open()

    async def take(self) -> Streams:
        spare, self._spare = self._spare, None
        if spare is not None and not spare[0].at_eof():
            return spare
        return await self._open()

    async def _open(self) -> Streams:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self._access.open(lambda: protocol)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def drop(self) -> None:
        if self._spare is not None:
            self._spare[1].close()


async def open_client(
    access: Access, options: dict[str, Any], stack: contextlib.AsyncExitStack
) -> redis.asyncio.Redis:
    """Open a native client; `stack` closes it."""
    streams = _Streams(access)
    await streams.prepare()
    stack.callback(streams.drop)
    # A server behind the gateway must not send the client past it.
    options = {"maint_notifications_config": MaintNotificationsConfig(enabled=False), **options}
    client = redis.asyncio.Redis(host="gateway", **options)
    stack.push_async_callback(client.aclose)
    pool: Any = client.connection_pool
    pool.connection_class = GatewayConnection
    pool.update_connection_kwargs(open_streams=streams.take)
    try:
        await client.execute_command("PING")  # pyright: ignore[reportUnknownMemberType]
    except RedisError as error:
        raise _not_connected(error) from error
    return client


def _not_connected(error: RedisError) -> DominusError:
    if isinstance(error.__cause__, DominusError):
        return error.__cause__
    return DominusConnectionError(f"Redis does not answer through the gateway: {error}")
