"""files: what is known of them in PostgreSQL, their bytes in the object store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
from pydantic_core import to_json

from dominus.contract import files as contract
from dominus.contract.request import Empty
from dominus.errors import ConflictError, ValidationError
from dominus.orchestrator.handlers.context import Context, RawBytes, RawJson
from dominus.orchestrator.handlers.idempotency import written
from dominus.orchestrator.handlers.registry import Handlers
from dominus.orchestrator.services.files import listing, reading, uploads
from dominus.orchestrator.services.files.contents import (
    COLUMNS,
    collect,
    file_of,
    not_found,
    objects_of,
    place_of,
    release,
)

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Connection

__all__ = ["collect", "handlers"]

handlers = Handlers(contract.files)

_DELETE = """
DELETE FROM dominus.files
WHERE project = $1 AND environment = $2 AND id = $3
"""
_MOVE = f"""
UPDATE dominus.files
SET category = COALESCE($4, category), path = COALESCE($5, path), updated_at = now()
WHERE project = $1 AND environment = $2 AND id = $3
RETURNING {COLUMNS}
"""
_UPDATE = f"""
UPDATE dominus.files
SET tags = COALESCE($4::jsonb, tags), description = COALESCE($5, description), updated_at = now()
WHERE project = $1 AND environment = $2 AND id = $3
RETURNING {COLUMNS}
"""
_CREATE_FOLDER = """
WITH made AS (
  INSERT INTO dominus.file_folders (project, environment, category, path)
  VALUES ($1, $2, $3, $4)
  ON CONFLICT DO NOTHING
  RETURNING id
)
SELECT id::text, true AS created FROM made
UNION ALL
SELECT id::text, false FROM dominus.file_folders
WHERE project = $1 AND environment = $2 AND category = $3 AND path = $4
LIMIT 1
"""
_COUNT_IN_FOLDER = """
SELECT count(*)
FROM dominus.files
WHERE project = $1 AND environment = $2 AND category = $3 AND path ^@ $4
"""
# By their paths, not by what was counted: a file that is moved out meanwhile stays.
_DELETE_IN_FOLDER = """
DELETE FROM dominus.files
WHERE project = $1 AND environment = $2 AND category = $3 AND path ^@ $4
RETURNING id::text
"""
_DELETE_FOLDERS = """
DELETE FROM dominus.file_folders
WHERE project = $1 AND environment = $2 AND category = $3 AND (path = $4 OR path ^@ ($4 || '/'))
"""
_RESET = """
DELETE FROM dominus.files
WHERE project = $1 AND environment = $2 AND NOT (is_compliance AND $3)
  AND (retained_until IS NULL OR retained_until <= now())
RETURNING id::text, category
"""
_RESET_FOLDERS = "DELETE FROM dominus.file_folders WHERE project = $1 AND environment = $2"
_RESET_UPLOADS = """
UPDATE dominus.file_contents
SET keep_until = now()
WHERE project = $1 AND environment = $2 AND file_id IS NULL AND keep_until > now()
"""
_LEFT = """
SELECT category, count(*) AS left_count
FROM dominus.files
WHERE project = $1 AND environment = $2
GROUP BY category
"""


@handlers(contract.UPLOAD)
async def upload(ctx: Context, request: contract.UploadRequest) -> RawJson:
    """The bytes first, then the row that says so."""
    return await uploads.upload_whole(ctx, request)


@handlers(contract.DOWNLOAD)
async def download(ctx: Context, request: contract.DownloadRequest) -> contract.FileLink:
    """A link of this server: it can be taken back by deleting the file, and shows nothing of the store."""
    objects_of(ctx.resources)
    row = await reading.located(ctx, request)
    reading.check_actor(ctx, request, row)
    return await reading.linked(ctx, row, request.expires_seconds)


@handlers(contract.FETCH)
async def fetch(ctx: Context, request: contract.AsActor) -> contract.FetchedFile:
    """In one answer."""
    return await reading.whole(ctx, request)


@handlers(contract.READ)
async def read(ctx: Context, request: contract.ReadRequest) -> RawBytes:
    """A range."""
    return await reading.read_range(ctx, request)


@handlers(contract.GET)
async def get(ctx: Context, request: contract.FileRef) -> contract.File:
    """What is known of it."""
    return file_of(await reading.located(ctx, request))


@handlers(contract.LIST)
async def list_files(ctx: Context, request: contract.ListRequest) -> contract.FilePage:
    """A page."""
    return await listing.listed(ctx, request)


@handlers(contract.BROWSE)
async def browse(ctx: Context, request: contract.BrowseRequest) -> contract.FolderPage:
    """A page."""
    return await listing.browsed(ctx, request)


@handlers(contract.DELETE)
async def delete(ctx: Context, request: contract.AsActor) -> RawJson:
    """Its bytes are collected later."""

    async def change(connection: Connection) -> contract.FileDeleted:
        row = await reading.find(ctx, request, connection)
        if row is None:
            return {"deleted": False}
        said = await connection.execute(_DELETE, *place_of(ctx), row["id"])
        await release(connection, place_of(ctx), [row["id"]])
        return {"deleted": said != "DELETE 0"}

    return await written(ctx, change)


@handlers(contract.MOVE)
async def move(ctx: Context, request: contract.MoveRequest) -> RawJson:
    """Nothing is overwritten; the bytes stay where they are."""

    async def change(connection: Connection) -> contract.File:
        try:
            row = await connection.fetchrow(
                _MOVE, *place_of(ctx), request.id, request.new_category, request.new_logical_path
            )
        except asyncpg.UniqueViolationError:
            raise ConflictError("there is a file at that path", code="file_exists") from None
        if row is None:
            raise not_found(f"the file {request.id!r}")
        return file_of(row)

    return await written(ctx, change)


@handlers(contract.UPDATE)
async def update_meta(ctx: Context, request: contract.UpdateRequest) -> RawJson:
    """Retained files may be described anew."""
    tags = None if request.tags is None else to_json(request.tags).decode()

    async def change(connection: Connection) -> contract.File:
        row = await connection.fetchrow(_UPDATE, *place_of(ctx), request.id, tags, request.description)
        if row is None:
            raise not_found(f"the file {request.id!r}")
        return file_of(row)

    return await written(ctx, change)


@handlers(contract.STATS)
async def get_storage_stats(ctx: Context, _request: Empty) -> contract.StorageStats:
    """All of them, and by category."""
    found = await listing.amounts(ctx)
    by_category: dict[str, contract.Amount] = {
        one["name"]: {"object_count": one["object_count"], "total_size_bytes": one["total_size_bytes"]}
        for one in found
    }
    return {
        "total_objects": sum(one["object_count"] for one in found),
        "total_size_bytes": sum(one["total_size_bytes"] for one in found),
        "by_category": by_category,
    }


@handlers(contract.CATEGORIES)
async def list_categories(ctx: Context, _request: Empty) -> contract.Categories:
    """Those with files."""
    return {"categories": await listing.amounts(ctx)}


@handlers(contract.VIEWS)
async def list_views(ctx: Context, request: contract.ViewsRequest) -> contract.Views:
    """The reserved ones for admins."""
    return listing.views(ctx, include_reserved=request.include_reserved)


@handlers(contract.VIEW_CATEGORIES)
async def list_categories_in_view(ctx: Context, request: contract.ViewRequest) -> contract.Categories:
    """Those with files in the view."""
    return {"categories": await listing.categories_in(ctx, request.view)}


@handlers(contract.CREATE_FOLDER)
async def create_folder(ctx: Context, request: contract.FolderRequest) -> RawJson:
    """A row that keeps an empty folder visible; files make folders by their paths."""

    async def change(connection: Connection) -> contract.FolderCreated:
        category = request.category or "general"
        row = await connection.fetchrow(_CREATE_FOLDER, *place_of(ctx), category, request.path)
        if row is None:
            # Another made it while this statement ran: now it is there to be seen.
            row = await connection.fetchrow(_CREATE_FOLDER, *place_of(ctx), category, request.path)
        if row is None:
            raise ConflictError("the folder is being deleted", code="folder_not_empty")
        is_new: bool = row["created"]
        return {
            "created": is_new,
            "path": f"/{request.path}",
            "placeholder_id": row["id"],
            "message": "the folder was made" if is_new else "the folder was there",
        }

    return await written(ctx, change)


@handlers(contract.DELETE_FOLDER)
async def delete_folder(ctx: Context, request: contract.FolderDelete) -> RawJson:
    """All that is in it or nothing: one retained file keeps the others."""
    place, category = place_of(ctx), request.category or "general"

    async def change(connection: Connection) -> contract.FolderDeleted:
        inside = (*place, category, f"{request.path}/")
        gone: list[str] = []
        if request.force:
            gone = [row["id"] for row in await connection.fetch(_DELETE_IN_FOLDER, *inside)]
            await release(connection, place, gone)
        elif count := await connection.fetchval(_COUNT_IN_FOLDER, *inside):
            raise ConflictError(
                f"the folder has {count} files", code="folder_not_empty", hint="force=True deletes them"
            )
        said = await connection.execute(_DELETE_FOLDERS, *place, category, request.path)
        is_gone = bool(gone) or said != "DELETE 0"
        return {"deleted": is_gone, "path": f"/{request.path}", "deleted_count": len(gone)}

    return await written(ctx, change)


@handlers(contract.FACTORY_RESET)
async def factory_reset(ctx: Context, request: contract.ResetRequest) -> RawJson:
    """Retention outlives it."""
    if not request.confirm:
        raise ValidationError(
            "deletes all files: confirm=True says that this is meant", code="confirm_required"
        )
    place = place_of(ctx)

    async def change(connection: Connection) -> contract.FilesReset:
        gone = await connection.fetch(_RESET, *place, request.preserve_compliance)
        await release(connection, place, [row["id"] for row in gone])
        await connection.execute(_RESET_FOLDERS, *place)
        await connection.execute(_RESET_UPLOADS, *place)
        counts: dict[str, contract.ResetCount] = {}
        for row in gone:
            one = counts.setdefault(row["category"], {"deleted_count": 0, "retained_count": 0})
            one["deleted_count"] += 1
        for row in await connection.fetch(_LEFT, *place):
            one = counts.setdefault(row["category"], {"deleted_count": 0, "retained_count": 0})
            one["retained_count"] = row["left_count"]
        return {
            "reset": True,
            "deleted_count": len(gone),
            "retained_count": sum(one["retained_count"] for one in counts.values()),
            "by_category": counts,
        }

    return await written(ctx, change)


@handlers(contract.START_UPLOAD)
async def start_upload(ctx: Context, request: contract.StartUpload) -> RawJson:
    """See uploads.py."""
    return await uploads.start(ctx, request)


@handlers(contract.PUT_PART)
async def put_part(ctx: Context, request: contract.PutPart) -> contract.PartStored:
    """It is the same part however often it comes."""
    return await uploads.put_part(ctx, request)


@handlers(contract.LIST_PARTS)
async def list_parts(ctx: Context, request: contract.UploadRef) -> contract.UploadParts:
    """To continue after a break."""
    return await uploads.listed(ctx, request)


@handlers(contract.FINISH_UPLOAD)
async def finish_upload(ctx: Context, request: contract.FinishUpload) -> RawJson:
    """The file appears, whole."""
    return await uploads.finish(ctx, request)


@handlers(contract.ABORT_UPLOAD)
async def abort_upload(ctx: Context, request: contract.UploadRef) -> RawJson:
    """Its parts are collected later."""
    return await uploads.abort(ctx, request)
