"""How a request is written: its path, its JSON, its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pydantic_core import PydanticSerializationError, from_json

from dominus.contract.operation import Operation
from dominus.contract.request import Request
from dominus.errors import ValidationError

__all__ = ["Lines", "body_of", "path_of", "raw_of", "stream_of"]


@dataclass(slots=True)
class Lines:
    """The rows of a streamed request, as chunks of JSON lines; `open` starts from the first row."""

    open: Callable[[], AsyncIterator[bytes]]
    is_replayable: bool
    rows: Callable[[], list[dict[str, Any]]]
    """All rows at once, for a server that knows no streams."""
    error: Exception | None = None
    """What reading them raised; the wire would report it as a broken connection."""


async def stream_of(header: bytes, lines: Lines) -> AsyncIterator[bytes]:
    """Iterate over a streamed body: the header line, then the rows."""
    yield header + b"\n"
    try:
        async for chunk in lines.open():
            yield chunk
    except Exception as error:
        lines.error = error
        raise


def raw_of(op: Operation[Any, Any], request: Request) -> bytes:
    """Return the bytes that are the whole body of a request."""
    return getattr(request, op.raw_field or "") or b""


def body_of(op: Operation[Any, Any], request: Request) -> bytes:
    """Return the JSON of a request, without what its path says."""
    try:
        body = request.__pydantic_serializer__.to_json(
            request, exclude=set(op.path_fields.values()), by_alias=True
        )
    except (PydanticSerializationError, RecursionError, ValueError) as error:
        raise ValidationError(f"{op.name}: not JSON: {error}", endpoint=op.name) from None
    _refuse_nan(body, op.name)
    return body


def path_of(op: Operation[Any, Any], request: Request) -> str:
    """Return the path, every segment and value quoted, with the query of a GET."""
    if not op.path_fields and op.method != "GET":
        return op.path
    segments = {
        name: _segment(name, getattr(request, attribute)) for name, attribute in op.path_fields.items()
    }
    path = op.path.format(**segments)
    if op.method != "GET":
        return path
    fields = request.model_dump(
        mode="json", by_alias=True, exclude=set(op.path_fields.values()), exclude_none=True
    )
    query = urlencode({name: _query_value(value) for name, value in fields.items()})
    return f"{path}?{query}" if query else path


def _segment(name: str, value: object) -> str:
    text = str(value)
    if text in {".", ".."}:
        raise ValidationError(f"{name}: {text!r} is not a name")
    return quote(text, safe="")


def _query_value(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _refuse_nan(body: bytes, endpoint: str) -> None:
    """Refuse NaN and infinities that reached the encoder, such as in a pydantic model's own floats."""
    if b"NaN" not in body and b"Infinity" not in body:
        return
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError:
        raise ValidationError("NaN and infinities are no JSON numbers", endpoint=endpoint) from None
