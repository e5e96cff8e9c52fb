"""Reading files: as bytes, as streams, to a path of this machine, and by links."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

from dominus.contract import files as contract
from dominus.errors import DominusError, ValidationError
from dominus.hints import iterator
from dominus.namespaces.base import Namespace, unwrap
from dominus.namespaces.file_transfer import FileReader, Progress

__all__ = ["FileReads"]


class FileReads(Namespace):
    """Reads files of any size."""

    async def download(
        self,
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        expires_seconds: int = 3600,
        *,
        timeout: float | None = None,
    ) -> contract.FileLink:
        """Return a link: a plain GET of `download_url`, without a token, gives the bytes until `expires_at`.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom a compliance file is read.
            expires_seconds: 1 to 604,800.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such file.
            ValidationError: a compliance file needs an actor (code `actor_required`).

        Example:
            ```python
            report = await dominus.files.upload(b"%PDF-1.7", "report.pdf")
            link = await dominus.files.download(report["id"], expires_seconds=600)
            print(link["download_url"])
            ```
        """
        request = contract.DownloadRequest(
            id=file_id,
            category=category,
            logical_path=path,
            actor_user_id=actor,
            expires_seconds=expires_seconds,
        )
        return await self._call(contract.DOWNLOAD, request, timeout=timeout)

    async def fetch(
        self,
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.FetchedFile:
        """Return a small file with its `data` in base64; `read` gives bytes, and `stream` files of any size.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom a compliance file is read.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such file.
            ValidationError: it is larger than an answer (10 MiB, code `file_too_large`), or needs an actor.

        Example:
            ```python
            await dominus.files.upload(b"hello", "hello.txt")
            fetched = await dominus.files.fetch(path="hello.txt")
            assert fetched["data"] == "aGVsbG8="
            ```
        """
        request = contract.AsActor(id=file_id, category=category, logical_path=path, actor_user_id=actor)
        return await self._call(contract.FETCH, request, timeout=timeout)

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
        """Return up to 8 MiB of a file's bytes; `stream` and `open` read more.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            offset: where to begin.
            length: 0 to 8,388,608, which it is without it; the end of the file ends the range.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom a compliance file is read.
            version: of which version; the newest without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such file.
            ConflictError: the version was replaced, and is gone (code `file_changed`).

        Example:
            ```python
            await dominus.files.upload(b"hello", "hello.txt")
            assert await dominus.files.read(path="hello.txt", offset=1, length=3) == b"ell"
            ```
        """
        request = contract.ReadRequest(
            id=file_id,
            category=category,
            logical_path=path,
            actor_user_id=actor,
            offset=offset,
            length=contract.PART_BYTES if length is None else length,
            version=version,
        )
        answer = await self._call(contract.READ, request, timeout=timeout)
        return unwrap(contract.READ, answer, lambda found: _bytes_of(found["data"]))

    def open(
        self,
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        *,
        timeout: float | None = None,
    ) -> FileReader:
        """Return a reader with `read`, `seek` and `tell`, to open with `async with`; it fetches what is read.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom a compliance file is read.
            timeout: seconds for each request; the client's without it.

        Raises:
            NotFoundError: on entering, when there is no such file.

        Example:
            ```python
            await dominus.files.upload(b"hello", "hello.txt")
            async with dominus.files.open(path="hello.txt") as file:
                file.seek(-2, 2)
                assert await file.read() == b"lo"
            ```
        """

        async def locate() -> contract.File:
            return await self.get(file_id, category, path, timeout=timeout)

        return FileReader(self, locate, actor, timeout)

    @iterator
    async def stream(
        self,
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[bytes]:
        """Iterate over a file's bytes in pieces of up to 4 MiB; the SHA-256 of a whole file is checked at its end.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom a compliance file is read.
            offset: where to begin.
            length: how many bytes; to the end without it.
            progress: called with the bytes received, and all; for whole files.
            timeout: seconds for each request; the client's without it.

        Raises:
            NotFoundError: there is no such file.
            ConflictError: the bytes are not those that were uploaded (code `checksum_mismatch`), or the file was
                replaced an hour ago and more (`file_changed`).

        Example:
            ```python
            await dominus.files.upload(b"hello", "hello.txt")
            async for chunk in dominus.files.stream(path="hello.txt"):
                print(len(chunk))
            ```
        """
        if offset < 0 or (length is not None and length < 0):
            raise ValidationError("offset and length must not be negative")
        async with self.open(file_id, category, path, actor, timeout=timeout) as reader:
            size = reader.file["size"]
            end = size if length is None else min(size, offset + length)
            pieces = reader.checked(progress) if (offset, end) == (0, size) else reader.pieces(offset, end)
            async for piece in pieces:
                yield piece

    async def save(
        self,
        to: str | os.PathLike[str],
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        actor: str | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> contract.File:
        """Write a file to a path of this machine, which has it whole and checked, or not at all.

        Args:
            to: where; an existing file is replaced when all has come, an existing folder takes it by its filename.
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            actor: the id of the user for whom a compliance file is read.
            progress: called with the bytes received, and all.
            timeout: seconds for each request; the client's without it.

        Raises:
            NotFoundError: there is no such file.
            ConflictError: as for `stream`.
            ValidationError: the path cannot be written.

        Example:
            ```python
            await dominus.files.upload(b"hello", "hello.txt")
            await dominus.files.save("/tmp/hello.txt", path="hello.txt")
            ```
        """
        async with self.open(file_id, category, path, actor, timeout=timeout) as reader:
            target = Path(to)
            try:
                if await asyncio.to_thread(target.is_dir):
                    target /= reader.file["filename"]
                await _write(target, reader.checked(progress))
            except DominusError:
                raise
            except OSError as error:
                raise ValidationError(f"to: {target} cannot be written: {error.strerror}") from error
            return reader.file

    async def get(
        self,
        file_id: str | None = None,
        category: str | None = None,
        path: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.File:
        """Return what is known of a file.

        Args:
            file_id: its id; without it, `path` and `category` name the file.
            category: its category, `general` without it.
            path: where it lies.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such file.

        Example:
            ```python
            await dominus.files.upload(b"hello", "hello.txt")
            assert (await dominus.files.get(path="hello.txt"))["size"] == 5
            ```
        """
        request = contract.FileRef(id=file_id, category=category, logical_path=path)
        return await self._call(contract.GET, request, timeout=timeout)


async def _write(target: Path, pieces: AsyncIterator[bytes]) -> None:
    # The name of the target may be as long as a name can be.
    draft = target.with_name(f".{os.urandom(8).hex()}.part")
    file = await asyncio.to_thread(draft.open, "xb")
    try:
        try:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
        finally:
            await asyncio.to_thread(file.close)
        await asyncio.to_thread(draft.replace, target)
    finally:
        await asyncio.to_thread(draft.unlink, missing_ok=True)


def _bytes_of(data: str | bytes) -> bytes:
    # Servers that know no raw answers send base64.
    return data if isinstance(data, bytes) else base64.b64decode(data, validate=True)
