"""Where the bytes of an upload come from, cut into parts."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import IO, Any, cast

from dominus.errors import ValidationError

__all__ = ["FileSource", "Source"]

FileSource = bytes | bytearray | memoryview | os.PathLike[str] | IO[bytes] | AsyncIterable[bytes]
"""Bytes, a path, an open binary file, or an asynchronous iterator of bytes."""


class Source:
    """One of the forms of FileSource, read once from its beginning, never whole."""

    def __init__(self, data: FileSource) -> None:
        self.data = data
        self.whole: bytes | None = None
        """All of it, where it is in memory already."""
        self.name: str | None = None
        self.size: int | None = None
        if isinstance(data, (bytes, bytearray, memoryview)):
            self.whole = bytes(data)  # a bytearray might change while it is sent
            self.size = len(self.whole)
        elif isinstance(data, os.PathLike):
            self.name = Path(data).name
        elif isinstance(data, str) or not (hasattr(data, "read") or hasattr(data, "__aiter__")):
            raise ValidationError(
                f"data: bytes, a path, a binary file or an asynchronous iterator, not {type(data).__name__}",
                hint="pathlib.Path(...) names a file; text.encode() is its bytes",
            )

    async def parts(self, part_bytes: int) -> AsyncIterator[bytes]:
        """Iterate over parts of `part_bytes`, the last of which may be shorter.

        Raises:
            ValidationError: a file cannot be read, or gives text.
        """
        if self.whole is not None:
            for start in range(0, len(self.whole), part_bytes):
                yield self.whole[start : start + part_bytes]
        elif isinstance(self.data, os.PathLike):
            file = await _opened(self.data)
            try:
                async for part in _read_parts(file, part_bytes):
                    yield part
            finally:
                await asyncio.to_thread(file.close)
        elif hasattr(self.data, "read"):
            async for part in _read_parts(cast("IO[bytes]", self.data), part_bytes):
                yield part
        else:
            async for part in _gathered(cast("AsyncIterable[bytes]", self.data), part_bytes):
                yield part

    async def measure(self) -> None:
        """Learn the size of a file that is named, and that it can be read; others tell theirs at their end."""
        if isinstance(self.data, os.PathLike):
            try:
                found = await asyncio.to_thread(os.stat, self.data)
            except OSError as error:
                raise _unreadable(self.data, error) from error
            # A pipe must not be opened twice, and has no size.
            if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                file = await _opened(self.data)
                await asyncio.to_thread(file.close)
                self.size = found.st_size


async def _opened(path: os.PathLike[str]) -> IO[bytes]:
    try:
        return await asyncio.to_thread(Path(path).open, "rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: os.PathLike[str], error: OSError) -> ValidationError:
    return ValidationError(f"data: {os.fspath(path)} cannot be read: {error.strerror}")


async def _read_parts(file: IO[bytes], part_bytes: int) -> AsyncIterator[bytes]:
    while True:
        part = await asyncio.to_thread(_read_full, file, part_bytes)
        if part:
            yield part
        if len(part) < part_bytes:
            return


def _read_full(file: IO[bytes], size: int) -> bytes:
    """Read as much as there is: pipes and sockets give less than was asked for."""
    found: list[bytes] = []
    left = size
    while left:
        try:
            chunk: Any = file.read(left)
        except OSError as error:
            raise ValidationError(f"data: the file cannot be read: {error.strerror}") from error
        if not isinstance(chunk, (bytes, bytearray)):
            raise ValidationError("data: the file gives text", hint='open it with "rb"')
        if not chunk:
            break
        found.append(bytes(chunk))
        left -= len(chunk)
    return found[0] if len(found) == 1 else b"".join(found)


async def _gathered(chunks: AsyncIterable[bytes], part_bytes: int) -> AsyncIterator[bytes]:
    part = bytearray()
    async for chunk in chunks:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValidationError(f"data: the iterator gives {type(chunk).__name__}, not bytes")
        view = memoryview(chunk)
        while view:
            taken = view[: part_bytes - len(part)]
            part += taken
            view = view[len(taken) :]
            if len(part) == part_bytes:
                whole, part = bytes(part), bytearray()
                yield whole
    if part:
        yield bytes(part)
