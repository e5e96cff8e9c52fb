"""Download links: a plain GET without a token, with ranges, of what a signed link names."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from dominus.contract.envelope import failure
from dominus.errors import DominusError, ServiceError
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.services.files.reading import LINK_PATH, Linked, opened_link

__all__ = ["route"]

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


def route(resources: Callable[[], Resources]) -> Route:
    """Return the route of download links."""

    async def download(request: HttpRequest) -> Response:
        try:
            return await _answer(request, await opened_link(resources(), request.path_params["ticket"]))
        except DominusError as error:
            return _refused(error)

    return Route(LINK_PATH + "{ticket}/{name}", download, methods=["GET", "HEAD"])


def _refused(error: DominusError) -> Response:
    body = failure(error.message, error.code, error.details, "", error.hint)
    status = error.status_code or 500
    return Response(body, status, {"cache-control": "no-store"}, media_type="application/json")


async def _answer(request: HttpRequest, found: Linked) -> Response:
    file = found.file
    tag, size = f'"{file["sha256"]}"', file["size"]
    headers = {
        "etag": tag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file['filename'], safe='')}",
        # What was uploaded may be a page with scripts, and must not run as this server's.
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    start, end, status = 0, size, 200
    asked = _range(request.headers.get("range", ""), size)
    if asked is not None and request.headers.get("if-range", tag) == tag:
        start, end, status = *asked, 206
        if start >= end:
            return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    headers["content-type"] = file["content_type"]
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    pieces = found.bytes(start, end)
    # A store that does not answer is told by a status: no head is sent before the first bytes are here.
    first = await anext(pieces, b"")
    return StreamingResponse(_bytes(first, pieces), status, headers)


async def _bytes(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for piece in pieces:
            yield piece
    except ServiceError as error:
        # The head is sent: only a connection that breaks tells that this is not the whole file.
        raise ConnectionAbortedError(error.message) from error


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Return the one range that is asked for, empty if it lies outside; None where all is to be sent."""
    found = _RANGE.fullmatch(text.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) else (size, size)
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
