"""What a caller gets back: data or a failure, in its dialect."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from dominus.contract import envelope
from dominus.contract.envelope import Dialect
from dominus.contract.operation import Operation
from dominus.errors import DominusError, ServiceError
from dominus.orchestrator.handlers.context import RawBytes, RawJson
from dominus.orchestrator.http.exchange import Exchange, Send

__all__ = ["answer_of", "failure_of", "send_answer"]

Headers = list[tuple[bytes, bytes]]


def answer_of(exchange: Exchange, operation: Operation[Any, Any], data: Any) -> bytes:
    """Return the body of an answer with the data of a handler."""
    if isinstance(data, RawBytes):
        if exchange.header(b"accept") == envelope.BYTES:
            exchange.is_raw = True
            return data
        data = RawJson.of(b'{"data":"%b"}' % b64encode(data))
    types = data.types if isinstance(data, RawJson) else None
    document = data if isinstance(data, RawJson) else _to_json(data)
    if operation.is_plain:
        exchange.dialect = Dialect.JSON
        return document
    return envelope.encode(envelope.success(document, types), exchange.dialect)


def failure_of(exchange: Exchange, error: DominusError) -> tuple[int, bytes, Headers]:
    """Return status, body and headers of a failure."""
    status = error.status_code or 500
    body = envelope.failure(error.message, error.code, error.details, exchange.request_id, error.hint)
    if exchange.operation is not None and exchange.operation.is_plain:
        exchange.dialect = Dialect.JSON
    headers: Headers = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 405:
        headers.append((b"allow", ", ".join(error.details["allow"]).encode()))
    return status, envelope.encode(body, exchange.dialect), headers


async def send_answer(send: Send, status: int, body: bytes, exchange: Exchange, extra: Headers) -> None:
    """Send a whole answer."""
    kind = b"application/json" if exchange.dialect is Dialect.JSON else b"text/plain; charset=us-ascii"
    if exchange.is_raw:
        kind = envelope.BYTES.encode()
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"dominus-wire", b"json"),
        (b"x-request-id", exchange.request_id.encode()),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _to_json(data: Any) -> bytes:
    try:
        return to_json(data)
    except PydanticSerializationError as error:
        raise ServiceError("the answer is not JSON", code="internal") from error
