"""What the gateway asks of sockets beside reading and writing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

__all__ = ["half_close", "keep_alive"]

KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A peer that is gone without a word is noticed after two minutes."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel notice a peer that is gone without a word."""
    found: Any = transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # A connection that is closed by now needs no care.
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if (option := getattr(socket, name, None)) is not None:
                found.setsockopt(socket.IPPROTO_TCP, option, value)


def half_close(transport: asyncio.Transport) -> None:
    """Send what is left, and then the end; the way back stays open, except with TLS, which has no such thing."""
    if transport.is_closing():
        return
    if not transport.can_write_eof():
        transport.close()
        return
    try:
        transport.write_eof()
    except OSError:
        # The peer is gone already: the kernel has said so to nobody yet.
        transport.abort()
