"""What a caller gets back: data or a failure, in its dialect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from dominus.contract import envelope
from dominus.contract.envelope import Dialect
from dominus.contract.operation import Operation
from dominus.errors import DominusConnectionError, DominusError, ServiceError, ValidationError
from dominus.orchestrator.handlers.context import RawBytes, RawJson, RawLines
from dominus.orchestrator.http.exchange import Exchange, Send

__all__ = ["answer_of", "ends_with_client", "failure_of", "gathered", "send_answer", "send_lines"]

_log = logging.getLogger("dominus.orchestrator")

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


async def gathered(lines: RawLines, limit: int) -> RawJson:
    """Return all rows in one answer, for who does not read lines; more than `limit` bytes are an error."""
    rows: list[bytes] = []
    size = 0
    async with contextlib.aclosing(lines.parts):
        async for part in lines.parts:
            rows.append(part[1:-1])
            size += len(part)
            if size > limit:
                raise ValidationError(
                    f"the rows are more than {limit >> 20} MiB",
                    code="answer_too_large",
                    hint=f"accept {envelope.JSON_LINES}, which has no limit",
                )
    return RawJson.of(b'{"items":[%b]}' % b",".join(rows), lines.types)


async def send_lines(send: Send, exchange: Exchange, lines: RawLines) -> int:
    """Send rows as they come, until the end or until nobody reads; return the bytes.

    The first line has the types of the columns, and the last one says that it is the end, or why there is no more.

    Raises:
        DominusConnectionError: the client went away.
    """
    headers = [
        (b"content-type", envelope.JSON_LINES.encode()),
        (b"dominus-wire", b"json"),
        (b"x-request-id", exchange.request_id.encode()),
        (b"cache-control", b"no-store"),
    ]
    size = 0
    async with contextlib.aclosing(lines.parts), ends_with_client(exchange):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for line in _lines(exchange, lines):
            size += len(line)
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    return size


async def _lines(exchange: Exchange, lines: RawLines) -> AsyncGenerator[bytes]:
    yield b'{"types":%b}\n' % lines.types
    try:
        async for part in lines.parts:
            yield part + b"\n"
    except Exception as error:  # noqa: BLE001 - the status is sent: what went wrong becomes the last line
        failure = error if isinstance(error, DominusError) else None
        if failure is None:
            _log.error("request %s failed in its stream", exchange.request_id, exc_info=error)
            failure = ServiceError("the server failed; its log has the request id", code="internal")
        said = envelope.failure(
            failure.message, failure.code, failure.details, exchange.request_id, failure.hint
        )
        yield b'{"status":%d,"failure":%b}\n' % (failure.status_code or 500, said)
        return
    yield b'{"end":true}\n'


@contextlib.asynccontextmanager
async def ends_with_client(exchange: Exchange) -> AsyncGenerator[None]:
    """End a block when the client goes away: nobody says so to who only works, or sends.

    Raises:
        DominusConnectionError: it did.
    """
    scope = asyncio.timeout(None)
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        await exchange.body.until_gone()
        scope.reschedule(loop.time())

    watcher = asyncio.create_task(watch())
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise DominusConnectionError("the client went away before the end of its answer") from error
    finally:
        watcher.cancel()


def _to_json(data: Any) -> bytes:
    try:
        return to_json(data)
    except PydanticSerializationError as error:
        raise ServiceError("the answer is not JSON", code="internal") from error
