"""What `install` gives an application: problem+json, request ids, a lifespan, a look at its routes."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dominus.contract.envelope import REQUEST_ID_HEADER
from dominus.errors import DominusError
from dominus.hints import WrongUseError
from dominus.integrations.decorators import check_order
from dominus.integrations.problems import REQUEST_ID, RefusedError, answer, answer_refused, is_own_fault
from dominus.transport.request_id import is_request_id, serving

__all__ = ["CLIENT", "install"]

CLIENT = "dominus.client"
"""Where the ASGI scope holds whose guards verify."""
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_log = logging.getLogger("dominus.fastapi")


class RequestIds:
    """Names each request: as its caller did, or anew. The calls that are made for it, and its answer, carry the id."""

    def __init__(self, app: ASGIApp, client: object) -> None:
        self._app = app
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if is_request_id(given) else secrets.token_hex(8)
        scope[CLIENT], scope[REQUEST_ID] = self._client, request_id

        async def send_named(message: Message) -> None:
            if message["type"] in _STARTS:
                MutableHeaders(scope=message).setdefault(REQUEST_ID_HEADER, request_id)
            await send(message)

        with serving(request_id):
            await self._app(scope, receive, send_named)


def install(
    app: FastAPI,
    client: object,
    *,
    warm_up: Callable[[], Awaitable[object]] | None,
    close: Callable[[], Awaitable[object]] | None,
) -> None:
    """Set an application up; see FastAPINamespace.install.

    Raises:
        WrongUseError: it was done before, or a route leads around its guard.
    """
    if DominusError in app.exception_handlers:
        raise WrongUseError(
            f"{app.title}: DominusError has a handler already",
            hint="install(app) once, without another handler",
        )
    app.add_exception_handler(DominusError, _handler(answer))
    app.add_exception_handler(RefusedError, _handler(answer_refused))
    app.add_middleware(RequestIds, client=client)
    theirs: Any = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(served: Any) -> AsyncGenerator[Any]:
        check_order(app.routes)
        try:
            await _warmed(warm_up)
            async with theirs(served) as state:
                yield state
        finally:
            if close is not None:
                await close()

    app.router.lifespan_context = lifespan


def _handler(function: Callable[..., Any]) -> Any:
    return function


async def _warmed(warm_up: Callable[[], Awaitable[object]] | None) -> None:
    if warm_up is None:
        return
    try:
        await warm_up()
    except DominusError as error:
        if is_own_fault(error):
            raise
        # The application may be there first; each of its calls waits for the server by itself.
        _log.warning("warming up failed, the first requests will do it: %s", error)
