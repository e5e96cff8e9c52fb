"""How one request travels through the orchestrator, top to bottom.

route -> authenticate -> rate limit -> body -> operation -> scope -> handler under the deadline -> answer
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from dominus.contract import envelope
from dominus.contract.envelope import Dialect
from dominus.contract.kinds import Auth, Retry
from dominus.contract.operation import Operation
from dominus.contract.request import Request
from dominus.errors import (
    AuthenticationError,
    AuthorizationError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    RateLimitError,
    ServiceError,
    ValidationError,
)
from dominus.orchestrator.handlers.context import Context, Idempotency, RawJson
from dominus.orchestrator.handlers.registry import Handler
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http.body import Receive, document_of, fields_of
from dominus.orchestrator.http.exchange import (
    Exchange,
    Scope,
    Send,
    address_of,
    deadline_of,
    query_of,
    send_answer,
)
from dominus.orchestrator.http.metrics import Metrics
from dominus.orchestrator.http.routing import Match, Routes
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.net.rate_limit import RateLimiter

__all__ = ["Dispatcher"]

_log = logging.getLogger("dominus.orchestrator")


_access = logging.getLogger("dominus.access")


OPEN_BODY_BYTES = 64 * 1024
"""What a caller may send who showed no token."""


class Dispatcher:
    """Answers the routes of the contract."""

    def __init__(
        self, resources: Resources, routes: Routes, handlers: Mapping[str, Handler], metrics: Metrics
    ) -> None:
        settings = resources.settings
        self._resources = resources
        self._routes = routes
        self._handlers = handlers
        self._metrics = metrics
        self._settings = settings
        self._by_principal = RateLimiter(settings.rate_limit, settings.rate_burst)
        per_minute = settings.failed_auth_per_minute
        self._by_address = RateLimiter(per_minute / 60, per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the contract."""
        began = time.perf_counter()
        exchange = Exchange(scope, receive, self._settings.max_body_bytes)
        headers: list[tuple[bytes, bytes]] = []
        try:
            status, body = 200, await self._answer(exchange)
        except DominusConnectionError:
            # Nobody is there to read an answer; the line in the log tells.
            status, body = 499, b""
        except Exception as error:  # noqa: BLE001 - the one place where what went wrong becomes an answer
            failure = error if isinstance(error, DominusError) else self._unforeseen(exchange, error)
            status, body = self._failure(exchange, failure)
            headers = _failure_headers(status, failure)
            await exchange.body.drain()
        if status != 499:
            await send_answer(send, status, body, exchange, headers)
        self._record(exchange, status, time.perf_counter() - began, len(body))

    async def _answer(self, exchange: Exchange) -> bytes:
        match = self._routes.find(exchange.scope["method"], exchange.path)
        exchange.operation = match.operations[0]
        await self._authenticate(exchange, match.operations[0].auth)
        data = await self._in_time(exchange, match)
        types = data.types if isinstance(data, RawJson) else None
        document = data if isinstance(data, RawJson) else _to_json(data)
        if exchange.operation.is_plain:
            exchange.dialect = Dialect.JSON
            return document
        return envelope.encode(envelope.success(document, types), exchange.dialect)

    async def _authenticate(self, exchange: Exchange, auth: Auth) -> None:
        if auth is Auth.NONE:
            exchange.body.restrict(OPEN_BODY_BYTES)
            limited_as = address_of(exchange)
        else:
            exchange.principal = await self.principal(exchange, auth)
            limited_as = exchange.principal.subject
        wait = self._by_principal.take(limited_as)
        if wait:
            raise RateLimitError(
                f"more than {self._settings.rate_limit:g} requests a second", retry_after=wait
            )

    async def principal(self, exchange: Exchange, auth: Auth) -> Principal:
        """Return who calls, by token or PSK.

        Raises:
            AuthenticationError: nobody we know.
            RateLimitError: and this address tried too often.
        """
        try:
            return await self._known(exchange, auth)
        except AuthenticationError as error:
            wait = self._by_address.take(address_of(exchange))
            if wait:
                raise RateLimitError("too many refused tokens from this address", retry_after=wait) from error
            raise

    async def _known(self, exchange: Exchange, auth: Auth) -> Principal:
        scheme, _, credential = (exchange.header(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise AuthenticationError("no bearer token was sent", code="token_missing")
        if auth is Auth.TOKEN:
            return await self._resources.tokens.verify(credential)
        if auth is Auth.SESSION:
            return (await self._resources.tokens.verify_session(credential)).principal
        found = await self._resources.tokens.principal_of_psk(
            credential,
            exchange.header(envelope.PROJECT_HEADER.lower().encode()),
            exchange.header(envelope.ENVIRONMENT_HEADER.lower().encode()),
        )
        if found is None:
            raise AuthenticationError(
                "unknown token", code="token_unknown", hint="is DOMINUS_TOKEN this server's?"
            )
        return found

    async def _read(self, exchange: Exchange, match: Match) -> tuple[Request, Context]:
        """Read the body, find the operation it means, and validate the request."""
        context = Context(exchange.principal, self._resources, exchange.request_id)
        context.called_host = exchange.header(b"host") or ""
        fields: dict[str, Any]
        raw = b""
        if exchange.scope["method"] == "GET":
            fields = query_of(exchange.scope)
        elif exchange.is_stream:
            fields = await self._open_stream(exchange, match, context)
        else:
            raw = document_of(await exchange.body.whole(), exchange.dialect)
            # The published client sends no body to what needs none.
            fields = fields_of(raw) if raw or not match.operations[0].is_plain else {}
        operation = match.select(fields)
        exchange.operation = operation
        if clash := match.path_values.keys() & fields.keys():
            raise ValidationError(f"{', '.join(sorted(clash))}: named in the path already")
        key = exchange.header(b"idempotency-key")
        if key is not None and operation.retry is Retry.KEYED:
            if not 0 < len(key) <= 255 or not key.isprintable() or not key.isascii():
                raise ValidationError("Idempotency-Key: 1 to 255 printable characters")
            if not exchange.is_stream:
                context.idempotency = Idempotency(
                    key, self._resources.vault.fingerprint(*_identity(exchange, operation), raw)
                )
        return operation.request(**fields, **match.path_values), context

    async def _open_stream(self, exchange: Exchange, match: Match, context: Context) -> dict[str, Any]:
        operation = match.operations[0]
        if not operation.is_streamed:
            raise ValidationError(f"{operation.name} takes no stream", code="bad_stream")
        line, rest = await exchange.body.header_line()
        digest = self._resources.vault.fingerprinter(*_identity(exchange, operation), line)
        key = exchange.header(b"idempotency-key")
        context.stream = _tee(exchange.body.rest(rest), digest)
        context.seal = lambda: Idempotency(key, digest.hexdigest()) if key else None
        return fields_of(line)

    async def _in_time(self, exchange: Exchange, match: Match) -> Any:
        """Read the request and run its handler, both under the caller's deadline."""
        scope = asyncio.timeout(deadline_of(exchange))
        try:
            async with scope:
                return await self._serve(exchange, match)
        except TimeoutError as error:
            if isinstance(error, DominusError) or not scope.expired():
                raise
            raise DominusTimeoutError("the caller's deadline passed", code="deadline") from None

    async def _serve(self, exchange: Exchange, match: Match) -> Any:
        request, context = await self._read(exchange, match)
        operation = exchange.operation or match.operations[0]
        if not exchange.principal.may(operation.scope):
            raise AuthorizationError(
                f"{operation.name} needs the scope {operation.scope}", details={"scope": operation.scope}
            )
        return await self._handlers[operation.name](context, request)

    def _unforeseen(self, exchange: Exchange, error: Exception) -> ServiceError:
        _log.error("request %s failed", exchange.request_id, exc_info=error)
        return ServiceError("the server failed; its log has the request id", code="internal")

    def _failure(self, exchange: Exchange, error: DominusError) -> tuple[int, bytes]:
        status = error.status_code or 500
        body = envelope.failure(error.message, error.code, error.details, exchange.request_id, error.hint)
        if exchange.operation is not None and exchange.operation.is_plain:
            exchange.dialect = Dialect.JSON
        return status, envelope.encode(body, exchange.dialect)

    def _record(self, exchange: Exchange, status: int, seconds: float, size: int) -> None:
        operation = exchange.operation
        name, service = (operation.name, operation.service) if operation else ("unknown", "unknown")
        self._metrics.observe(service, name, status, seconds)
        if self._settings.request_log and _access.isEnabledFor(logging.INFO):
            line = {
                "request_id": exchange.request_id,
                "method": exchange.scope["method"],
                "path": exchange.path[:200],
                "operation": name,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "bytes": size,
                "principal": exchange.principal.subject,
            }
            _access.info("%s", to_json(line).decode())


def _identity(exchange: Exchange, operation: Operation[Any, Any]) -> tuple[bytes, ...]:
    """Return what makes a write this write, besides its body."""
    caller = exchange.principal
    return tuple(
        part.encode() for part in (operation.name, exchange.path, caller.project, caller.environment)
    )


def _failure_headers(status: int, error: DominusError) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 405:
        headers.append((b"allow", ", ".join(error.details["allow"]).encode()))
    return headers


def _to_json(data: Any) -> bytes:
    try:
        return to_json(data)
    except PydanticSerializationError as error:
        raise ServiceError("the answer is not JSON", code="internal") from error


async def _tee(chunks: AsyncIterator[bytes], digest: hmac.HMAC) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
