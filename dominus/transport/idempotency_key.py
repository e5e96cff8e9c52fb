"""Idempotency keys: uuid7 (RFC 9562), so that they sort by time in the server's index."""

from __future__ import annotations

import os
import time
import uuid

__all__ = ["new_key"]


def new_key() -> str:
    """Return a fresh uuid7: 48 bits of milliseconds, 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF000 << 64) | (0x7000 << 64)
    value = value & ~(0xC000 << 48) | (0x8000 << 48)
    return str(uuid.UUID(int=value))
