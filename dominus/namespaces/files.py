"""dominus.files: bytes under a path, of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from dominus.contract import files as contract
from dominus.errors import ValidationError
from dominus.namespaces.file_lists import FileLists
from dominus.namespaces.file_reads import FileReads
from dominus.namespaces.file_sources import FileSource, Source
from dominus.namespaces.file_steps import UploadSteps
from dominus.namespaces.file_transfer import Progress, send_parts

__all__ = ["Files"]

SMALL_BYTES = 1024 * 1024
"""Bytes in memory up to this go in one request."""


class Files(FileReads, FileLists, UploadSteps):
    """Files of a project and environment, named by their id, or by path and category.

    A path has 1 to 1,024 characters and is relative: no `..`, no empty segments, no backslash. A second upload to a
    path replaces the file whole: who reads gets the old bytes or the new ones.
    """

    async def upload(
        self,
        data: FileSource,
        filename: str | None = None,
        content_type: str | None = None,
        category: str = "general",
        path: str | None = None,
        tags: Mapping[str, str] | None = None,
        compliance: bool = False,
        actor: str | None = None,
        retention_days: int = 90,
        *,
        progress: Progress | None = None,
        resume: str | None = None,
        timeout: float | None = None,
    ) -> contract.File:
        """Store a file of any size, in place of the one at its path, and return what is known of it.

        Large files travel in parts: a part that is lost is sent again, and its SHA-256 and that of the whole are
        checked where they arrive. Memory holds three parts of 8 MiB at most.

        Args:
            data: bytes, a `pathlib.Path`, an open binary file, or an asynchronous iterator of bytes.
            filename: what it is called when it is downloaded; that of the path without it.
            content_type: a media type; told by the name without it.
            category: 1 to 64 characters.
            path: where it lies; the filename without it.
            tags: up to 50.
            compliance: keep it undeletable and unchanged for `retention_days`; needs an `actor`.
            actor: the id of the user who owns a compliance file.
            retention_days: 1 to 36,500.
            progress: called with the bytes sent, and all or None.
            resume: `details["upload_id"]` of the error that ended an upload of the same data within the last day.
            timeout: seconds for each request; the client's without it.

        Raises:
            ValidationError: a path or value is wrong, or the bytes changed while they were read.
            ConflictError: the file at this path is retained (code `file_retained`).
            RateLimitError: 64 uploads that this caller began within the last hour are in progress (code
                `too_many_uploads`).

        Example:
            ```python
            report = await dominus.files.upload(b"%PDF-1.7", "report.pdf", category="reports")
            print(report["id"], report["sha256"])
            ```
        """
        source = Source(data)
        name = filename or source.name or (path or "").rpartition("/")[2]
        if not name:
            raise ValidationError("filename: is missing", hint='upload(data, "report.pdf")')
        facts: dict[str, Any] = {
            "filename": name,
            "category": category,
            "logical_path": path or name,
            "content_type": content_type,
            "tags": tags,
            "is_compliance": compliance,
            "retention_days": retention_days,
            "owner_user_id": actor if compliance else None,
        }
        if source.whole is not None and len(source.whole) <= SMALL_BYTES and resume is None:
            digest = hashlib.sha256(source.whole).hexdigest()
            request = contract.UploadRequest(**facts, file_content=source.whole, sha256=digest)
            stored = await self._call(contract.UPLOAD, request, timeout=timeout)
            if progress is not None:
                progress(len(source.whole), len(source.whole))
            return stored
        begin = contract.StartUpload(**facts)
        await source.measure()
        if resume is not None:
            return await send_parts(
                self, await self.list_parts(resume, timeout=timeout), source, progress, timeout
            )
        started = await self._call(contract.START_UPLOAD, begin, timeout=timeout)
        upload: contract.UploadParts = {**started, "parts": []}
        return await send_parts(self, upload, source, progress, timeout)
