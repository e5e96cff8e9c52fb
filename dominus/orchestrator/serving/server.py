"""The orchestrator on a port: `dominus dev` in this process, `dominus serve` in this one or in several workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from dominus.contract.envelope import failure
from dominus.errors import ConflictError, ServiceError
from dominus.orchestrator.gateway.listener import listener_of_worker, open_for_dev, open_for_serve
from dominus.orchestrator.home import LOCK, hold, open_home
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.http.body import Receive
from dominus.orchestrator.http.exchange import Scope, Send
from dominus.orchestrator.net.hosts import AllowedHosts
from dominus.orchestrator.net.listener import BACKLOG, bind, check_certificate, is_loopback, url_of
from dominus.orchestrator.serving.assembly import (
    ProcessResources,
    check_process_resources,
    open_process_resources,
    open_resources,
)
from dominus.orchestrator.serving.http_protocol import BoundedConfig, HttpLimits
from dominus.orchestrator.serving.logs import configure_logging, flush_logs
from dominus.orchestrator.settings import ServerSettings, read_settings

__all__ = ["Served", "make_worker", "run_dev", "run_serve"]

_log = logging.getLogger("dominus.orchestrator")

KEEP_ALIVE_SECONDS = 75
"""Longer than clients and load balancers keep an idle connection (55 and 60), so that they close it, not we."""
LOG_LEVEL = "DOMINUS_LOG_LEVEL"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Served:
    """The app as uvicorn runs it; a start that fails leaves its error here, and no traceback in the log."""

    def __init__(
        self, app: Orchestrator, hosts: AllowedHosts | None = None, *, is_worker: bool = False
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._is_worker = is_worker
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._hosts is None or self._hosts(_host_of(scope)):
            await self._app(scope, receive, send)
        else:
            await _refuse_host(send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._app.start()
        except Exception as error:  # noqa: BLE001 - raised again, or logged, by who runs the server
            self.error = error
            # uvicorn would add a line that says less.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            if self._is_worker:
                _log.critical("the worker did not start: %s", error)
                flush_logs()
            await send({"type": "lifespan.startup.failed"})
            return
        if self._is_worker:
            _end_with_parent()
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            await self._app.stop()
            # A worker ends by its signal, which runs no exit handlers.
            flush_logs()
        await send({"type": "lifespan.shutdown.complete"})


def _host_of(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")


async def _refuse_host(send: Send) -> None:
    body = failure(
        "this server is not called so",
        "unknown_host",
        None,
        "",
        "call it by an address or as localhost, or name its host in DOMINUS_ALLOWED_HOSTS",
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def run_dev(
    *, host: str, port: int, home: Path, log_level: str, on_ready: Callable[[ProcessResources, str], None]
) -> None:
    """Serve with embedded engines until Ctrl-C or SIGTERM; `on_ready` is told when it answers, and at which URL.

    Raises:
        ConflictError: the port is taken, or another process holds the home; the message says which.
    """
    configure_logging(log_level, is_json=False)
    settings = read_settings(home=home)
    if "metrics_open" not in settings.model_fields_set:
        settings.metrics_open = is_loopback(host)
    with (
        _until_signal(),
        _bound_for(host, port, settings.home) as listener,
        open_for_dev(settings, host) as gateway_listener,
        contextlib.ExitStack() as stack,
    ):
        url = url_of(host, listener, "http")
        with _signals_put_off():
            process = open_process_resources(settings, f"dominus dev on {url}")
            stack.callback(_close, process)
            process.gateway = gateway_listener
        hosts = AllowedHosts.of(host, settings.allowed_hosts)
        _run(process, listener, lambda: on_ready(process, url), {"proxy_headers": False}, hosts)


def run_serve(
    *, host: str, port: int, workers: int, certfile: Path | None, keyfile: Path | None, log_level: str
) -> None:
    """Serve from the environment, with remote engines, until Ctrl-C or SIGTERM.

    Raises:
        ValidationError: settings are missing or wrong; the message lists all of them.
        ServiceError: PostgreSQL or Redis does not answer, or a worker does not start.
        ConflictError: the port is taken.
    """
    configure_logging(log_level, is_json=True)
    process = check_process_resources(read_settings())
    settings = process.settings
    options: dict[str, Any] = {"proxy_headers": "FORWARDED_ALLOW_IPS" in os.environ}
    if certfile is not None:
        check_certificate(certfile, keyfile)
        options |= {"ssl_certfile": certfile, "ssl_keyfile": keyfile}
    with (
        _until_signal(),
        contextlib.closing(bind(host, port)) as listener,
        open_for_serve(settings, host, certfile, keyfile, workers) as gateway_listener,
    ):
        url = url_of(host, listener, "https" if certfile else "http")
        ready = f"serving on {url} with {workers} worker{'s' * (workers > 1)}"
        if workers == 1:
            process.gateway = gateway_listener
            _run(process, listener, lambda: _log.info(ready), options, _named_hosts(settings))
        else:
            os.environ[LOG_LEVEL] = log_level
            asyncio.run(_check_engines(process))
            _log.info(ready)
            _supervise(process, listener, options, workers)
    flush_logs()


def make_worker() -> Served:
    """Return the app of one worker process: what uvicorn imports and calls there."""
    configure_logging(os.environ.get(LOG_LEVEL, "info"), is_json=True)
    settings = read_settings()
    process = check_process_resources(settings)
    process.gateway = listener_of_worker(settings)
    app = Orchestrator(lambda: open_resources(process))
    return Served(app, _named_hosts(settings), is_worker=True)


def _named_hosts(settings: ServerSettings) -> AllowedHosts | None:
    # What a production server is called is the proxy's to know, unless somebody says so.
    return AllowedHosts.of("", settings.allowed_hosts) if settings.allowed_hosts else None


@contextlib.contextmanager
def _bound_for(host: str, port: int, home: Path) -> Generator[socket.socket]:
    try:
        listener = bind(host, port)
    except ConflictError:
        # Most often it is ours: who holds the home says more than a number does.
        if (home.expanduser() / LOCK).exists():
            hold(open_home(home), "dominus dev").release()
        raise
    with contextlib.closing(listener):
        yield listener


@contextlib.contextmanager
def _until_signal() -> Generator[None]:
    """End the block on SIGTERM and Ctrl-C as on its last line, wherever it is."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        # uvicorn takes both signals over while it runs, and raises them again when it has ended.
        yield
    except KeyboardInterrupt:
        _log.info("ended by a signal")
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _signals_put_off() -> Generator[None]:
    """Let a block end before a first signal counts; a second one does not wait.

    An interruption in the middle of starting a process would lose track of it.
    """
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _close(process: ProcessResources) -> None:
    with _signals_put_off():
        process.close()
        flush_logs()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def _config(app: Any, settings: ServerSettings, options: dict[str, Any]) -> uvicorn.Config:
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "") if options.get("proxy_headers") else ""
    return BoundedConfig(
        app,
        limits=HttpLimits.of(settings, trusted),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[("x-content-type-options", "nosniff")],
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
        **options,
    )


def _run(
    process: ProcessResources,
    listener: socket.socket,
    on_ready: Callable[[], None],
    options: dict[str, Any],
    hosts: AllowedHosts | None,
) -> None:
    served = Served(Orchestrator(lambda: open_resources(process)), hosts)
    server = _Server(_config(served, process.settings, options), on_ready)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        if served.error is None:
            raise
        raise served.error from None


async def _check_engines(process: ProcessResources) -> None:
    """Open the engines once, so that what is wrong is said once, and the schema is ready for all workers."""
    async with open_resources(process):
        pass


class _Supervisor(Multiprocess):
    def terminate_all(self) -> None:
        # New connections are refused from here on, instead of waiting at a socket that nobody accepts from.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


def _supervise(
    process: ProcessResources, listener: socket.socket, options: dict[str, Any], workers: int
) -> None:
    config = _config(f"{__name__}:{make_worker.__name__}", process.settings, options)
    config.factory, config.workers = True, workers
    with _metrics_folder():
        supervisor = _Supervisor(config, [listener])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise ServiceError("a worker did not start; the log says why", retryable=False)


@contextlib.contextmanager
def _metrics_folder() -> Generator[None]:
    """Give the workers a folder to add their metrics up in; prometheus_client reads the variable when imported."""
    if os.environ.get(METRICS_FOLDER):
        yield
        return
    folder = tempfile.mkdtemp(prefix="dominus-metrics-")
    os.environ[METRICS_FOLDER] = folder
    try:
        yield
    finally:
        del os.environ[METRICS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_parent() -> None:
    """End gracefully when the supervisor is killed: nobody would end this worker otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop = asyncio.get_running_loop()
        loop.add_reader(parent.sentinel, _parent_ended, loop, parent.sentinel)


def _parent_ended(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    _log.warning("the supervisor of this worker is gone: ending")
    signal.raise_signal(signal.SIGTERM)
