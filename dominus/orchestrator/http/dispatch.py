"""How one request travels through the orchestrator, top to bottom.

route -> authenticate -> rate limit -> body -> operation -> scope -> handler under the deadline -> answer
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from dominus.contract.envelope import JSON_LINES
from dominus.errors import (
    AuthorizationError,
    DominusConnectionError,
    DominusError,
    DominusTimeoutError,
    ServiceError,
)
from dominus.orchestrator.handlers.context import RawLines
from dominus.orchestrator.handlers.registry import Handler
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http.answering import (
    answer_of,
    ends_with_client,
    failure_of,
    gathered,
    send_answer,
    send_lines,
)
from dominus.orchestrator.http.authentication import Authentication
from dominus.orchestrator.http.body import Receive
from dominus.orchestrator.http.exchange import Exchange, Scope, Send, time_limit_of
from dominus.orchestrator.http.metrics import Metrics
from dominus.orchestrator.http.reading import read_request
from dominus.orchestrator.http.recording import Recorder
from dominus.orchestrator.http.routing import Match, Routes
from dominus.orchestrator.sql.answer_size import MAX_ANSWER_BYTES

__all__ = ["Dispatcher"]

_log = logging.getLogger("dominus.orchestrator")


class Dispatcher:
    """Answers the routes of the contract."""

    def __init__(
        self, resources: Resources, routes: Routes, handlers: Mapping[str, Handler], metrics: Metrics
    ) -> None:
        self.authentication = Authentication(resources)
        self._resources = resources
        self._routes = routes
        self._handlers = handlers
        self._recorder = Recorder(metrics, writes_lines=resources.settings.request_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the contract."""
        began = time.perf_counter()
        settings = self._resources.settings
        exchange = Exchange(scope, receive, settings.max_body_bytes, settings.min_body_rate)
        headers: list[tuple[bytes, bytes]] = []
        sent = 0
        try:
            status, body = 200, await self._answer(exchange)
            if isinstance(body, RawLines):
                sent = await send_lines(send, exchange, body)
        except DominusConnectionError:
            # Nobody is there to read an answer; the line in the log tells.
            status, body = 499, b""
        except Exception as error:  # noqa: BLE001 - the one place where what went wrong becomes an answer
            failure = error if isinstance(error, DominusError) else _unforeseen(exchange, error)
            failure = self.authentication.counted(exchange, failure)
            self._resources.refused_writes.note(failure)
            status, body, headers = failure_of(exchange, failure)
            await exchange.body.drain()
        if isinstance(body, bytes):
            sent = len(body)
            if status != 499:
                await send_answer(send, status, body, exchange, headers)
        self._recorder.record(exchange, status, time.perf_counter() - began, sent)

    async def _answer(self, exchange: Exchange) -> bytes | RawLines:
        match = self._routes.find(exchange.scope["method"], exchange.path)
        exchange.operation = match.operations[0]
        await self.authentication.admit(exchange, match.operations[0].auth)
        data = await self._in_time(exchange, match)
        if isinstance(data, RawLines):
            return data
        return answer_of(exchange, exchange.operation, data)

    async def _in_time(self, exchange: Exchange, match: Match) -> Any:
        """Read the request and run its handler, both under the caller's deadline."""
        scope = asyncio.timeout(time_limit_of(exchange))
        try:
            async with scope:
                return await self._serve(exchange, match)
        except TimeoutError as error:
            if isinstance(error, DominusError) or not scope.expired():
                raise
            raise DominusTimeoutError("the caller's deadline passed", code="deadline") from None

    async def _serve(self, exchange: Exchange, match: Match) -> Any:
        request, context = await read_request(self._resources, exchange, match)
        operation = exchange.operation or match.operations[0]
        if not exchange.principal.may(operation.scope):
            raise AuthorizationError(
                f"{operation.name} needs the scope {operation.scope}", details={"scope": operation.scope}
            )
        if not operation.is_lines:
            return await self._handlers[operation.name](context, request)
        async with ends_with_client(exchange):
            found = await self._handlers[operation.name](context, request)
            return (
                found if exchange.header(b"accept") == JSON_LINES else await gathered(found, MAX_ANSWER_BYTES)
            )


def _unforeseen(exchange: Exchange, error: Exception) -> ServiceError:
    _log.error("request %s failed", exchange.request_id, exc_info=error)
    return ServiceError("the server failed; its log has the request id", code="internal")
