"""The native synchronous Redis client, whose connections go straight to the gateway."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import redis
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from dominus.errors import DominusConnectionError, DominusError
from dominus.sessions.access import Access
from dominus.sessions.background import run
from dominus.sessions.tunnel import open_socket

__all__ = ["open_client"]


class GatewayConnection(Connection):
    """A connection of the native pool. It comes from the gateway, with a fresh token each time."""

    def __init__(self, *, take_socket: Callable[[], socket.socket], **options: Any) -> None:
        self._take_socket = take_socket
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]

    def _connect(self) -> socket.socket:
        try:
            opened = self._take_socket()
        except DominusError as error:
            raise RedisConnectionError(error) from error
        opened.settimeout(self.socket_timeout)
        return opened

    def _host_error(self) -> str:
        return "the gateway"


class _Sockets:
    """Opens connections. The first one is opened ahead, outside the driver, which would retry and rephrase."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._spare: list[socket.socket] = []

    def prepare(self) -> None:
        self._spare.append(self._open())

    def take(self) -> socket.socket:
        try:
            return self._spare.pop()
        except IndexError:
            return self._open()

    def _open(self) -> socket.socket:
        route = run(self._access.route())
        try:
            return open_socket(route)
        except DominusError as error:
            another = run(self._access.route_after(route, error))
            if another is None:
                raise
        return open_socket(another)

    def drop(self) -> None:
        while self._spare:
            self._spare.pop().close()


def open_client(access: Access, options: dict[str, Any], stack: contextlib.ExitStack) -> redis.Redis:
    """Open a native client; `stack` closes it."""
    sockets = _Sockets(access)
    sockets.prepare()
    stack.callback(sockets.drop)
    # A server behind the gateway must not send the client past it.
    options = {"maint_notifications_config": MaintNotificationsConfig(enabled=False), **options}
    client = redis.Redis(host="gateway", **options)
    stack.callback(client.close)
    pool: Any = client.connection_pool
    pool.connection_class = GatewayConnection
    pool.update_connection_kwargs(take_socket=sockets.take)
    try:
        client.execute_command("PING")  # pyright: ignore[reportUnknownMemberType]
    except RedisError as error:
        raise _not_connected(error) from error
    return client


def _not_connected(error: RedisError) -> DominusError:
    if isinstance(error.__cause__, DominusError):
        return error.__cause__
    return DominusConnectionError(f"Redis does not answer through the gateway: {error}")
