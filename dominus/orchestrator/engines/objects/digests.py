"""The SHA-256 of uploads whose parts came through this process in order, so that their end need not read all again."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Protocol, Self

__all__ = ["Digest", "PartDigests", "RunningDigest", "sha256_hex"]

MAX_RUNNING = 256
_SMALL_BYTES = 64 * 1024


class Digest(Protocol):
    """What `hashlib.sha256()` returns."""

    def update(self, data: bytes | bytearray, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        ...

    def copy(self) -> Self:
        """Return another that goes on from here."""
        ...


async def sha256_hex(data: bytes | bytearray) -> str:
    """Return the SHA-256 of some bytes, of many in a thread."""
    if len(data) <= _SMALL_BYTES:
        return hashlib.sha256(data).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()


class RunningDigest:
    """The SHA-256 of the first parts of one upload."""

    def __init__(self) -> None:
        self._hash: Digest = hashlib.sha256()
        self._of_parts: list[str] = []
        self._under_way: Counter[int] = Counter()
        self._changed = asyncio.Condition()

    def begin(self, number: int) -> None:
        """Say that a part is coming; the one after it waits for it."""
        self._under_way[number] += 1

    async def end(self, number: int) -> None:
        """Say that it was added, or failed."""
        self._under_way[number] -= 1
        if not self._under_way[number]:
            del self._under_way[number]
        async with self._changed:
            self._changed.notify_all()

    async def add(self, number: int, data: bytes | bytearray, sha256: str) -> None:
        """Add a part, after those before it that are under way; without them it is left to the end of the upload."""
        async with self._changed:
            while len(self._of_parts) < number and len(self._of_parts) in self._under_way:
                await self._changed.wait()
            if len(self._of_parts) == number:
                # In a copy: a caller whose deadline passes here leaves a thread that goes on, and sends it again.
                longer = self._hash.copy()
                await asyncio.to_thread(longer.update, data)
                self._hash = longer
                self._of_parts.append(sha256)

    def begun(self, parts: Sequence[str]) -> tuple[int, Digest]:
        """Return how many of the parts, known by their digests, are in a hash, and that hash, to be continued."""
        known = self._of_parts
        if known != list(parts[: len(known)]):
            # A part was sent anew with other bytes.
            return 0, hashlib.sha256()
        return len(known), self._hash.copy()


class PartDigests:
    """Those of all uploads under way in this worker; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._running: OrderedDict[str, RunningDigest] = OrderedDict()

    def of(self, upload_id: str) -> RunningDigest:
        """Return that of an upload, a new one where there is none."""
        found = self._running.setdefault(upload_id, RunningDigest())
        self._running.move_to_end(upload_id)
        while len(self._running) > MAX_RUNNING:
            self._running.popitem(last=False)
        return found

    def forget(self, upload_id: str) -> None:
        """Let go of one."""
        self._running.pop(upload_id, None)
