"""The ASGI app: the contract's routes, and a few pages for people and machines that watch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dominus.contract import operations
from dominus.contract.envelope import failure
from dominus.contract.operation import Auth
from dominus.errors import AuthorizationError, DominusError
from dominus.orchestrator import openapi
from dominus.orchestrator.body import Receive
from dominus.orchestrator.context import HANDLERS
from dominus.orchestrator.dispatch import Dispatcher, Exchange, Scope, Send
from dominus.orchestrator.engines import Engines
from dominus.orchestrator.metrics import CONTENT_TYPE, Metrics
from dominus.orchestrator.opening import end_task
from dominus.orchestrator.routing import Routes

__all__ = ["EnginesFactory", "Orchestrator"]

_log = logging.getLogger("dominus.orchestrator")
EnginesFactory = Callable[[], "contextlib.AbstractAsyncContextManager[Engines]"]
MAINTENANCE_SECONDS = 3600.0


class Orchestrator:
    """An ASGI application. `opening` makes the engines when the server starts and closes them when it ends."""

    def __init__(self, opening: EnginesFactory) -> None:
        from dominus.orchestrator.services import gateway, health, scribe, smith, warden, whisperer

        _ = gateway, health, scribe, smith, warden, whisperer  # importing them registers their handlers
        missing = operations().keys() - HANDLERS.keys()
        if missing:
            raise RuntimeError(f"operations without a handler: {', '.join(sorted(missing))}")
        self._opening = opening
        self._metrics = Metrics()
        self._routes = Routes(operations().values())
        self._dispatcher: Dispatcher | None = None
        self._engines: Engines | None = None
        self._stack = contextlib.AsyncExitStack()
        self._pages = Starlette(
            routes=[
                Route("/", _home),
                Route("/docs", _docs),
                Route("/openapi.json", _openapi),
                Route("/metrics", self._show_metrics),
            ],
            lifespan=self._lifespan,
        )

    @property
    def engines(self) -> Engines:
        """The engines, while the app runs."""
        if self._engines is None:
            raise RuntimeError("the orchestrator is not running")
        return self._engines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's lifespan."""
        if (
            scope["type"] == "http"
            and scope["path"].startswith(("/api/", "/v1/"))
            and self._dispatcher is not None
        ):
            await self._dispatcher(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def start(self) -> Engines:
        """Open the engines and begin to answer: what a server's lifespan does, for the embedded mode and tests."""
        async with contextlib.AsyncExitStack() as stack:
            engines = await stack.enter_async_context(self._opening())
            upkeep = asyncio.create_task(_maintain(engines), name="dominus-maintenance")
            stack.push_async_callback(end_task, upkeep)
            self._stack = stack.pop_all()
        self._engines = engines
        self._dispatcher = Dispatcher(engines, self._routes, self._metrics)
        return engines

    async def stop(self) -> None:
        """Close the engines."""
        self._dispatcher = self._engines = None
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def _show_metrics(self, request: HttpRequest) -> Response:
        if self._dispatcher is None or not self.engines.settings.metrics_open:
            try:
                await self._check_watcher(request)
            except DominusError as error:
                body = failure(error.message, error.code, error.details, "", error.hint)
                return Response(body, error.status_code or 401, media_type="application/json")
        # Rendering reads files when there are several workers.
        gateway = None if self._engines is None else self._engines.gateway
        more = () if gateway is None else (gateway.registry,)
        return Response(await asyncio.to_thread(self._metrics.render, *more), media_type=CONTENT_TYPE)

    async def _check_watcher(self, request: HttpRequest) -> None:
        """Let a token or a PSK with the scope `metrics:read` in: scrapers cannot mint."""
        if self._dispatcher is None:
            raise DominusError("not running", status_code=503)
        exchange = Exchange(request.scope, request.receive, 0)
        credential = (exchange.header(b"authorization") or "").rpartition(" ")[2]
        principal = await self._dispatcher.principal(
            exchange, Auth.TOKEN if credential.count(".") == 2 else Auth.PSK
        )
        if not principal.may("metrics:read"):
            raise AuthorizationError("metrics need the scope metrics:read")


async def _maintain(engines: Engines) -> None:
    """Forget expired idempotency records and rotate the signing key, hourly; a failure waits for the next hour."""
    from dominus.orchestrator.idempotency import purge

    jobs: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        ("purging idempotency records", lambda: purge(engines.postgres, engines.settings.idempotency_hours)),
        ("rotating the signing key", lambda: engines.tokens.rotate_if_due(engines.settings.signing_key_days)),
    ]
    while True:
        await asyncio.sleep(MAINTENANCE_SECONDS)
        for name, job in jobs:
            try:
                await job()
            except Exception:  # noqa: BLE001 - logged whole; the next hour tries again
                _log.exception("%s failed", name)


async def _home(_request: HttpRequest) -> Response:
    return RedirectResponse("/docs")


async def _docs(_request: HttpRequest) -> Response:
    return HTMLResponse(openapi.page())


async def _openapi(_request: HttpRequest) -> Response:
    return JSONResponse(openapi.document())
