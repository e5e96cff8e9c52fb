"""HTTP on a connection: uvicorn's, with bounds on what comes before an app sees it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedHttp"]

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """Ends a connection whose request has no end of its head, its trailers or a chunk's size line.

    uvicorn has no such bound on this parser: anyone could fill the memory, or hold connections for ever.
    """

    _unused_bytes = 0
    """Received since the parser last got to the end of a head or to a part of a body."""
    _is_in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and count what got nowhere."""
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

    def on_headers_complete(self) -> None:
        """Give the request to the app."""
        self._unused_bytes = 0
        self._is_in_head = False
        self._end_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Give the app a part of the body."""
        self._unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Give the app the end of the body."""
        self._unused_bytes = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, _TOO_SLOW)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, answer: bytes) -> None:
        self._end_timer()
        transport = cast("Any", self.transport)
        if transport.is_closing():
            return
        if self._is_in_head and self._unused_bytes:
            transport.write(answer)
        transport.close()
