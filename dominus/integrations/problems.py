"""Errors as answers of a web service: problem+json (RFC 9457), and nothing in it that callers must not know."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from dominus.contract.auth import MINT
from dominus.errors import AuthenticationError, AuthorizationError, DominusConnectionError, DominusError

__all__ = [
    "MEDIA_TYPE",
    "REQUEST_ID",
    "RefusedError",
    "answer",
    "answer_refused",
    "is_own_fault",
    "log_failure",
    "problem_of",
    "status_of",
]

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "dominus.request_id"
"""Where the ASGI scope holds the id of the request."""
_SETTINGS = frozenset({"settings", "url_malformed", "url_missing"})
_SAID = {
    503: "The service cannot answer now; try again later.",
    504: "The service did not answer in time; try again later.",
}
_log = logging.getLogger("dominus.fastapi")


class RefusedError(HTTPException):
    """A guard refuses a request. Applications without `install` answer it as any HTTPException."""

    def __init__(self, error: DominusError, status: int | None = None) -> None:
        """Keep the error; `status` is what the caller is told, that of the error without it."""
        self.error = error
        status = status or status_of(error)
        super().__init__(status, _detail(error, status), headers=_headers(error, status))


def status_of(error: DominusError) -> int:
    """Return the status that a caller of the web service gets for an error."""
    if is_own_fault(error):
        return 500
    if error.status_code is None:
        return 503 if isinstance(error, DominusConnectionError) else 500
    return error.status_code if 400 <= error.status_code <= 599 else 500


def is_own_fault(error: DominusError) -> bool:
    """Return whether the web service itself is set up wrong: its key or its settings, not what its caller sent."""
    if isinstance(error, AuthenticationError | AuthorizationError) and error.endpoint == MINT.name:
        return True
    return error.code in _SETTINGS or error.message.startswith("DOMINUS_TOKEN")


def problem_of(
    error: DominusError, status: int, instance: str | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """Return the body that tells a caller of an error. Of what is not the caller's fault it tells no more than that."""
    code = "internal" if is_own_fault(error) else error.code
    said: dict[str, Any] = {
        "type": f"urn:dominus:error:{code}",
        "title": _phrase(status),
        "status": status,
        "detail": _detail(error, status),
        "instance": instance,
        "code": code,
        "hint": error.hint if status < 500 else None,
        "request_id": request_id or error.request_id,
    }
    return {name: value for name, value in said.items() if value is not None}


async def answer(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """Answer for a DominusError that no route caught: the exception handler of `install`."""
    assert isinstance(error, DominusError)  # noqa: S101 - it is registered for nothing else
    status = status_of(error)
    log_failure(connection, error, status)
    return await _answered(connection, error, status)


async def answer_refused(connection: HTTPConnection, refused: Exception) -> JSONResponse | None:
    """Answer for a request that a guard refused: the exception handler of `install`."""
    assert isinstance(refused, RefusedError)  # noqa: S101 - it is registered for nothing else
    return await _answered(connection, refused.error, refused.status_code)


def log_failure(connection: HTTPConnection, error: DominusError, status: int) -> None:
    """Log what the caller is not told."""
    if status >= 500:
        _log.error("request %s failed: %s", _request_id(connection) or "-", error, exc_info=error)


async def _answered(connection: HTTPConnection, error: DominusError, status: int) -> JSONResponse | None:
    if isinstance(connection, WebSocket):
        # 1008: policy violation; 1013: try again later (RFC 6455 and its registry). Before it is accepted it is a 403.
        await connection.close(1008 if status < 500 else 1013, _detail(error, status)[:100])
        return None
    # Without the query: secrets may stand there.
    instance = connection.url.path if isinstance(connection, Request) else None
    body = problem_of(error, status, instance, _request_id(connection))
    return JSONResponse(body, status, headers=_headers(error, status), media_type=MEDIA_TYPE)


def _request_id(connection: HTTPConnection) -> str | None:
    return connection.scope.get(REQUEST_ID)


def _detail(error: DominusError, status: int) -> str:
    if status < 500:
        return error.message
    return _SAID.get(status, "The service failed; its log has more under the id of this request.")


def _headers(error: DominusError, status: int) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = (
            "Bearer" if error.code == "token_missing" else 'Bearer error="invalid_token"'
        )
    elif status == 403:
        headers["WWW-Authenticate"] = 'Bearer error="insufficient_scope"'
    if status in (429, 503) and error.retryable:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
    return headers or None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
