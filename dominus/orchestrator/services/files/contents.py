"""The contents of files: parts in the object store, and the rows that say so.

A content is written once, under an id that nobody chose, and belongs to nothing at first. One transaction makes it
the content of a file, and gives up the one before: who reads sees the old bytes or the new ones, whole. What nobody
needs any more, whichever crash or replacement left it, has a time in `keep_until`, and is collected after it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json, to_json

from dominus.contract import files as contract
from dominus.errors import ConflictError, NotFoundError, ServiceError
from dominus.orchestrator.engines.postgres.errors import FAILURES, from_postgres
from dominus.orchestrator.handlers.context import Context

if TYPE_CHECKING:
    from dominus.orchestrator.engines.objects.store import Objects
    from dominus.orchestrator.engines.postgres.typing import Connection, Executor, Record
    from dominus.orchestrator.handlers.resources import Resources

__all__ = [
    "COLUMNS",
    "GRACE_SECONDS",
    "Content",
    "Part",
    "attach",
    "collect",
    "content_of",
    "fetched",
    "file_of",
    "folder_of",
    "not_found",
    "object_name",
    "objects_of",
    "open_content",
    "parts_of",
    "pieces",
    "place_of",
    "release",
]

logger = logging.getLogger("dominus.orchestrator.services.files")

GRACE_SECONDS = 3600
"""So long a content that lost its file can still be read, by those who began before."""
_COLLECT_BATCH = 100
PIECE_BYTES = 1024 * 1024

COLUMNS = """id::text, filename, path, category, size, sha256, content_type, version, tags, description,
  is_compliance, owner_user_id, retained_until, created_at, updated_at"""

_OPEN = """
INSERT INTO dominus.file_contents (project, environment, owner, part_bytes, keep_until)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
RETURNING id::text
"""
_CLAIM = """
UPDATE dominus.file_contents
SET keep_until = NULL
WHERE project = $1 AND environment = $2 AND id = $3 AND keep_until > now() AND NOT is_doomed AND file_id IS NULL
RETURNING id
"""
# A retained file's trigger refuses the update.
_ATTACH = f"""
INSERT INTO dominus.files AS f (project, environment, category, path, filename, content_id, size, sha256,
  content_type, tags, is_compliance, owner_user_id, retained_until, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
  CASE WHEN $11 THEN now() + make_interval(days => $13) END, $14)
ON CONFLICT (project, environment, category, path) DO UPDATE
SET filename = EXCLUDED.filename, content_id = EXCLUDED.content_id, version = f.version + 1, size = EXCLUDED.size,
    sha256 = EXCLUDED.sha256, content_type = EXCLUDED.content_type, tags = EXCLUDED.tags, description = NULL,
    is_compliance = EXCLUDED.is_compliance, owner_user_id = EXCLUDED.owner_user_id,
    retained_until = EXCLUDED.retained_until, updated_at = now()
RETURNING {COLUMNS}
"""
_NAME_CONTENT = """
UPDATE dominus.file_contents
SET file_id = $4, version = $5
WHERE project = $1 AND environment = $2 AND id = $3
"""
_RELEASE = """
UPDATE dominus.file_contents
SET keep_until = now() + make_interval(secs => $5)
WHERE project = $1 AND environment = $2 AND file_id = ANY($3::uuid[]) AND keep_until IS NULL AND id <> $4
"""
_CONTENT = """
SELECT id::text, part_bytes
FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND file_id = $3 AND version = $4 AND NOT is_doomed
"""
_PARTS = """
SELECT number, size, sha256
FROM dominus.file_parts
WHERE project = $1 AND environment = $2 AND content_id = $3
ORDER BY number
"""
# Claimed first: from then on no upload can be finished with it.
_DOOM = """
UPDATE dominus.file_contents
SET is_doomed = true
WHERE (project, environment, id) IN (
  SELECT project, environment, id
  FROM dominus.file_contents
  WHERE keep_until < now()
  ORDER BY keep_until
  LIMIT $1
  FOR UPDATE SKIP LOCKED
)
RETURNING project, environment, id::text
"""
_FORGET = """
DELETE FROM dominus.file_contents
WHERE project = $1 AND environment = $2 AND id = $3 AND is_doomed
"""
_NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it lies in the store."""

    number: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one version of a file."""

    id: str
    part_bytes: int
    parts: list[Part]

    @property
    def size(self) -> int:
        """Return the bytes of all parts."""
        return sum(part.size for part in self.parts)


def place_of(ctx: Context) -> tuple[str, str]:
    """Return project and environment of the caller."""
    return ctx.principal.project, ctx.principal.environment


def objects_of(resources: Resources) -> Objects:
    """Return the object store.

    Raises:
        ServiceError: this server has none.
    """
    if resources.objects is None:
        raise ServiceError(
            "this server keeps no files",
            code="files_not_configured",
            status_code=503,
            retryable=False,
            hint="set DOMINUS_FILES_URL where it runs, for example s3://bucket/prefix?region=eu-north-1",
        )
    return resources.objects


def object_name(content_id: str, part: Part) -> str:
    """Return where a part lies. Its digest is in the name: another try with other bytes does not touch it."""
    return f"{folder_of(content_id)}/{part.number:05}-{part.sha256[:32]}"


def folder_of(content_id: str) -> str:
    """Return where all parts of a content lie."""
    return f"{content_id[:2]}/{content_id}"


async def fetched(executor: Executor, query: str, *args: Any) -> list[Record]:
    """Read rows, PostgreSQL's errors typed."""
    try:
        return await executor.fetch(query, *args)
    except FAILURES as error:
        raise from_postgres(error) from error


async def open_content(ctx: Context, part_bytes: int) -> str:
    """Make a content that belongs to nothing yet, and return its id; its row comes before its object."""
    args = (*place_of(ctx), ctx.principal.subject, part_bytes, float(GRACE_SECONDS))
    return (await fetched(ctx.resources.postgres.system, _OPEN, *args))[0]["id"]


async def attach(
    ctx: Context, connection: Connection, content_id: str, facts: contract.FileFacts, size: int, sha256: str
) -> contract.File:
    """Make a content that of a file, new or not, inside the caller's transaction.

    Raises:
        NotFoundError: the content was given up.
        Exception: PostgreSQL's own, DF001 for a file that is retained.
    """
    place = place_of(ctx)
    if await connection.fetchval(_CLAIM, *place, content_id) is None:
        raise not_found(f"upload {content_id!r}", "upload_not_found")
    row = await connection.fetchrow(
        _ATTACH,
        *place,
        facts.category,
        facts.logical_path or facts.filename,
        facts.filename.rpartition("/")[2],
        content_id,
        size,
        sha256,
        facts.content_type or _detected(facts.filename),
        to_json(facts.tags or {}).decode(),
        facts.is_compliance,
        facts.owner_user_id if facts.is_compliance else None,
        facts.retention_days,
        ctx.principal.subject,
    )
    if row is None:
        raise ServiceError("the file was not stored", code="internal")
    await connection.execute(_NAME_CONTENT, *place, content_id, row["id"], row["version"])
    await release(connection, place, [row["id"]], but=content_id)
    return file_of(row)


async def release(
    connection: Connection, place: tuple[str, str], file_ids: list[str], *, but: str = _NOBODY
) -> None:
    """Give up the contents of files, but for one; they can be read for a while."""
    await connection.execute(_RELEASE, *place, file_ids, but, float(GRACE_SECONDS))


async def parts_of(executor: Executor, place: tuple[str, str], content_id: str) -> list[Part]:
    """Return the parts of a content in their order."""
    rows = await fetched(executor, _PARTS, *place, content_id)
    return [Part(row["number"], row["size"], row["sha256"]) for row in rows]


async def content_of(resources: Resources, place: tuple[str, str], file_id: str, version: int) -> Content:
    """Return the content of a version of a file.

    Raises:
        ConflictError: the file has another content by now, and this one is gone.
    """
    system = resources.postgres.system
    found = await fetched(system, _CONTENT, *place, file_id, version)
    if not found:
        raise ConflictError(
            "the content of the file was replaced",
            code="file_changed",
            details={"id": file_id, "version": version},
            hint="read it again from its beginning",
        )
    content_id: str = found[0]["id"]
    return Content(content_id, found[0]["part_bytes"], await parts_of(system, place, content_id))


async def pieces(
    objects: Objects, content: Content, start: int, end: int, *, piece_bytes: int = PIECE_BYTES
) -> AsyncIterator[bytes]:
    """Iterate over the bytes of a content from `start` up to `end`, in pieces of at most `piece_bytes`."""
    while start < end:
        number, within = divmod(start, content.part_bytes)
        part = content.parts[number]
        stop = min(part.size, within + piece_bytes, within + end - start)
        yield await objects.get(object_name(content.id, part), within, stop)
        start += stop - within


def file_of(row: Record) -> contract.File:
    """Return a row as the file that it is."""
    found = {
        name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in row.items()
    }
    found["tags"] = from_json(row["tags"])
    return cast("contract.File", {name: found[name] for name in contract.File.__annotations__})


def not_found(what: str, code: str = "file_not_found") -> NotFoundError:
    """Return the error for what is not there."""
    return NotFoundError(f"{what} does not exist", code=code)


def _detected(filename: str) -> str:
    """Tell a type by the name alone, the same on every machine: a browser is never asked to guess."""
    import mimetypes

    # With `filenames`, no file of the machine is read.
    guessed, encoding = mimetypes.MimeTypes(filenames=()).guess_type(filename.rpartition("/")[2])
    return "application/octet-stream" if guessed is None or encoding else guessed


async def collect(resources: Resources) -> int:
    """Delete contents that nobody needs any more, their objects first; return how many there were."""
    if resources.objects is None:
        return 0
    count = 0
    while True:
        doomed = await resources.postgres.system.fetch(_DOOM, _COLLECT_BATCH)
        for row in doomed:
            content_id: str = row["id"]
            await resources.objects.delete_under(folder_of(content_id))
            await resources.postgres.system.execute(_FORGET, row["project"], row["environment"], content_id)
        count += len(doomed)
        if len(doomed) < _COLLECT_BATCH:
            return count
