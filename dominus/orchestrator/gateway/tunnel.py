"""Two connections tied together: what one receives the other sends, no faster than it is read there.

The memory of a tunnel is bounded by back-pressure: when what one side has still to send grows above HIGH_WATER, the
other is not read from until it has shrunk; more than one read above it never lies there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dominus.orchestrator.gateway.limits import Quiet
from dominus.orchestrator.gateway.sockets import half_close

__all__ = ["HIGH_WATER", "Side", "Tunnel"]

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024


class Side(asyncio.Protocol):
    """One end of a tunnel."""

    __slots__ = ("_is_secure", "_send", "byte_count", "has_ended", "is_lost", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, other: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.byte_count = 0
        self.has_ended = False
        """It sends nothing any more."""
        self.is_lost = False
        self._send = other.write
        self._is_secure = transport.get_extra_info("ssl_object") is not None

    # The hot path: nothing here that is not needed for each chunk.
    def data_received(self, data: bytes) -> None:
        """Send it on."""
        self.byte_count += len(data)
        self.tunnel.speaker = self
        self._send(data)

    def pause_writing(self) -> None:
        """Stop the other side: this one does not read."""
        other = self.tunnel.other(self)
        if not other.has_ended:
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side go on."""
        other = self.tunnel.other(self)
        # A connection that has ended would say so again and again.
        if not other.has_ended:
            other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Hand the end on; the way back stays open, which TLS does not know."""
        self.tunnel.end(self)
        return not self._is_secure

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Close the other side when it has sent what it has."""
        self.tunnel.lose(self)


class Tunnel:
    """A client's connection and the database's."""

    __slots__ = (
        "_counted",
        "_moved_at",
        "_on_end",
        "_opened_at",
        "_seen",
        "client",
        "closing_reason",
        "speaker",
        "subject",
        "target",
        "upstream",
    )

    def __init__(
        self,
        target: str,
        subject: str,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        on_end: Callable[[Tunnel], None],
        now: float,
    ) -> None:
        self.target, self.subject = target, subject
        self.client = Side(self, client, upstream)
        self.upstream = Side(self, upstream, client)
        self.speaker = self.client
        """Who sent the last bytes: the client while it waits for an answer."""
        self.closing_reason: str | None = None
        self._on_end = on_end
        self._opened_at = self._moved_at = now
        self._seen = self._counted = (0, 0)

    def start(self, *, from_client: bytes, from_upstream: bytes) -> None:
        """Take both connections over, with what they have said already."""
        for side in (self.client, self.upstream):
            side.transport.set_protocol(side)
            side.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        for side, early in ((self.client, from_client), (self.upstream, from_upstream)):
            side.transport.resume_reading()
            if early:
                side.data_received(early)

    def other(self, side: Side) -> Side:
        """Return the opposite end."""
        return self.upstream if side is self.client else self.client

    def end(self, side: Side) -> None:
        """One side sends nothing any more."""
        if side.has_ended:
            return
        side.has_ended = True
        other = self.other(side)
        half_close(other.transport)
        if other.has_ended:
            self.close(self._name(other))

    def lose(self, side: Side) -> None:
        """One side is gone."""
        side.has_ended = side.is_lost = True
        other = self.other(side)
        if other.is_lost:
            self._on_end(self)
        else:
            self.close(self._name(side))

    def close(self, reason: str) -> None:
        """Close both sides, each when it has sent what it has; `reason` tells why, unless it is known already."""
        if self.closing_reason is None:
            self.closing_reason = reason
        self.client.transport.close()
        self.upstream.transport.close()

    def abort(self, reason: str) -> None:
        """Close both sides now; what is still to be sent is lost."""
        if self.closing_reason is None:
            self.closing_reason = reason
        self.client.transport.abort()
        self.upstream.transport.abort()

    def look(self, now: float) -> Quiet:
        """Return how it stands; its idea of quiet is as fine as it is called often."""
        closing = self.closing_reason is not None
        seen = (self._unsent(), 0) if closing else (self.client.byte_count, self.upstream.byte_count)
        if seen != self._seen:
            self._seen, self._moved_at = seen, now
        return Quiet(
            age=now - self._opened_at,
            quiet_for=now - self._moved_at,
            is_half_closed=self.client.has_ended or self.upstream.has_ended,
            is_closing=closing,
        )

    @property
    def is_waiting(self) -> bool:
        """Whether the client has asked something that is not answered, as far as bytes tell."""
        return self.speaker is self.client and self.client.byte_count > 0

    def take_counts(self) -> tuple[int, int]:
        """Return the bytes from and to the client since the last time."""
        now = self.client.byte_count, self.upstream.byte_count
        received, sent = now[0] - self._counted[0], now[1] - self._counted[1]
        self._counted = now
        return received, sent

    def _unsent(self) -> int:
        sides = (self.client, self.upstream)
        return sum(side.transport.get_write_buffer_size() for side in sides if not side.is_lost)

    def _name(self, side: Side) -> str:
        return "client" if side is self.client else "upstream"
