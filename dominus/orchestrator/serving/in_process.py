"""The orchestrator inside the user's own process, `DOMINUS_URL=embedded`: one process a home, no port but for links."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx

from dominus.contract.envelope import JSON_LINES
from dominus.errors import ConflictError
from dominus.hints import shell_command
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.serving.assembly import ProcessResources, open_process_resources, open_resources
from dominus.orchestrator.settings import read_settings

__all__ = ["open_embedded"]

_lock = threading.Lock()
_processes: dict[Path, tuple[int, ProcessResources]] = {}


async def open_embedded(home: Path) -> tuple[httpx.AsyncBaseTransport, str]:
    """Return a transport to an orchestrator in this process, for the running loop, and its PSK.

    The embedded PostgreSQL starts with the first loop of a process and ends with the process; connections end with
    the transport.

    Raises:
        ConflictError: another process holds the home.
    """
    process = await asyncio.to_thread(_process_of, home)
    app = Orchestrator(lambda: open_resources(process))
    transport = EmbeddedTransport(app)
    await transport.open()
    return transport, process.root_token


def _process_of(home: Path) -> ProcessResources:
    # The key is where it is, so that two spellings of one folder share it.
    key = home.expanduser().resolve()
    with _lock:
        found = _processes.get(key)
        if found is None:
            program = Path(sys.argv[0]).name or "python"
            settings = read_settings(home=key, request_log=False)
            found = (os.getpid(), open_process_resources(settings, f"{program}, with DOMINUS_URL=embedded"))
            found[1].is_inside = True
            _processes[key] = found
            atexit.register(found[1].close)
    if found[0] != os.getpid():
        raise ConflictError(
            "the embedded orchestrator belongs to the parent process of this fork",
            code="home_in_use",
            hint=f"start `{shell_command('dev')}` and set DOMINUS_URL to its address, so that both processes share it",
        )
    return found[1]


class EmbeddedTransport(httpx.AsyncBaseTransport):
    """Calls the app in this process, with the app's life tied to its own.

    httpx.ASGITransport does the same; it also looks for an uninstalled module at each request, which costs a tenth of
    an embedded call (docs/architecture.md).
    """

    def __init__(self, app: Orchestrator) -> None:
        self._app = app

    async def open(self) -> None:
        """Open the engines."""
        await self._app.start()

    async def aclose(self) -> None:
        """Close the engines."""
        await self._app.stop()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Run one request through the app."""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("the request's body is not asynchronous")
        if request.headers.get("accept") == JSON_LINES:
            return await _Streamed(self._app, request, aiter(request.stream)).open()
        chunks = aiter(request.stream)
        answer: dict[str, Any] = {"status": 500, "headers": []}
        body: list[bytes] = []

        async def receive() -> dict[str, Any]:
            async for chunk in chunks:
                return {"type": "http.request", "body": chunk, "more_body": True}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.update(message)
            else:
                body.append(message.get("body", b""))

        await self._app(_scope(request), receive, send)
        return httpx.Response(answer["status"], headers=answer["headers"], content=b"".join(body))


class _Streamed(httpx.AsyncByteStream):
    """A request whose answer is read while it is made: the app runs in a task, which waits for the reader."""

    def __init__(self, app: Orchestrator, request: httpx.Request, chunks: AsyncIterator[bytes]) -> None:
        self._app = app
        self._request = request
        self._chunks = chunks
        self._messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue(maxsize=1)
        self._is_closed = asyncio.Event()
        self._is_sent = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> httpx.Response:
        self._task = asyncio.create_task(self._app(_scope(self._request), self._receive, self._messages.put))
        try:
            head = await self._next()
        except BaseException:
            await self.aclose()
            raise
        return httpx.Response(head["status"], headers=head["headers"], stream=self)

    async def _receive(self) -> dict[str, Any]:
        if not self._is_sent:
            async for chunk in self._chunks:
                return {"type": "http.request", "body": chunk, "more_body": True}
            self._is_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_closed.wait()
        return {"type": "http.disconnect"}

    async def _next(self) -> MutableMapping[str, Any]:
        message = asyncio.create_task(self._messages.get())
        try:
            await asyncio.wait({message, *self._running()}, return_when=asyncio.FIRST_COMPLETED)
            if not message.done() and self._messages.empty():
                raise httpx.RemoteProtocolError("the app ended before its answer")
            return await message
        finally:
            message.cancel()

    def _running(self) -> set[asyncio.Task[Any]]:
        return {self._task} if self._task is not None else set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._next()
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return

    async def aclose(self) -> None:
        self._is_closed.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }
