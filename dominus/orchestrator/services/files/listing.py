"""Lists: files by path, folders, categories and views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dominus.contract import files as contract
from dominus.errors import AuthorizationError
from dominus.orchestrator.handlers.context import Context
from dominus.orchestrator.services.files.contents import COLUMNS, fetched, file_of, not_found, place_of
from dominus.orchestrator.services.files.reading import cursor_of, position

__all__ = ["amounts", "browsed", "categories_in", "listed", "views"]

ADMIN = "files:admin"


@dataclass(frozen=True, slots=True)
class _View:
    description: str
    condition: str
    """SQL over the columns of `dominus.files`; constants only."""
    is_reserved: bool = False


VIEWS: Mapping[str, _View] = {
    "all": _View("Every file.", "true"),
    "documents": _View(
        "Texts, PDF and office documents.",
        r"content_type ~ '^(text/|application/(pdf|rtf|msword|json|xml|epub|vnd\.(ms-|oasis|openxmlformats)))'",
    ),
    "images": _View("Pictures.", "content_type LIKE 'image/%'"),
    "media": _View("Sound and film.", "content_type ~ '^(audio|video)/'"),
    "tagged": _View("Files that have tags.", "tags <> '{}'"),
    "compliance": _View("Files that are kept for compliance.", "is_compliance", is_reserved=True),
    "retained": _View("Files that cannot be deleted yet.", "retained_until > now()", is_reserved=True),
}

# `^@` is "starts with": a prefix has no wildcards.
_LIST = f"""
SELECT {COLUMNS}
FROM dominus.files
WHERE project = $1 AND environment = $2 AND path ^@ $3 AND ($4::text IS NULL OR category = $4)
  AND ($5::text IS NULL OR (category, path) > ($5, $6))
ORDER BY category, path
LIMIT $7
"""
_AMOUNTS = """
SELECT category AS name, count(*) AS object_count, sum(size)::bigint AS total_size_bytes
FROM dominus.files
WHERE project = $1 AND environment = $2 AND {condition}
GROUP BY category
ORDER BY category
"""
# The names directly below a folder: those with more path behind them are folders. `$4` is how long its own path is.
_BROWSE = """
WITH under AS (
  SELECT id, category, substr(path, $4 + 1) AS rest
  FROM dominus.files
  WHERE project = $1 AND environment = $2 AND path ^@ $3 AND ($5::text IS NULL OR category = $5) AND {condition}
), entries AS (
  SELECT 0 AS kind, split_part(rest, '/', 1) COLLATE "C" AS name, '' COLLATE "C" AS category, NULL::uuid AS id
  FROM under
  WHERE strpos(rest, '/') > 0
  UNION
  SELECT 0, split_part(substr(path, $4 + 1), '/', 1) COLLATE "C", '' COLLATE "C", NULL
  FROM dominus.file_folders
  WHERE project = $1 AND environment = $2 AND path ^@ $3 AND ($5::text IS NULL OR category = $5) AND $10
  UNION ALL
  SELECT 1, rest COLLATE "C", category, id
  FROM under
  WHERE strpos(rest, '/') = 0
), page AS (
  SELECT kind, name, category AS in_category, id AS file_id
  FROM entries
  WHERE $6::int IS NULL OR (kind, name, category) > ($6, $7, $8)
  ORDER BY kind, name, category
  LIMIT $9
)
SELECT p.kind, p.name, p.in_category, f.*
FROM page p
LEFT JOIN (
  SELECT {columns}, id AS file_id FROM dominus.files WHERE project = $1 AND environment = $2
) f USING (file_id)
ORDER BY p.kind, p.name, p.in_category
"""


async def listed(ctx: Context, request: contract.ListRequest) -> contract.FilePage:
    """Return a page of files; one row more tells whether another page follows."""
    after = position(request.cursor, (str, str)) or [None, None]
    args = (request.prefix or "", request.category, *after, request.limit + 1)
    rows = await fetched(ctx.resources.postgres.system, _LIST, *place_of(ctx), *args)
    objects = [file_of(row) for row in rows[: request.limit]]
    is_more = len(rows) > request.limit
    cursor = cursor_of(objects[-1]["category"], objects[-1]["path"]) if is_more else None
    return {"objects": objects, "cursor": cursor, "count": len(objects)}


async def browsed(ctx: Context, request: contract.BrowseRequest) -> contract.FolderPage:
    """Return a page of what lies in a folder."""
    condition = "true" if request.view is None else _view(ctx, request.view).condition
    prefix = f"{request.path}/" if request.path else ""
    after = position(request.cursor, (int, str, str)) or [None, None, None]
    rows = await fetched(
        ctx.resources.postgres.system,
        _BROWSE.format(condition=condition, columns=COLUMNS),
        *place_of(ctx),
        prefix,
        len(prefix),
        request.category,
        *after,
        request.limit + 1,
        request.view is None,
    )
    shown = rows[: request.limit]
    folders: list[contract.Folder] = [
        {"name": row["name"], "path": f"{prefix}{row['name']}"} for row in shown if row["kind"] == 0
    ]
    last = shown[-1] if len(rows) > request.limit else None
    return {
        "path": f"/{request.path}",
        "folders": folders,
        "files": [file_of(row) for row in shown if row["kind"] == 1],
        "cursor": None if last is None else cursor_of(last["kind"], last["name"], last["in_category"]),
    }


async def amounts(ctx: Context, condition: str = "true") -> list[contract.CategoryAmount]:
    """Count files and bytes of each category."""
    query = _AMOUNTS.format(condition=condition)
    rows = await fetched(ctx.resources.postgres.system, query, *place_of(ctx))
    return [
        {
            "name": row["name"],
            "object_count": row["object_count"],
            "total_size_bytes": row["total_size_bytes"],
        }
        for row in rows
    ]


async def categories_in(ctx: Context, name: str) -> list[contract.CategoryAmount]:
    """Count those of a view."""
    return await amounts(ctx, _view(ctx, name).condition)


def views(ctx: Context, *, include_reserved: bool) -> contract.Views:
    """Return the views that the caller may use."""
    is_admin = ctx.principal.may(ADMIN)
    shown: list[contract.View] = [
        {"name": name, "description": view.description, "is_reserved": view.is_reserved}
        for name, view in VIEWS.items()
        if not view.is_reserved or (include_reserved and is_admin)
    ]
    return {"views": shown, "total_views": len(shown), "is_admin": is_admin}


def _view(ctx: Context, name: str) -> _View:
    view = VIEWS.get(name)
    if view is None:
        raise not_found(f"the view {name!r}", "view_not_found")
    if view.is_reserved and not ctx.principal.may(ADMIN):
        details: dict[str, Any] = {"scope": ADMIN}
        raise AuthorizationError(f"the view {name!r} needs the scope {ADMIN}", details=details)
    return view
