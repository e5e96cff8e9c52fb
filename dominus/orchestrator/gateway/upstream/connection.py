"""The connection from the gateway to a database, up to where the client's bytes can follow."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from dominus.errors import ServiceError
from dominus.orchestrator.gateway.sockets import keep_alive

__all__ = ["Address", "RedisLogin", "TcpAddress", "UnixAddress", "Upstream", "open_upstream"]

MAX_LOGIN_ANSWER_BYTES = 4096


class Address(Protocol):
    """Where a database listens."""

    async def connect(self, factory: Callable[[], Upstream]) -> tuple[asyncio.Transport, Upstream]:
        """Open a connection. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port, with TLS when there is a context."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    async def connect(self, factory: Callable[[], Upstream]) -> tuple[asyncio.Transport, Upstream]:
        """Open a connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(factory, self.host, self.port, ssl=self.tls)
        keep_alive(transport)
        return transport, protocol


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket."""

    path: str

    async def connect(self, factory: Callable[[], Upstream]) -> tuple[asyncio.Transport, Upstream]:
        """Open a connection. Raises OSError."""
        return await asyncio.get_running_loop().create_unix_connection(factory, self.path)


@dataclass(frozen=True, slots=True)
class RedisLogin:
    """How the gateway logs in to Redis before a client's first byte."""

    username: str | None
    password: str | None = field(repr=False)
    database: int = 0
    prepare: Callable[[], Awaitable[None]] | None = None
    """Makes the login before its first use."""
    renew: Callable[[], Awaitable[None]] | None = None
    """Makes the login again, for a database that has forgotten it."""

    @property
    def commands(self) -> list[list[str]]:
        """What is sent, and each time answered with OK."""
        commands: list[list[str]] = []
        if self.password is not None:
            commands.append(["AUTH", *([self.username] if self.username else []), self.password])
        if self.database:
            commands.append(["SELECT", str(self.database)])
        return commands

    @property
    def encoded(self) -> bytes:
        """The commands as they are sent."""
        return b"".join(_encode(command) for command in self.commands)


class Upstream(asyncio.Protocol):
    """A connection that waits for its tunnel: it keeps what the database says first and how it ended.

    Some databases speak first, and one that has no room answers and hangs up.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.has_ended = False
        self.is_lost = False
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Know the connection."""
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue]

    def data_received(self, data: bytes) -> None:
        """Keep it; one read is enough until someone wants more."""
        self.received += data
        if self._transport is not None:
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        """Keep the way back open, where there is one."""
        self.has_ended = True
        self._changed.set()
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Note it."""
        self.has_ended = self.is_lost = True
        self._changed.set()

    async def read_line(self) -> bytes:
        """Take the next line, without its end.

        Raises:
            ConnectionError: the database hung up, or says something else than lines.
        """
        while (end := self.received.find(b"\r\n")) < 0:
            if self.has_ended or self._transport is None or len(self.received) > MAX_LOGIN_ANSWER_BYTES:
                raise ConnectionError("no answer to the login")
            self._changed.clear()
            self._transport.resume_reading()
            await self._changed.wait()
        line = bytes(self.received[:end])
        del self.received[: end + 2]
        return line


async def open_upstream(address: Address, login: RedisLogin | None) -> tuple[asyncio.Transport, Upstream]:
    """Connect to a database and log in if the target says so. Cancelling it leaves no connection behind.

    Raises:
        ServiceError: it is not there, or refuses the login; names neither the address nor a secret.
    """
    if login is not None and login.prepare is not None:
        await login.prepare()
    try:
        return await _open(address, login)
    except ServiceError as error:
        if login is None or login.renew is None or error.code != "upstream_refused":
            raise
    await login.renew()
    return await _open(address, login)


async def _open(address: Address, login: RedisLogin | None) -> tuple[asyncio.Transport, Upstream]:
    try:
        transport, upstream = await address.connect(Upstream)
    except OSError as error:
        # TLS failures are OSErrors too.
        raise ServiceError(
            "the database does not answer", code="upstream_unavailable", status_code=503
        ) from error
    if login is None:
        return transport, upstream
    try:
        await _log_in(transport, upstream, login)
    except BaseException:
        transport.abort()
        raise
    return transport, upstream


async def _log_in(transport: asyncio.Transport, upstream: Upstream, login: RedisLogin) -> None:
    transport.write(login.encoded)
    for _ in login.commands:
        try:
            answer = await upstream.read_line()
        except ConnectionError as error:
            raise ServiceError(
                "the database hung up at the gateway's login", code="upstream_unavailable", status_code=503
            ) from error
        if answer != b"+OK":
            raise ServiceError(
                "the database refuses the gateway's own login", code="upstream_refused", retryable=False
            )


def _encode(command: list[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
