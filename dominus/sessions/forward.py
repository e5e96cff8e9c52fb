"""A local endpoint, for drivers that take no socket: each connection to it is one of its own to the gateway.

A unix socket in a folder that only this user may enter where the driver takes one, else a port on 127.0.0.1 that
serves only this process and its user.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path
from typing import cast

from dominus.errors import DominusError, ProxyError
from dominus.sessions.access import Access
from dominus.sessions.peers import can_check, is_ours

__all__ = ["Forwarder"]

_log = logging.getLogger("dominus.sessions")
LOOPBACK = "127.0.0.1"
UNIX_PORT = 5432
"""libpq makes the socket's name of it."""


class _End(asyncio.Protocol):
    """One end of a forwarded connection. What it reads is written to the other, no faster than that takes it."""

    def __init__(self, ends: set[_End]) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends = ends
        self.early = b""
        self.has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._ends.add(self)
        # Until both ends are there, the bytes wait in the system's buffers.
        self.transport.pause_reading()

    def join(self, other: _End) -> None:
        """Carry bytes between the two ends from now on."""
        self.other, other.other = other, self
        for end in (self, other):
            if end.transport is None or end.lost.done():
                end.connection_lost(None)
                continue
            if end.early:
                end.data_received(end.early)
            end.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data  # what came in one segment with the gateway's answer
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass a half-close on; the way back stays open until it ends too, which TLS does not know."""
        self.has_ended = True
        if self.transport is None or self.other is None or self.other.transport is None:
            return False
        if self.other.has_ended or not self.other.transport.can_write_eof():
            self.other.transport.close()
            return False
        if not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.has_ended:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        other = self.other
        # One that has ended would say so again and again.
        if other is not None and other.transport is not None and not other.has_ended:
            other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ends.discard(self)
        if not self.lost.done():
            self.lost.set_result(None)
        if self.other is not None and self.other.transport is not None:
            # After what is still to be written: the last words often say what went wrong.
            self.other.transport.close()

    def abort(self) -> None:
        """Close this end at once."""
        if self.transport is not None:
            self.transport.abort()


class _LocalEnd(_End):
    """What a driver opened."""

    def __init__(self, forwarder: Forwarder, index: int) -> None:
        super().__init__(forwarder.ends)
        self._forwarder = forwarder
        self._index = index
        self.joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.joining = asyncio.create_task(self._forwarder.serve(self, self._index))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.joining is not None:
            self.joining.cancel()


class Forwarder:
    """A local endpoint of one session. Belongs to the event loop that starts it."""

    def __init__(self, access: Access, name: str) -> None:
        self._access = access
        self._name = name
        self._servers: list[asyncio.Server] = []
        self._folder: Path | None = None
        self._spare: _End | None = None
        self.ends: set[_End] = set()
        self.error: DominusError | None = None
        """Why the last connection was not forwarded."""

    async def start_unix(self) -> tuple[str, int]:
        """Listen on a unix socket; return libpq's `host` and `port` for it.

        Raises:
            AuthenticationError: the gateway does not take the token.
            GatewayError: it is not reached, or refuses.
            ProxyError: nothing can be listened on here.
        """
        await self._open_spare()
        loop = asyncio.get_running_loop()
        try:
            self._folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="dominus-"))
            path = self._folder / f".s.PGSQL.{UNIX_PORT}"
            self._servers.append(await loop.create_unix_server(lambda: _LocalEnd(self, 0), path))
        except (OSError, NotImplementedError) as error:
            raise _not_opened(self._name, error) from error
        return str(self._folder), UNIX_PORT

    async def start_tcp(self) -> list[int]:
        """Listen on a port of 127.0.0.1 for each address of the target; return the ports. Raises as `start_unix`."""
        if not can_check():
            raise _not_opened(self._name, "this system does not show who connects")
        await self._open_spare()
        loop = asyncio.get_running_loop()
        ports: list[int] = []
        try:
            for index in range((await self._access.endpoint()).count):
                server = await loop.create_server(lambda index=index: _LocalEnd(self, index), LOOPBACK, 0)
                self._servers.append(server)
                ports.append(server.sockets[0].getsockname()[1])
        except OSError as error:
            raise _not_opened(self._name, error) from error
        return ports

    async def _open_spare(self) -> None:
        """Open the first connection before a driver does: what is wrong is said in our words, not by a hung-up call."""
        _, self._spare = await self._access.open(self._end)

    def _end(self) -> _End:
        return _End(self.ends)

    async def serve(self, local: _End, index: int) -> None:
        """Join a driver's connection to one of its own to the gateway."""
        if not await self._is_welcome(local):
            local.abort()
            return
        remote: _End | None = None
        if index == 0:
            remote, self._spare = self._spare, None
        try:
            if remote is None or remote.lost.done():
                _, remote = await self._access.open(self._end, index)
        except DominusError as error:
            self.error = error
            _log.warning("a connection of the %s session was not forwarded: %s", self._name, error)
            local.abort()
            return
        remote.join(local)

    async def _is_welcome(self, local: _End) -> bool:
        transport = local.transport
        if self._folder is not None or transport is None:
            return self._folder is not None
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if peer is not None and await asyncio.to_thread(is_ours, peer, here):
            return True
        _log.warning(
            "closed a connection of another user to the %s session: it came from %s", self._name, peer
        )
        return False

    async def close(self) -> None:
        """Stop listening, and end what is forwarded."""
        for server in self._servers:
            server.close()
        while self.ends:
            ends = list(self.ends)
            for end in ends:
                end.abort()
            await asyncio.gather(*(end.lost for end in ends))
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _not_opened(name: str, why: object) -> ProxyError:
    return ProxyError(f"the local endpoint of the {name} session was not opened: {why}", retryable=False)
