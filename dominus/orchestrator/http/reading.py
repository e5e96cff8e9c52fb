"""From an authenticated exchange to the validated request and the context that a handler is given."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from typing import Any

from dominus.contract.kinds import Retry
from dominus.contract.operation import Operation
from dominus.contract.request import Request
from dominus.errors import ValidationError
from dominus.orchestrator.handlers.context import Context, Idempotency
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http.body import document_of, fields_of
from dominus.orchestrator.http.exchange import Exchange, deadline_of, query_of
from dominus.orchestrator.http.json_bounds import check_json
from dominus.orchestrator.http.routing import Match

__all__ = ["read_request"]


async def read_request(resources: Resources, exchange: Exchange, match: Match) -> tuple[Request, Context]:
    """Read the body, find the operation it means, and validate the request.

    Raises:
        ValidationError: the request is wrong.
        DominusError: its body is too large, or does not come.
    """
    context = Context(exchange.principal, resources, exchange.request_id)
    context.ends_at = asyncio.get_running_loop().time() + deadline_of(exchange)
    context.called_host = exchange.header(b"host") or ""
    context.called_scheme = exchange.scope.get("scheme", "http")
    fields: dict[str, Any]
    raw = b""
    if exchange.scope["method"] == "GET":
        fields = query_of(exchange.scope)
    elif exchange.is_stream:
        fields = await _open_stream(exchange, match, context)
    elif exchange.is_bytes and match.operations[0].raw_field:
        # The handler reads it, when it has room for it; its repeats are recognized without their bytes.
        fields = {}
        context.stream = exchange.body.rest(b"")
    else:
        raw = document_of(await exchange.body.whole(), exchange.dialect)
        await check_json(raw)
        # The published client sends no body to what needs none.
        fields = fields_of(raw) if raw or not match.operations[0].is_plain else {}
    operation = exchange.operation = match.select(fields)
    if clash := match.path_values.keys() & fields.keys():
        raise ValidationError(f"{', '.join(sorted(clash))}: named in the path already")
    key = exchange.header(b"idempotency-key")
    if key is not None and operation.retry is Retry.KEYED:
        if not 0 < len(key) <= 255 or not key.isprintable() or not key.isascii():
            raise ValidationError("Idempotency-Key: 1 to 255 printable characters")
        if context.stream is None:
            fingerprint = resources.vault.fingerprint(*_identity(exchange, operation), raw)
            context.idempotency = Idempotency(key, fingerprint, deadline_of(exchange))
    return operation.request(**fields, **match.path_values), context


async def _open_stream(exchange: Exchange, match: Match, context: Context) -> dict[str, Any]:
    operation = match.operations[0]
    if not operation.is_streamed:
        raise ValidationError(f"{operation.name} takes no stream", code="bad_stream")
    line, rest = await exchange.body.header_line()
    digest = context.resources.vault.fingerprinter(*_identity(exchange, operation), line)
    key = exchange.header(b"idempotency-key")
    context.stream = _tee(exchange.body.rest(rest), digest)
    context.seal = lambda: Idempotency(key, digest.hexdigest()) if key else None
    return fields_of(line)


def _identity(exchange: Exchange, operation: Operation[Any, Any]) -> tuple[bytes, ...]:
    """Return what makes a write this write, besides its body."""
    caller = exchange.principal
    return tuple(
        part.encode() for part in (operation.name, exchange.path, caller.project, caller.environment)
    )


async def _tee(chunks: AsyncIterator[bytes], digest: hmac.HMAC) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
