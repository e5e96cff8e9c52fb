"""Large files on their way: up in parts that can be sent again, down in ranges of one version."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self, cast

from dominus.contract import files as contract
from dominus.errors import ConflictError, DominusError, ServiceError, ValidationError
from dominus.namespaces.file_sources import Source

__all__ = ["FileReader", "Progress", "Ranges", "Steps", "send_parts"]

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have been sent or received, and with all, or None while nobody knows."""
PARTS_UNDER_WAY = 2
SLOW_BYTES = 20 * 1024 * 1024
"""Bytes a second that a server reads at least, which has to read an upload once more at its end."""
RANGE_BYTES = 4 * 1024 * 1024


class Steps(Protocol):
    """What an upload is made of: `dominus.files`."""

    async def put_part(
        self,
        upload_id: str,
        number: int,
        data: bytes,
        sha256: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.PartStored:
        """Send a part."""
        ...

    async def finish_upload(
        self, upload_id: str, sha256: str, size: int, *, timeout: float | None = None
    ) -> contract.File:
        """Make a file of the parts."""
        ...


class Ranges(Protocol):
    """What a download is made of: `dominus.files`."""

    async def read(
        self,
        file_id: str | None = None,
        offset: int = 0,
        length: int | None = None,
        *,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        version: int | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Return a range of bytes."""
        ...


async def send_parts(  # noqa: C901 - one loop over the parts, with what ends it
    steps: Steps,
    upload: contract.UploadParts,
    source: Source,
    progress: Progress | None,
    timeout: float | None,
) -> contract.File:
    """Send the parts that have not arrived, a few at a time, and finish the upload.

    Raises:
        DominusError: a part did not get through; `details` has `upload_id`, to go on from there.
    """
    known = {part["number"]: part["sha256"] for part in upload["parts"]}
    whole, sent = hashlib.sha256(), 0
    under_way: dict[asyncio.Task[object], int] = {}

    def count(done: set[asyncio.Task[object]]) -> None:
        nonlocal sent
        for task in done:
            task.result()
            sent += under_way.pop(task)
        if progress is not None and done:
            progress(sent, source.size)

    async def settle(most: int) -> None:
        while len(under_way) > most:
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            count(done)

    number, size = 0, 0
    try:
        async for part in source.parts(upload["part_bytes"]):
            sha256 = await asyncio.to_thread(_digest, part, whole)
            await settle(PARTS_UNDER_WAY - 1)
            if known.get(number) == sha256:
                sent += len(part)
            else:
                step = steps.put_part(upload["upload_id"], number, part, sha256, timeout=timeout)
                under_way[asyncio.ensure_future(step)] = len(part)
            number, size = number + 1, size + len(part)
        await settle(0)
        if progress is not None:
            progress(sent, size)
        limit = (
            None if timeout is None and size < SLOW_BYTES else max(timeout or 30.0, size / SLOW_BYTES + 30)
        )
        return await steps.finish_upload(upload["upload_id"], whole.hexdigest(), size, timeout=limit)
    except DominusError as error:
        _tell_upload(error, upload["upload_id"])
        raise
    except Exception as error:
        # The source's own, or that of `progress`.
        error.add_note(_resuming(upload["upload_id"]))
        raise
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _digest(part: bytes, whole: hashlib._Hash) -> str:  # pyright: ignore[reportPrivateUsage]
    whole.update(part)
    return hashlib.sha256(part).hexdigest()


def _tell_upload(error: DominusError, upload_id: str) -> None:
    details: Any = error.details
    if details is None or isinstance(details, dict):
        known = cast("dict[str, object]", details or {})
        error.details = {**known, "upload_id": upload_id}
    resuming = _resuming(upload_id)
    error.hint = resuming if error.hint is None else f"{resuming}; {error.hint}"


def _resuming(upload_id: str) -> str:
    return f"upload(..., resume={upload_id!r}) sends only what is missing"


class FileReader:
    """A file that is open for reading, as `dominus.files.open(...)` gives it, and stays at one version.

    Attributes:
        file: what is known of it.
    """

    def __init__(
        self,
        ranges: Ranges,
        locate: Callable[[], Awaitable[contract.File]],
        actor: str | None,
        timeout: float | None,
    ) -> None:
        self._ranges, self._locate, self._actor, self._timeout = ranges, locate, actor, timeout
        self._file: contract.File | None = None
        self._position = 0

    @property
    def file(self) -> contract.File:
        """What is known of the file."""
        if self._file is None:
            raise ValidationError("the file is not open", hint="async with dominus.files.open(...) as file:")
        return self._file

    async def __aenter__(self) -> Self:
        self._file = await self._locate()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file = None

    def tell(self) -> int:
        """Return where the next `read` begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the beginning, or as `whence` says (`io.SEEK_CUR`, `io.SEEK_END`); return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.file["size"]}.get(whence)
        if base is None or base + offset < 0:
            raise ValidationError("seek: there is no such place in a file")
        self._position = base + offset
        return self._position

    async def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, all that follow with -1; fewer at the end of the file.

        Raises:
            ConflictError: the content was replaced for so long that the old one is gone (code `file_changed`).
        """
        end = self.file["size"] if size < 0 else min(self.file["size"], self._position + size)
        found = [piece async for piece in self.pieces(self._position, end)]
        self._position = max(self._position, end)
        return found[0] if len(found) == 1 else b"".join(found)

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Iterate over a range; the next piece is fetched while one is used."""
        coming: asyncio.Task[bytes] | None = None
        try:
            while start < end:
                length = min(RANGE_BYTES, end - start)
                piece = await (coming or self._range(start, length))
                if len(piece) != length:
                    raise ServiceError(
                        "the server sent another range than was asked for", code="broken_answer"
                    )
                start += length
                coming = None
                if start < end:
                    coming = asyncio.ensure_future(self._range(start, min(RANGE_BYTES, end - start)))
                yield piece
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _range(self, offset: int, length: int) -> bytes:
        file = self.file
        return await self._ranges.read(
            file["id"], offset, length, actor=self._actor, version=file["version"], timeout=self._timeout
        )

    async def checked(self, progress: Progress | None = None) -> AsyncIterator[bytes]:
        """Iterate over the whole content, and check its SHA-256 at the end.

        Raises:
            ConflictError: the bytes are not those that were uploaded (code `checksum_mismatch`).
        """
        file, digest, got = self.file, hashlib.sha256(), 0
        async for piece in self.pieces(0, file["size"]):
            await asyncio.to_thread(digest.update, piece)
            got += len(piece)
            if progress is not None:
                progress(got, file["size"])
            yield piece
        if digest.hexdigest() != file["sha256"]:
            raise ConflictError(
                f"the bytes of file {file['id']} have another SHA-256 than those that were uploaded",
                code="checksum_mismatch",
            )
