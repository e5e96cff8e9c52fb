"""How a request and an answer look on the wire, in both dialects, for both sides.

`json`   plain JSON, `application/json`.
`base64` the same JSON, base64 in `text/plain`: what the published client speaks.

A long answer of `application/x-ndjson` begins with the line `{"types": ...}`, has lists of rows then, a line each, and
ends with `{"end": true}` or with `{"status": number, "failure": ...}`; one that does neither broke off.

An answer is `{"success": true, "data": ...}`, a failure
`{"success": false, "error": text, "code": word, "details": ..., "request_id": id}`.
"""

from __future__ import annotations

import base64
import binascii
import enum
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["BYTES", "JSON_LINES", "Dialect", "decode", "encode", "failure", "success"]

JSON_LINES = "application/x-ndjson"
"""The content type of a streamed body: a header line, then one JSON value a line."""
BYTES = "application/octet-stream"
"""The content type of a body or an answer that is bytes alone."""
WIRE_HEADER = "Dominus-Wire"
"""A server that speaks plain JSON, and keeps idempotency keys, answers with `Dominus-Wire: json`."""
KEY_HEADER = "Idempotency-Key"
DEADLINE_HEADER = "Dominus-Deadline-Ms"
MAX_DEADLINE_SECONDS = 86_400.0
"""What a server is told of a deadline without end, and what it believes at most."""
PROJECT_HEADER = "Dominus-Project"
ENVIRONMENT_HEADER = "Dominus-Environment"
REQUEST_ID_HEADER = "X-Request-Id"


class Dialect(enum.Enum):
    """The two ways in which a body is written."""

    JSON = "application/json"
    BASE64 = "text/plain"


def encode(body: bytes, dialect: Dialect) -> bytes:
    """Write a JSON document in a dialect."""
    return body if dialect is Dialect.JSON else base64.b64encode(body)


def decode(body: bytes, dialect: Dialect) -> Any:
    """Read a body. Raises ValueError when it is not what the dialect says; an empty body is `{}`."""
    if dialect is Dialect.BASE64:
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
    return from_json(body, allow_inf_nan=False) if body else {}


def success(data: bytes, types: bytes | None = None) -> bytes:
    """Wrap the JSON of an answer's data; `types` names the column types that JSON cannot say."""
    if types:
        return b'{"success":true,"data":%b,"types":%b}' % (data, types)
    return b'{"success":true,"data":%b}' % data


def failure(message: str, code: str, details: Any, request_id: str, hint: str | None = None) -> bytes:
    """Write the body of a failed request."""
    return to_json(
        {
            "success": False,
            "error": message,
            "code": code,
            "details": details,
            "hint": hint,
            "request_id": request_id,
        },
        fallback=str,
    )
