"""Finding files and reading their bytes."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from pydantic_core import from_json, to_json

from dominus.contract import files as contract
from dominus.errors import AuthorizationError, ValidationError
from dominus.orchestrator.handlers.context import Context, RawBytes
from dominus.orchestrator.services.files.contents import (
    COLUMNS,
    Content,
    content_of,
    fetched,
    file_of,
    not_found,
    objects_of,
    pieces,
    place_of,
)

if TYPE_CHECKING:
    from dominus.orchestrator.engines.postgres.typing import Executor, Record
    from dominus.orchestrator.handlers.resources import Resources

__all__ = [
    "LINK_PATH",
    "Linked",
    "check_actor",
    "cursor_of",
    "find",
    "linked",
    "located",
    "opened_link",
    "position",
    "read_range",
    "whole",
]

_access = logging.getLogger("dominus.access.files")
LINK_PATH = "/files/"
_BY_ID = f"SELECT {COLUMNS} FROM dominus.files WHERE project = $1 AND environment = $2 AND id = $3"
_BY_PATH = (
    f"SELECT {COLUMNS} FROM dominus.files"
    " WHERE project = $1 AND environment = $2 AND category = $3 AND path = $4"
)


async def find(ctx: Context, request: contract.FileRef, executor: Executor) -> Record | None:
    """Return a file's row."""
    place = place_of(ctx)
    if request.id is not None:
        rows = await fetched(executor, _BY_ID, *place, request.id)
        wanted = (request.category, request.logical_path)
        if rows and any(
            asked not in {None, rows[0][name]}
            for name, asked in zip(("category", "path"), wanted, strict=True)
        ):
            return None
    else:
        rows = await fetched(executor, _BY_PATH, *place, request.category or "general", request.logical_path)
    return rows[0] if rows else None


async def located(ctx: Context, request: contract.FileRef) -> Record:
    """Return a file's row.

    Raises:
        NotFoundError: there is no such file.
    """
    row = await find(ctx, request, ctx.resources.postgres.system)
    if row is None:
        name = request.id or f"{request.category or 'general'}:{request.logical_path}"
        raise not_found(f"the file {name!r}")
    return row


def check_actor(ctx: Context, request: contract.AsActor, row: Record) -> None:
    """Refuse compliance files to those who do not say for whom, and write down who it was.

    Raises:
        ValidationError: nobody is named.
    """
    if not row["is_compliance"]:
        return
    if request.actor_user_id is None:
        raise ValidationError(
            "a compliance file is read for somebody: actor= names whom", code="actor_required"
        )
    said = {
        "file": row["id"],
        "actor": request.actor_user_id,
        "principal": ctx.principal.subject,
        "request_id": ctx.request_id,
    }
    _access.info("%s", to_json(said).decode())


async def whole(ctx: Context, request: contract.AsActor) -> contract.FetchedFile:
    """Return a small file in one answer."""
    row = await located(ctx, request)
    check_actor(ctx, request, row)
    limit = ctx.resources.settings.max_body_bytes
    if row["size"] > limit:
        raise ValidationError(
            f"the file has {row['size']} bytes, one answer at most {limit}",
            code="file_too_large",
            hint="files.stream, files.open or the link of files.download give any size",
        )
    async with ctx.resources.files_share.of(ctx.principal.subject):
        content = await content_of(ctx.resources, place_of(ctx), row["id"], row["version"])
        data = await _joined(ctx.resources, content, 0, content.size)
    return {
        "data": base64.b64encode(data).decode(),
        "filename": row["filename"],
        "content_type": row["content_type"],
        "size": row["size"],
        "sha256": row["sha256"],
    }


async def read_range(ctx: Context, request: contract.ReadRequest) -> RawBytes:
    """Return a range; it ends where the file does."""
    row = await located(ctx, request)
    check_actor(ctx, request, row)
    async with ctx.resources.files_share.of(ctx.principal.subject):
        content = await content_of(ctx.resources, place_of(ctx), row["id"], request.version or row["version"])
        end = min(content.size, request.offset + request.length)
        return RawBytes(await _joined(ctx.resources, content, request.offset, end))


async def _joined(resources: Resources, content: Content, start: int, end: int) -> bytes:
    found = [
        piece
        async for piece in pieces(objects_of(resources), content, start, end, piece_bytes=contract.PART_BYTES)
    ]
    return found[0] if len(found) == 1 else b"".join(found)


async def linked(ctx: Context, row: Record, seconds: int) -> contract.FileLink:
    """Return a file with a link that opens it, and nothing else, until it expires."""
    expires = int(time.time()) + seconds
    # Who opens it is written down with the request that named the actor; the link itself tells nobody's name.
    made_by = ctx.request_id if row["is_compliance"] else None
    payload = to_json([*place_of(ctx), row["id"], expires, made_by])
    ticket = f"{_text(payload)}.{_seal(ctx.resources, payload)}"
    base = await _link_base(ctx)
    url = f"{base.rstrip('/')}{LINK_PATH}{ticket}/{quote(row['filename'], safe='')}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(expires))
    return {**file_of(row), "download_url": url, "expires_at": stamp}


async def _link_base(ctx: Context) -> str:
    resources = ctx.resources
    if resources.settings.files_link_url is not None:
        return resources.settings.files_link_url
    if resources.link_base is not None:
        return await resources.link_base()
    return f"{ctx.called_scheme}://{ctx.called_host}"


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link opens."""

    file: contract.File
    content: Content
    resources: Resources

    def bytes(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Iterate over a range."""
        return pieces(objects_of(self.resources), self.content, start, end)


async def opened_link(resources: Resources, ticket: str) -> Linked:
    """Return what a link opens.

    Raises:
        AuthorizationError: it is not one of ours, has expired, or names nobody for whom a compliance file is read.
        NotFoundError: the file is gone.
    """
    project, environment, file_id, made_by = _checked(resources, ticket)
    place = (project, environment)
    rows = await fetched(resources.postgres.system, _BY_ID, *place, file_id)
    if not rows:
        raise not_found("the file")
    if rows[0]["is_compliance"]:
        if made_by is None:
            # The file took the place of another, for which nobody had to be named.
            raise AuthorizationError(
                "this link was made before the file became one for compliance",
                code="link_invalid",
                hint="ask for a new one, with actor=",
            )
        _access.info("%s", to_json({"file": rows[0]["id"], "link_of_request_id": made_by}).decode())
    objects_of(resources)
    content = await content_of(resources, place, file_id, rows[0]["version"])
    return Linked(file_of(rows[0]), content, resources)


def _checked(resources: Resources, ticket: str) -> tuple[str, str, str, str | None]:
    encoded, _, seal = ticket.partition(".")
    try:
        payload = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        payload = b""
    if not hmac.compare_digest(_seal(resources, payload).encode(), seal.encode("utf-8", "replace")):
        raise AuthorizationError("this link is not valid", code="link_invalid")
    project, environment, file_id, expires, made_by = from_json(payload)
    if expires <= time.time():
        raise AuthorizationError("this link has expired", code="link_expired", hint="ask for a new one")
    return project, environment, file_id, made_by


def _seal(resources: Resources, payload: bytes) -> str:
    return resources.vault.fingerprint(b"file-link", payload)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def cursor_of(*texts: Any) -> str:
    """Write a cursor."""
    return _text(to_json(texts))


def position(cursor: str | None, kinds: tuple[type, ...]) -> list[Any] | None:
    """Read a cursor.

    Raises:
        ValidationError: it is none of this walk.
    """
    if cursor is None:
        return None
    try:
        said: Any = from_json(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError):
        said = None
    values = cast("list[Any]", said) if isinstance(said, list) else []
    if tuple(map(type, values)) != kinds or not all(map(_is_storable, values)):
        raise ValidationError("the cursor is not one that a page gave", code="invalid_cursor")
    return values


def _is_storable(value: object) -> bool:
    return "\0" not in value if isinstance(value, str) else isinstance(value, int) and 0 <= value < 2**31
