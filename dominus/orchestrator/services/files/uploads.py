"""Uploads in parts: begun, sent part by part in any order and as often as needed, finished by one transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from dominus.contract import files as contract
from dominus.errors import ConflictError, NotFoundError, RateLimitError, ValidationError
from dominus.orchestrator.engines.objects.digests import Digest, sha256_hex
from dominus.orchestrator.handlers.context import Context, RawJson
from dominus.orchestrator.handlers.idempotency import exactly_once, written
from dominus.orchestrator.services.files.contents import (
    COLUMNS,
    Content,
    Part,
    attach,
    fetched,
    file_of,
    folder_of,
    not_found,
    object_name,
    objects_of,
    open_content,
    parts_of,
    pieces,
    place_of,
)

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["abort", "finish", "listed", "put_part", "start"]

MAX_UPLOADS = 64
"""In progress at a time, of one principal."""
COUNTED_SECONDS = 3600
"""One that was begun earlier no longer counts: what a program left behind must not keep it out for a day."""
UPLOAD_SECONDS = 86_400
"""So long an upload may take."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7))"
_COUNT = """
SELECT count(*)
FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND owner = $3 AND facts IS NOT NULL AND file_id IS NULL
  AND keep_until > now() AND created_at > now() - make_interval(secs => $4)
"""
_START = """
INSERT INTO dominus.file_contents (project, environment, owner, facts, part_bytes, keep_until)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
RETURNING id::text AS upload_id, part_bytes, keep_until
"""
_RETAINED = """
SELECT retained_until
FROM dominus.files
WHERE project = $1 AND environment = $2 AND category = $3 AND path = $4 AND retained_until > now()
"""
_FIND = """
SELECT id::text AS upload_id, facts, part_bytes, keep_until
FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND id = $3 AND owner = $4 AND facts IS NOT NULL AND file_id IS NULL
  AND keep_until > now() AND NOT is_doomed
"""
# One whose end was not heard of has all its parts: who goes on with it learns what became of it.
_FIND_OR_FINISHED = """
SELECT id::text AS upload_id, part_bytes, COALESCE(keep_until, now()) AS keep_until
FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND id = $3 AND owner = $4 AND facts IS NOT NULL
  AND (keep_until IS NULL OR file_id IS NULL AND keep_until > now() AND NOT is_doomed)
"""
_FINISHED = f"""
SELECT {COLUMNS}
FROM dominus.files
WHERE project = $1 AND environment = $2 AND sha256 = $5 AND size = $6 AND (id, content_id) IN (
  SELECT file_id, id
  FROM dominus.file_contents
  WHERE project = $1 AND environment = $2 AND id = $3 AND owner = $4 AND facts IS NOT NULL AND keep_until IS NULL
)
"""
# The share lock keeps a part from coming after the end of its upload has looked at the parts.
_PUT = f"""
WITH open AS ({_FIND} FOR SHARE)
INSERT INTO dominus.file_parts AS p (project, environment, content_id, number, size, sha256)
SELECT $1, $2, $3, $5, $6, $7
FROM open
ON CONFLICT (project, environment, content_id, number) DO UPDATE
SET size = EXCLUDED.size, sha256 = EXCLUDED.sha256
RETURNING number, size, sha256
"""
_IS_KEPT = """
SELECT 1
FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND id = $3 AND NOT is_doomed
"""
_ADD_PART = """
INSERT INTO dominus.file_parts (project, environment, content_id, number, size, sha256)
VALUES ($1, $2, $3, 0, $4, $5)
"""
_CLOSE = """
SELECT id
FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND id = $3
FOR UPDATE
"""
_ABORT = """
UPDATE dominus.file_contents
SET keep_until = now()
WHERE project = $1 AND environment = $2 AND id = $3 AND owner = $4 AND facts IS NOT NULL AND file_id IS NULL
  AND keep_until > now()
"""


async def start(ctx: Context, request: contract.StartUpload) -> RawJson:
    """Begin an upload, unless the caller has too many, or its place is taken by a retained file."""
    objects_of(ctx.resources)
    place, owner = place_of(ctx), ctx.principal.subject
    part_bytes = min(contract.PART_BYTES, ctx.resources.settings.max_body_bytes)

    async def change(connection: Connection) -> contract.UploadStarted:
        # Of two that begin at once, the second counts the first.
        await connection.execute(_LOCK, "/".join((*place, owner)))
        if await connection.fetchval(_COUNT, *place, owner, float(COUNTED_SECONDS)) >= MAX_UPLOADS:
            raise RateLimitError(
                f"{MAX_UPLOADS} uploads of the last hour are in progress, the most that one caller may have",
                code="too_many_uploads",
                status_code=429,
                hint="finish or abort some; after an hour they no longer count",
            )
        path = request.logical_path or request.filename
        retained = await connection.fetchval(_RETAINED, *place, request.category, path)
        if retained is not None:
            raise ConflictError(
                f"the file at this path is retained until {retained.isoformat()}", code="file_retained"
            )
        facts = to_json(contract.facts_of(request)).decode()
        row = await connection.fetchrow(_START, *place, owner, facts, part_bytes, float(UPLOAD_SECONDS))
        return _started(row)

    return await written(ctx, change)


def _started(row: Any) -> contract.UploadStarted:
    return {
        "upload_id": row["upload_id"],
        "part_bytes": row["part_bytes"],
        "expires_at": row["keep_until"].isoformat(),
    }


async def _found(ctx: Context, upload_id: str, query: str = _FIND) -> Any:
    system, owner = ctx.resources.postgres.system, ctx.principal.subject
    rows = await fetched(system, query, *place_of(ctx), upload_id, owner)
    if not rows:
        raise _missing(upload_id)
    return rows[0]


def _missing(upload_id: str) -> NotFoundError:
    return not_found(f"the upload {upload_id}, in progress and of this caller,", "upload_not_found")


async def put_part(ctx: Context, request: contract.PutPart) -> contract.PartStored:
    """Check a part, store its bytes, then say that they are there."""
    objects, digests = objects_of(ctx.resources), ctx.resources.digests
    upload = await _found(ctx, request.upload_id)
    # Before its bytes are read: those who wait hold none.
    async with ctx.resources.files_share.of(ctx.principal.subject):
        running = digests.of(upload["upload_id"])
        # With a place only: the part after this one waits for it, and has a place already.
        running.begin(request.number)
        try:
            data = await _bytes_of(ctx, request, upload["part_bytes"])
            if await sha256_hex(data) != request.sha256:
                raise ValidationError(
                    f"part {request.number}: the bytes that came have another SHA-256",
                    code="checksum_mismatch",
                    hint="send it again",
                )
            part = Part(request.number, len(data), request.sha256)
            await objects.put(object_name(upload["upload_id"], part), data)
            await _record(ctx, upload["upload_id"], part)
            await running.add(part.number, data, part.sha256)
        finally:
            await running.end(request.number)
    return {"number": part.number, "size": part.size, "sha256": part.sha256}


async def _record(ctx: Context, upload_id: str, part: Part) -> None:
    """Say that a part is there, unless its upload has ended meanwhile."""
    system, owner = ctx.resources.postgres.system, ctx.principal.subject
    rows = await fetched(system, _PUT, *place_of(ctx), upload_id, owner, part.number, part.size, part.sha256)
    if rows:
        return
    if not await fetched(system, _IS_KEPT, *place_of(ctx), upload_id):
        # Whoever collected the upload may have looked before this part was written: nobody would look again.
        await objects_of(ctx.resources).delete_under(folder_of(upload_id))
    raise _missing(upload_id)


async def _bytes_of(ctx: Context, request: contract.PutPart, part_bytes: int) -> bytes | bytearray:
    if ctx.stream is None:
        data: bytes | bytearray = request.content or b""
    else:
        data = bytearray()
        async for chunk in ctx.stream:
            data += chunk
            if len(data) > part_bytes:
                break
    if len(data) > part_bytes:
        raise ValidationError(
            f"part {request.number}: a part of this upload has at most {part_bytes} bytes",
            code="part_too_large",
        )
    if not data:
        raise ValidationError(f"part {request.number}: is empty", hint="an empty file has no parts")
    return data


async def listed(ctx: Context, request: contract.UploadRef) -> contract.UploadParts:
    """Say what has arrived."""
    upload = await _found(ctx, request.upload_id, _FIND_OR_FINISHED)
    parts = await parts_of(ctx.resources.postgres.system, place_of(ctx), upload["upload_id"])
    stored: list[contract.PartStored] = [
        {"number": part.number, "size": part.size, "sha256": part.sha256} for part in parts
    ]
    return {**_started(upload), "parts": stored}


async def finish(ctx: Context, request: contract.FinishUpload) -> RawJson:
    """Check that all is there and is what was meant, then make it the content of the file."""
    return await exactly_once(ctx, lambda: _finish(ctx, request))


async def _finish(ctx: Context, request: contract.FinishUpload) -> RawJson:
    objects, system = objects_of(ctx.resources), ctx.resources.postgres.system
    who = (*place_of(ctx), request.upload_id, ctx.principal.subject)
    done = await fetched(system, _FINISHED, *who, request.sha256, request.size)
    if done:
        return RawJson.of(to_json(file_of(done[0])))
    upload = await _found(ctx, request.upload_id)
    parts = await parts_of(system, place_of(ctx), upload["upload_id"])
    content = Content(upload["upload_id"], upload["part_bytes"], parts)
    _check_whole(content, request.size)
    begun, digest = ctx.resources.digests.of(content.id).begun([part.sha256 for part in parts])
    await _continue(objects, content, begun, digest)
    if digest.hexdigest() != request.sha256:
        raise ValidationError(
            "the parts together have another SHA-256 than the one given",
            code="checksum_mismatch",
            details={"sha256": digest.hexdigest()},
            hint="did the file change while it was read? upload it again",
        )
    facts = contract.StartUpload(**from_json(upload["facts"]))

    async def change(connection: Connection) -> contract.File:
        # No part is added or replaced from here on.
        await connection.fetchval(_CLOSE, *place_of(ctx), content.id)
        if await parts_of(connection, place_of(ctx), content.id) != parts:
            raise ConflictError("parts came while the upload was finished", code="part_missing")
        return await attach(ctx, connection, content.id, facts, content.size, request.sha256)

    found = await written(ctx, change)
    ctx.resources.digests.forget(content.id)
    return found


async def _continue(objects: Any, content: Content, begun: int, digest: Digest) -> None:
    """Add the parts to a digest that were not added while they came: they came elsewhere, or before a restart."""
    async for piece in pieces(
        objects,
        content,
        begun * content.part_bytes,
        content.size,
        piece_bytes=content.part_bytes,
    ):
        await asyncio.to_thread(digest.update, piece)


def _check_whole(content: Content, size: int) -> None:
    parts = content.parts
    last = len(parts) - 1
    missing = sorted(set(range(len(parts))) - {part.number for part in parts})
    short = [part.number for part in parts if part.number < last and part.size != content.part_bytes]
    if missing or short or content.size != size:
        raise ConflictError(
            f"the parts have {content.size} of {size} bytes",
            code="part_missing",
            details={"missing": missing[:100], "short": short[:100]},
            hint="list_parts tells what has arrived; each part but the last has part_bytes bytes",
        )


async def abort(ctx: Context, request: contract.UploadRef) -> RawJson:
    """Give an upload up; its parts are collected."""
    owner = ctx.principal.subject

    async def change(connection: Connection) -> contract.UploadAborted:
        said = await connection.execute(_ABORT, *place_of(ctx), request.upload_id, owner)
        return {"aborted": said != "UPDATE 0"}

    return await written(ctx, change)


async def upload_whole(ctx: Context, request: contract.UploadRequest) -> RawJson:
    """Store a file that came in one request."""
    objects, data = objects_of(ctx.resources), request.file_content
    sha256 = await sha256_hex(data)
    if request.sha256 not in {None, sha256}:
        raise ValidationError("the bytes that came have another SHA-256", code="checksum_mismatch")
    content_id = await open_content(ctx, max(1, len(data)))
    part = Part(0, len(data), sha256)
    if data:
        await objects.put(object_name(content_id, part), data)

    async def change(connection: Connection) -> contract.File:
        if data:
            await connection.execute(_ADD_PART, *place_of(ctx), content_id, part.size, part.sha256)
        return await attach(ctx, connection, content_id, request, len(data), sha256)

    return await written(ctx, change)
