"""The steps that `dominus.files.upload` is made of."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, cast

from dominus.contract import files as contract
from dominus.namespaces.base import Namespace

__all__ = ["UploadSteps"]


class UploadSteps(Namespace):
    """Uploads in parts, step by step."""

    async def start_upload(
        self,
        filename: str,
        content_type: str | None = None,
        category: str = "general",
        path: str | None = None,
        tags: Mapping[str, str] | None = None,
        compliance: bool = False,
        actor: str | None = None,
        retention_days: int = 90,
        *,
        timeout: float | None = None,
    ) -> contract.UploadStarted:
        """Begin an upload in parts, for programs that send them by other ways: the first step below `upload`.

        Args:
            filename: as for `upload`.
            content_type: likewise.
            category: likewise.
            path: likewise.
            tags: likewise.
            compliance: likewise.
            actor: likewise.
            retention_days: likewise.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            upload = await dominus.files.start_upload("film.mp4")
            part = await dominus.files.put_part(upload["upload_id"], 0, b"hello")
            await dominus.files.finish_upload(upload["upload_id"], part["sha256"], size=5)
            ```
        """
        request = contract.StartUpload(
            filename=filename,
            content_type=content_type,
            category=category,
            logical_path=path,
            tags=cast("Any", tags),
            is_compliance=compliance,
            owner_user_id=actor if compliance else None,
            retention_days=retention_days,
        )
        return await self._call(contract.START_UPLOAD, request, timeout=timeout)

    async def put_part(
        self,
        upload_id: str,
        number: int,
        data: bytes,
        sha256: str | None = None,
        *,
        timeout: float | None = None,
    ) -> contract.PartStored:
        """Send a part of an upload; the same part again is fine, and with other bytes it is replaced.

        Args:
            upload_id: from `start_upload`.
            number: from 0.
            data: `part_bytes` bytes; the last part may have fewer.
            sha256: of the part, in hexadecimal; made of the data without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: no such upload of this caller is in progress (code `upload_not_found`).
            ValidationError: the bytes did not arrive as they were sent (code `checksum_mismatch`).

        Example:
            ```python
            upload = await dominus.files.start_upload("film.mp4")
            await dominus.files.put_part(upload["upload_id"], 0, b"hello")
            ```
        """
        if sha256 is None:
            sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
        request = contract.PutPart(upload_id=upload_id, number=number, sha256=sha256, content=data)
        return await self._call(contract.PUT_PART, request, timeout=timeout)

    async def list_parts(self, upload_id: str, *, timeout: float | None = None) -> contract.UploadParts:
        """Return what has arrived of an upload.

        Args:
            upload_id: from `start_upload`.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: no such upload of this caller is in progress (code `upload_not_found`).

        Example:
            ```python
            upload = await dominus.files.start_upload("film.mp4")
            assert (await dominus.files.list_parts(upload["upload_id"]))["parts"] == []
            ```
        """
        request = contract.UploadRef(upload_id=upload_id)
        return await self._call(contract.LIST_PARTS, request, timeout=timeout)

    async def finish_upload(
        self, upload_id: str, sha256: str, size: int, *, timeout: float | None = None
    ) -> contract.File:
        """Make a file of the parts, when they are all there and have this SHA-256 together.

        Args:
            upload_id: from `start_upload`.
            sha256: of the whole content, in hexadecimal.
            size: of the whole content, in bytes.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ConflictError: parts are missing (code `part_missing`), or the file at the path is retained.
            ValidationError: the parts have another SHA-256 (code `checksum_mismatch`).

        Example:
            ```python
            upload = await dominus.files.start_upload("film.mp4")
            part = await dominus.files.put_part(upload["upload_id"], 0, b"hello")
            await dominus.files.finish_upload(upload["upload_id"], part["sha256"], size=5)
            ```
        """
        request = contract.FinishUpload(upload_id=upload_id, sha256=sha256, size=size)
        return await self._call(contract.FINISH_UPLOAD, request, timeout=timeout)

    async def abort_upload(self, upload_id: str, *, timeout: float | None = None) -> bool:
        """Forget an upload in progress; false when there is none.

        Args:
            upload_id: from `start_upload`.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            upload = await dominus.files.start_upload("film.mp4")
            assert await dominus.files.abort_upload(upload["upload_id"])
            ```
        """
        request = contract.UploadRef(upload_id=upload_id)
        return (await self._call(contract.ABORT_UPLOAD, request, timeout=timeout))["aborted"]
