"""HTTP on a connection: uvicorn's, with bounds on what comes before an app sees it, and on who does not read.

uvicorn has none of these bounds on this parser: anyone could fill the memory, or hold connections for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dominus.orchestrator.net.addresses import Addresses, AddressLimits, spare_descriptors
from dominus.orchestrator.settings import ServerSettings

__all__ = ["BoundedConfig", "BoundedHttp", "HttpLimits"]

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
"""Of one header, or of the path with its query."""
HEAD_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Of the connections of one worker."""

    addresses: AddressLimits = field(default_factory=AddressLimits)
    stall_seconds: float = 30.0
    """In which a client has to take a part of a large answer."""
    least_rate: int = 1024
    """Bytes a second, over `stall_seconds`, with which it has to read."""

    @classmethod
    def of(cls, settings: ServerSettings, trusted: str) -> HttpLimits:
        """Read them from the settings; `trusted` are addresses of proxies, comma separated."""
        # A quarter of the descriptors is always left for other addresses.
        most = spare_descriptors() * 3 // 4
        given = settings.connections_per_address
        addresses = AddressLimits(
            connections=min(given, most) if given else 0,
            unfinished=settings.unfinished_per_address,
            trusted=tuple(name.strip() for name in trusted.split(",") if name.strip()),
        )
        return cls(addresses, settings.write_stall, settings.min_body_rate)


class BoundedConfig(uvicorn.Config):
    """uvicorn's settings and ours; a worker process gets its own copy."""

    def __init__(self, app: Any, *, limits: HttpLimits, **options: Any) -> None:
        super().__init__(app, http=BoundedHttp, **options)
        self.limits = limits
        self.addresses: Addresses[BoundedHttp] = Addresses(limits.addresses)


def _said(status: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n".encode()


_TOO_LARGE = _said("431 Request Header Fields Too Large")
_TOO_SLOW = _said("408 Request Timeout")
_TOO_MANY = _said("503 Service Unavailable", "retry-after: 1\r\n")


class BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request has no end of its head, its trailers or a chunk's size line.

    Also one whose headers are too large, one too many of its address, and one whose client does not read.
    """

    _unused_bytes = 0
    """Received since the parser last got to the end of a head or to a part of a body."""
    _head_bytes = 0
    _is_in_head = True
    _is_refused = False
    _address: str | None = None
    """Under which it is counted."""
    _timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin to wait for a head."""
        super().connection_made(transport)
        config = self.config
        self._limits = config.limits if isinstance(config, BoundedConfig) else HttpLimits()
        self._addresses = config.addresses if isinstance(config, BoundedConfig) else None
        if self._addresses is not None and self.client is not None:
            if not self._enter(self._addresses, self.client[0]):
                self._refuse(_TOO_MANY, is_said=True)
                return
            self._address = self.client[0]
        self._await_head()

    def _enter(self, addresses: Addresses[BoundedHttp], address: str) -> bool:
        if addresses.enter(address):
            return True
        in_the_way = addresses.overdue(address, self.loop.time())
        if in_the_way is None:
            return False
        in_the_way.be_late()
        return addresses.enter(address, is_replacing=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end_timer()
        self._end_stall()
        if self._address is not None and self._addresses is not None:
            self._addresses.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and count what got nowhere."""
        if self._is_refused:
            return
        self._unused_bytes += len(data)
        super().data_received(data)
        if self._unused_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._is_in_head and self._timer is None and self._unused_bytes:
            self._await_head()

    def on_message_begin(self) -> None:
        """Count a new request's head."""
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the path."""
        super().on_url(url)
        self._count_head(len(url), len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; the same for a trailer, which is no part of the request any more."""
        size = len(name) + len(value)
        self._count_head(size, size)
        if not self._is_refused:
            super().on_header(name, value)

    def _count_head(self, size: int, whole: int) -> None:
        self._head_bytes += size
        if whole > MAX_HEADER_BYTES or self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Give the request to the app."""
        if self._is_refused:
            return
        self._unused_bytes = 0
        self._is_in_head = False
        self._end_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Give the app a part of the body."""
        if self._is_refused:
            return
        self._unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Give the app the end of the body."""
        if self._is_refused:
            return
        self._unused_bytes = 0
        super().on_message_complete()

    # --- a head that does not come

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.be_late)
        if self._address is not None and self._addresses is not None:
            in_the_way = self._addresses.begin(self._address, self, self.loop.time())
            if in_the_way is not None:
                in_the_way.be_late()

    def be_late(self) -> None:
        """Wait for its head no longer."""
        self._refuse(_TOO_SLOW)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._address is not None and self._addresses is not None:
                self._addresses.finish(self._address, self)

    def _refuse(self, answer: bytes, *, is_said: bool = False) -> None:
        self._end_timer()
        self._is_refused = True
        transport = cast("Any", self.transport)
        if transport.is_closing():
            return
        # A connection that said nothing expects no answer; within a body, or while another is answered, it would lie.
        cycle = cast("Any", self.cycle)
        is_answering = cycle is not None and not cycle.response_complete
        if is_said or (self._is_in_head and self._unused_bytes and not is_answering):
            transport.write(answer)
        transport.close()

    # --- an answer that is not read

    def pause_writing(self) -> None:
        """Hold the app back, and watch whether the client reads."""
        super().pause_writing()
        if self._stall_timer is None:
            self._watch(self._waiting_bytes())

    def resume_writing(self) -> None:
        """Let the app go on."""
        self._end_stall()
        super().resume_writing()

    def _waiting_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def _watch(self, before: int) -> None:
        self._stall_timer = self.loop.call_later(self._limits.stall_seconds, self._look, before)

    def _look(self, before: int) -> None:
        now = self._waiting_bytes()
        if before - now < self._limits.least_rate * self._limits.stall_seconds:
            # Not close(), which would wait for the client to take the rest.
            self._is_refused = True
            self.transport.abort()
        else:
            self._watch(now)

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
