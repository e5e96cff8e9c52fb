"""Imports ahead of time, in a thread: those of the first call take longer than a short deadline lasts.

The thread is no daemon: one that the interpreter's end meets inside the import of an extension module can abort the
process. This one ends after the module that it is at.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import threading

__all__ = ["NAMESPACES", "WIRE", "Preload"]

FORK_SECONDS = 5.0
_log = logging.getLogger("dominus.transport")


class Preload:
    """Imports some modules, once in a process."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._begin_anew()
        # It registers a lock for forks; in the thread that could happen between the two halves of one.
        importlib.import_module("concurrent.futures.thread")

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self.is_done = False

    def start(self) -> None:
        """Begin, and do not wait."""
        with self._lock:
            if self._thread is not None or self.is_done:
                return
            thread = threading.Thread(target=self._import, name="dominus-imports")
            try:
                thread.start()
            except RuntimeError:
                # The program ends, or has all the threads it may have: who needs a module imports it then.
                self.is_done = True
                return
            self._thread = thread

    async def finish(self) -> None:
        """Wait until all are imported; what cannot be imported is told by whoever needs it."""
        self.start()
        with self._lock:
            if self.is_done:
                return
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self._waiters.append((loop, waiter))
        await waiter

    def _import(self) -> None:
        main = threading.main_thread()
        for name in self._names:
            if not main.is_alive():
                break
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - the import that needs it raises it again
                _log.debug("%s was not imported ahead of time: %r", name, error)
        with self._lock:
            self.is_done = True
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            with contextlib.suppress(RuntimeError):  # its loop is closed by now
                loop.call_soon_threadsafe(_wake, waiter)

    def before_fork(self) -> None:
        """Let the thread end: a child would inherit the locks of its modules, and nobody to free them."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(FORK_SECONDS)

    def after_fork(self) -> None:
        """Begin anew in the child, unless all is there."""
        if not self.is_done:
            self._begin_anew()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


WIRE = Preload(
    "dominus.transport.runtime",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "encodings.idna",
    "dominus.transport.circuit",
)
"""What the first call of a process needs, and the first that fails."""

NAMESPACES = Preload(
    "dominus.namespaces.secrets",
    "dominus.namespaces.db",
    "dominus.namespaces.ddl",
    "dominus.namespaces.redis",
    "dominus.namespaces.lock",
    "dominus.namespaces.files",
    "dominus.namespaces.auth",
    "dominus.namespaces.health",
    "dominus.namespaces.logs",
    "dominus.sessions",
    "dominus.names",
)
"""What the first use of each part of the client needs."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=WIRE.before_fork, after_in_child=WIRE.after_fork)
    os.register_at_fork(before=NAMESPACES.before_fork, after_in_child=NAMESPACES.after_fork)
