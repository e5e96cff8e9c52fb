"""The ASGI app: the contract's routes, and a few pages for people and machines that watch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dominus.contract import operations
from dominus.contract.envelope import failure
from dominus.contract.kinds import Auth
from dominus.errors import AuthorizationError, DominusError
from dominus.orchestrator.handlers.resources import Resources
from dominus.orchestrator.http import docs_page, file_links
from dominus.orchestrator.http.body import Receive
from dominus.orchestrator.http.dispatch import Dispatcher
from dominus.orchestrator.http.exchange import Exchange, Scope, Send
from dominus.orchestrator.http.metrics import CONTENT_TYPE, Metrics
from dominus.orchestrator.http.routing import Routes
from dominus.orchestrator.net.tasks import end_task
from dominus.orchestrator.services import handlers_by_operation

__all__ = ["Orchestrator", "ResourcesFactory"]

_log = logging.getLogger("dominus.orchestrator")
ResourcesFactory = Callable[[], "contextlib.AbstractAsyncContextManager[Resources]"]
MAINTENANCE_SECONDS = 3600.0


class Orchestrator:
    """An ASGI application. `opening` makes the engines when the server starts and closes them when it ends."""

    def __init__(self, opening: ResourcesFactory) -> None:
        self._opening = opening
        self._handlers = handlers_by_operation()
        self._metrics = Metrics()
        self._routes = Routes(operations().values())
        self._dispatcher: Dispatcher | None = None
        self._resources: Resources | None = None
        self._stack = contextlib.AsyncExitStack()
        self._pages = Starlette(
            routes=[
                Route("/", _home),
                *docs_page.routes(),
                Route("/metrics", self._show_metrics),
                file_links.route(lambda: self.resources),
            ],
            lifespan=self._lifespan,
        )

    @property
    def resources(self) -> Resources:
        """The engines, while the app runs."""
        if self._resources is None:
            raise RuntimeError("the orchestrator is not running")
        return self._resources

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

    async def start(self) -> Resources:
        """Open the engines and begin to answer: what a server's lifespan does, for the embedded mode and tests."""
        async with contextlib.AsyncExitStack() as stack:
            resources = await stack.enter_async_context(self._opening())
            upkeep = asyncio.create_task(_maintain(resources), name="dominus-maintenance")
            stack.push_async_callback(end_task, upkeep)
            dispatcher = Dispatcher(resources, self._routes, self._handlers, self._metrics)
            stack.push_async_callback(dispatcher.authentication.aclose)
            self._stack = stack.pop_all()
        self._resources, self._dispatcher = resources, dispatcher
        return resources

    async def stop(self) -> None:
        """Close the engines."""
        self._dispatcher = self._resources = None
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def _show_metrics(self, request: HttpRequest) -> Response:
        if self._dispatcher is None or not self.resources.settings.metrics_open:
            try:
                await self._check_watcher(request)
            except DominusError as error:
                body = failure(error.message, error.code, error.details, "", error.hint)
                return Response(body, error.status_code or 401, media_type="application/json")
        # Rendering reads files when there are several workers.
        gateway = None if self._resources is None else self._resources.gateway
        more = () if gateway is None else (gateway.registry,)
        return Response(await asyncio.to_thread(self._metrics.render, *more), media_type=CONTENT_TYPE)

    async def _check_watcher(self, request: HttpRequest) -> None:
        """Let a token or a PSK with the scope `metrics:read` in: scrapers cannot mint."""
        if self._dispatcher is None:
            raise DominusError("not running", status_code=503)
        exchange = Exchange(request.scope, request.receive, 0)
        credential = (exchange.header(b"authorization") or "").rpartition(" ")[2]
        principal = await self._dispatcher.authentication.principal(
            exchange, Auth.TOKEN if credential.count(".") == 2 else Auth.PSK
        )
        if not principal.may("metrics:read"):
            raise AuthorizationError("metrics need the scope metrics:read")


async def _maintain(resources: Resources) -> None:
    """Forget expired records, rotate the signing key, drop old log lines, hourly; a failure waits for the next hour."""
    from dominus.orchestrator.handlers.idempotency import purge
    from dominus.orchestrator.outbox.store import purge as purge_mails
    from dominus.orchestrator.services.files import collect
    from dominus.orchestrator.services.portal import purge as purge_logins

    jobs: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        (
            "purging idempotency records",
            lambda: purge(resources.postgres, resources.settings.idempotency_hours),
        ),
        (
            "rotating the signing key",
            lambda: resources.tokens.rotate_if_due(resources.settings.signing_key_days),
        ),
        ("collecting contents of files", lambda: collect(resources)),
        ("making and dropping the days of log lines", resources.logs.days.keep),
        (
            "purging mails",
            lambda: purge_mails(resources.postgres.system, resources.settings.courier_retention_days),
        ),
        ("purging logins", lambda: purge_logins(resources.postgres)),
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
