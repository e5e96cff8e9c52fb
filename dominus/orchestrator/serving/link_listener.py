"""Download links where the orchestrator has no port: one for them alone, on 127.0.0.1, opened with the first link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dominus.errors import ServiceError

if TYPE_CHECKING:
    from uvicorn.server import ServerState

    from dominus.orchestrator.handlers.resources import Resources

__all__ = ["LinkListener"]

HOST = "127.0.0.1"
CLOSE_SECONDS = 1.0
"""So long a download that is under way may go on when the client closes."""


class LinkListener:
    """Serves the route of links and nothing else; whoever has no link is answered 403 or 404."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._opening = asyncio.Lock()
        self._is_closed = False
        self._server: asyncio.Server | None = None
        self._state: ServerState | None = None

    async def base(self) -> str:
        """Return how links begin; the port is open from then on.

        Raises:
            ServiceError: no port can be opened.
        """
        async with self._opening:
            if self._server is None:
                self._server = await self._open()
        port: int = self._server.sockets[0].getsockname()[1]
        return f"http://{HOST}:{port}"

    async def _open(self) -> asyncio.Server:
        if self._is_closed:
            raise ServiceError("the client is being closed", code="files_unavailable", status_code=503)
        # uvicorn is not needed before, and takes a tenth of a second.
        protocol, self._state = await asyncio.to_thread(_protocol, self._resources)
        try:
            return await asyncio.get_running_loop().create_server(protocol, HOST, 0)
        except OSError as error:
            raise ServiceError(
                f"no port for download links can be opened on {HOST}: {error.strerror}",
                code="files_unavailable",
                status_code=503,
                hint="files.stream and files.save need none",
            ) from error

    async def aclose(self) -> None:
        """Close the port, and the connections when their downloads have ended, or a second later."""
        async with self._opening:
            self._is_closed = True
        if self._server is None or self._state is None:
            return
        self._server.close()
        connections: set[Any] = self._state.connections
        for connection in list(connections):
            connection.shutdown()
        await self._settle()
        for connection in list(connections):
            connection.transport.abort()
        await self._settle()
        # Transports close in the loop's next round.
        await asyncio.sleep(0)

    async def _settle(self) -> None:
        if self._state is not None and self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CLOSE_SECONDS)


def _protocol(resources: Resources) -> tuple[Any, ServerState]:
    """Return what makes the protocol of a connection, and what all of them share."""
    from starlette.applications import Starlette
    from uvicorn.server import ServerState

    from dominus.orchestrator.http import file_links
    from dominus.orchestrator.serving.http_protocol import BoundedConfig, BoundedHttp, HttpLimits

    class Quiet(BoundedHttp):
        """Logs no paths: they are the tickets."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.access_log = False

    # uvicorn's own access_log=False would end that of a server in the same process.
    config = BoundedConfig(
        Starlette(routes=[file_links.route(lambda: resources)]),
        limits=HttpLimits.of(resources.settings, ""),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=None,
        proxy_headers=False,
        server_header=False,
        headers=[("x-content-type-options", "nosniff")],
    )
    config.load()
    state = ServerState()
    state.default_headers = list(config.encoded_headers)
    return lambda: Quiet(config, state, {}), state
