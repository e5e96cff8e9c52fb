"""A local orchestrator on a port, for programs that need a URL."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Self

import uvicorn

from dominus.errors import ServiceError
from dominus.testing.local import LocalOrchestrator, OrchestratorTemplate

__all__ = ["LocalServer"]

START_SECONDS = 60.0


class LocalServer:
    """A LocalOrchestrator behind HTTP on a free port of 127.0.0.1, in a thread and event loop of its own.

    Attributes:
        url: where it answers.
    """

    def __init__(self, template: OrchestratorTemplate) -> None:
        self._template = template
        self._server: uvicorn.Server | None = None
        self._is_up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dominus-local-server", daemon=True)
        self.url = ""

    @property
    def token(self) -> str:
        """The PSK with every scope."""
        return self._template.token

    def start(self) -> Self:
        """Begin to answer. Blocks."""
        self._thread.start()
        if not self._is_up.wait(START_SECONDS) or self._failure is not None:
            raise ServiceError(
                f"the local server did not start: {self._failure}", retryable=False
            ) from self._failure
        return self

    def stop(self) -> None:
        """End. Blocks."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again where it was started
            self._failure = error
        finally:
            self._is_up.set()

    async def _serve(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            # From here on connections wait, and none is refused.
            listener.listen(128)
            async with LocalOrchestrator(self._template) as local:
                config = uvicorn.Config(
                    local.app,  # pyright: ignore[reportArgumentType]
                    lifespan="off",
                    ws="none",
                    log_config=None,
                    access_log=False,
                    timeout_graceful_shutdown=5,
                )
                self._server = uvicorn.Server(config)
                self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                self._is_up.set()
                await self._server.serve(sockets=[listener])
