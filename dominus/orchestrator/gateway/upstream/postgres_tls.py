"""TLS to PostgreSQL, which is asked for in PostgreSQL's own way before it begins."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dominus.orchestrator.gateway.sockets import keep_alive
from dominus.orchestrator.gateway.upstream.connection import Upstream

__all__ = ["PostgresAddress", "tls_of"]

_SSL_REQUEST = struct.pack(">II", 8, 80877103)
_PLAIN_MODES = ("disable", "allow")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A PostgreSQL server on TCP, over TLS as its URL's `sslmode` says."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    """None: plain."""
    is_tls_required: bool
    """False for `prefer`: a server without TLS is used without."""

    async def connect(self, factory: Callable[[], Upstream]) -> tuple[asyncio.Transport, Upstream]:
        """Open a connection. Raises OSError, of which TLS errors are a kind."""
        loop = asyncio.get_running_loop()
        if self.tls is None:
            transport, protocol = await loop.create_connection(factory, self.host, self.port)
        else:
            transport, protocol = await self._secured(loop, factory, self.tls)
        keep_alive(transport)
        return transport, protocol

    async def _secured(
        self, loop: asyncio.AbstractEventLoop, factory: Callable[[], Upstream], tls: ssl.SSLContext
    ) -> tuple[asyncio.Transport, Upstream]:
        connection = await self._open(loop)
        try:
            await loop.sock_sendall(connection, _SSL_REQUEST)
            answer = await loop.sock_recv(connection, 1)
            if answer == b"S":
                return await loop.create_connection(
                    factory, sock=connection, ssl=tls, server_hostname=self.host
                )
            if answer == b"N" and not self.is_tls_required:
                return await loop.create_connection(factory, sock=connection)
        except BaseException:
            connection.close()
            raise
        connection.close()
        raise ConnectionRefusedError("PostgreSQL offers no TLS, and its URL requires it")

    async def _open(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        failure: OSError | None = None
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(0)
            try:
                await loop.sock_connect(connection, address)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failure or OSError(f"{self.host} has no address")


def tls_of(query: Mapping[str, list[str]]) -> tuple[ssl.SSLContext | None, bool]:
    """Return the TLS that a libpq URL's query asks for, and whether it is required.

    `prefer` (libpq's default) and `require` encrypt without asking who is there; `verify-ca` and `verify-full` ask.
    """
    mode = query.get("sslmode", ["prefer"])[-1]
    if mode in _PLAIN_MODES:
        return None, False
    context = ssl.create_default_context(cafile=query.get("sslrootcert", [None])[-1])
    if mode != "verify-full":
        context.check_hostname = False
    if mode not in ("verify-ca", "verify-full"):
        context.verify_mode = ssl.CERT_NONE
    if "sslcert" in query:
        context.load_cert_chain(query["sslcert"][-1], query.get("sslkey", [None])[-1])
    return context, mode != "prefer"
