"""A whole orchestrator in this process, on a database of its own that is made in milliseconds and dropped after."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dominus.client import Dominus
from dominus.errors import ServiceError
from dominus.orchestrator.engines.postgres.embedded import DATABASE
from dominus.orchestrator.engines.postgres.template import clone_database, drop_database
from dominus.orchestrator.http.app import Orchestrator
from dominus.orchestrator.serving.assembly import ProcessResources, open_process_resources, open_resources
from dominus.orchestrator.settings import ServerSettings
from dominus.testing.leftovers import PREFIX, remove_leftovers
from dominus.testing.loops import LoopsTransport

__all__ = ["LocalOrchestrator", "OrchestratorTemplate"]

URL = "http://localhost"
"""What clients in this process call it; nothing listens there."""
ROOM_BYTES = 1024**3
"""What the memory file system must have free to be used: the template takes 50 MB, a copy 10."""
_NO_ENVIRONMENT = "DOMINUS_OF_NO_ENVIRONMENT_"
"""Tests must never touch the database that the environment of a developer or a server names."""


class OrchestratorTemplate:
    """An embedded PostgreSQL in a temporary home, with a database that is ready to be copied.

    It belongs to the process and to no event loop. `start` takes a second or two, each copy some milliseconds.
    """

    def __init__(self) -> None:
        self._process: ProcessResources | None = None
        self._home: Path | None = None
        self._numbers = itertools.count(1)

    @property
    def token(self) -> str:
        """The PSK of every orchestrator that is made from it."""
        return self._running().root_token

    def start(self) -> Self:
        """Start PostgreSQL and make the template. Blocks; it may be called while an event loop runs."""
        usual, fast = Path(tempfile.gettempdir()), _fast_folder()
        for folder in {usual, fast or usual}:
            remove_leftovers(folder)
        self._home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=fast))
        settings = ServerSettings(
            _env_prefix=_NO_ENVIRONMENT,  # pyright: ignore[reportCallIssue]
            home=self._home,
            is_durable=False,
            request_log=False,
            pool_size=4,
        )
        try:
            self._process = open_process_resources(settings, "a test run")
            self._process.is_inside = True
            _in_a_thread(_prepare, self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End PostgreSQL and remove everything. Blocks."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextlib.asynccontextmanager
    async def copy(self) -> AsyncGenerator[ProcessResources]:
        """Make a clean database, for a block; a cache of its own comes with it."""
        origin = self._running()
        name = f"test_{os.getpid()}_{next(self._numbers)}_{secrets.token_hex(4)}"
        dsn = await clone_database(origin.dsn, DATABASE, name)
        # The home of an embedded cache is its name: nothing is written there.
        home = (origin.home or Path()) / name
        try:
            yield dataclasses.replace(origin, dsn=dsn, home=home, hold=None, postgres=None)
        finally:
            await drop_database(origin.dsn, name)

    def _running(self) -> ProcessResources:
        if self._process is None:
            raise ServiceError("the template is not started", code="not_running", retryable=False)
        return self._process


class LocalOrchestrator:
    """An orchestrator in this process and event loop, real engines included, with nothing in it.

        async with LocalOrchestrator() as local:
            client = local.client()
            await client.redis.set("k", 1)

    Args:
        template: where its database is copied from; without one, a PostgreSQL is started for it alone, which takes a
            second or two.

    Attributes:
        app: the ASGI application, while it runs.
    """

    def __init__(self, template: OrchestratorTemplate | None = None) -> None:
        self._given = template
        self._template = template or OrchestratorTemplate()
        self._stack = contextlib.AsyncExitStack()
        self._new_transport: Callable[[], LoopsTransport] | None = None
        self.app: Orchestrator | None = None

    @property
    def token(self) -> str:
        """The PSK with every scope."""
        return self._template.token

    def client(self, **options: Any) -> Dominus:
        """Return a client of it, closed with it, for any event loop: each has connections of its own.

        Args:
            options: as for `Dominus`, for example `project="shop"` or `clock=MovableClock()`.
        """
        if self._new_transport is None:
            raise ServiceError("the local orchestrator is not running", code="not_running", retryable=False)
        transport = self._new_transport()
        usual: dict[str, Any] = {"url": URL, "token": self.token, "transport": transport}
        made = Dominus(**(usual | options))
        self._stack.push_async_callback(made.aclose)
        self._stack.push_async_callback(transport.close_elsewhere, made.aclose)
        return made

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            if self._given is None:
                stack.push_async_callback(asyncio.to_thread, self._template.stop)
                await asyncio.to_thread(self._template.start)
            process = await stack.enter_async_context(self._template.copy())
            self.app = Orchestrator(lambda: open_resources(process))
            resources = await self.app.start()
            stack.push_async_callback(self.app.stop)
            # The data inside this process would stay until it ends.
            stack.push_async_callback(resources.redis.execute, "FLUSHALL")
            self._stack = stack.pop_all()
        self._new_transport = partial(LoopsTransport, self.app, process, asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._new_transport = None
        await self._stack.aclose()
        self.app = None


async def _prepare(process: ProcessResources) -> None:
    # The schema and the keys are made once, in what is copied.
    async with open_resources(process):
        pass


def _in_a_thread(work: Any, *arguments: Any) -> None:
    """Run a coroutine in a loop of its own, whether or not one runs here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            failures.append(error)

    thread = threading.Thread(target=run, name="dominus-testing")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _fast_folder() -> Path | None:
    # Copying a database is file work, which a disk that others use does ten times slower; None: the usual place.
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is 0700
    if not os.access(memory, os.W_OK | os.X_OK) or shutil.disk_usage(memory).free < ROOM_BYTES:
        return None
    return memory
