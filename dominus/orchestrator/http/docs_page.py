"""The page /docs (Swagger UI, from this package: nothing is loaded from elsewhere) and the document that it shows."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dominus.orchestrator.http import openapi

__all__ = ["routes"]

_JAVASCRIPT, _CSS = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
_FILES = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs/docs.js": ("docs.js", _JAVASCRIPT),
    "/docs/docs.css": ("docs.css", _CSS),
    "/docs/icon.svg": ("icon.svg", "image/svg+xml"),
    "/docs/swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", _JAVASCRIPT),
    "/docs/swagger-ui.css": ("swagger-ui/swagger-ui.css", _CSS),
}
_DOCUMENT = "/openapi.json"
# Swagger UI draws its icons from data: URLs; everything else is our own.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked again each time, answered by 304: a new version of the server shows its own page.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def _asset(path: str) -> _Asset:
    if path == _DOCUMENT:
        content, media_type = to_json(openapi.document()), "application/json"
    else:
        name, media_type = _FILES[path]
        content = resources.files("dominus.orchestrator.http").joinpath("static", name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return _Asset(content, gzip.compress(content, mtime=0), media_type, f'W/"{digest}"')


def routes() -> list[Route]:
    """Return the routes of the page, its files and the document."""
    return [Route(path, _serve) for path in (*_FILES, _DOCUMENT)]


async def _serve(request: Request) -> Response:
    # Reading, compressing and building the document take tens of milliseconds, once in a process.
    asset = await asyncio.to_thread(_asset, request.url.path)
    headers = {**_HEADERS, "ETag": asset.etag}
    if _is_known(request.headers.get("if-none-match", ""), asset.etag):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, headers=headers, media_type=asset.media_type)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


def _is_known(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in (given.strip() for given in header.split(","))
