"""Where the gateway listens: its socket is made before anything is started, so that a taken port is said at once."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dominus.contract.handshake import DEFAULT_PORT
from dominus.errors import ConflictError
from dominus.orchestrator.net.listener import bind, check_certificate

if TYPE_CHECKING:
    from dominus.orchestrator.settings import ServerSettings

__all__ = ["ListenerFactory", "listener_of_worker", "local_listener", "open_for_dev", "open_for_serve"]


@dataclass(frozen=True, slots=True)
class ListenerFactory:
    """How the gateway of a process gets its listening socket."""

    listen: Callable[[], socket.socket]
    is_lazy: bool = False
    """Only when the first session asks where it is: a program that uses none opens no port."""


def local_listener() -> ListenerFactory:
    """Return the door of the embedded mode: a free port that only this machine reaches, opened when it is needed."""
    return ListenerFactory(lambda: bind("127.0.0.1", 0), is_lazy=True)


def listener_of_worker(settings: ServerSettings) -> ListenerFactory | None:
    """Return the door of one of several workers, which share a port; None: the settings name no port."""
    port = settings.gateway_port
    if port is None:
        return None
    return ListenerFactory(lambda: bind(settings.gateway_address or "", port, is_shared=True))


@contextlib.contextmanager
def open_for_dev(settings: ServerSettings, host: str) -> Generator[ListenerFactory]:
    """Listen on the port of the settings, or on the usual one, or where that is taken on any.

    Raises:
        ConflictError: the port that the settings name is taken.
        ValidationError: address, port or certificate cannot be used.
    """
    _complete(settings, host, None, None)
    port = settings.gateway_port
    try:
        listener = _bind(settings, DEFAULT_PORT if port is None else port)
    except ConflictError:
        if port is not None:
            raise
        listener = _bind(settings, 0)
    with contextlib.closing(listener):
        yield ListenerFactory(lambda: listener)


@contextlib.contextmanager
def open_for_serve(
    settings: ServerSettings, host: str, certfile: Path | None, keyfile: Path | None, workers: int
) -> Generator[ListenerFactory | None]:
    """Listen on the port of the settings, or hold it for the workers, who read the settings again; no port: no gateway.

    Raises:
        ConflictError: the port is taken.
        ValidationError: address, port or certificate cannot be used.
    """
    if settings.gateway_port is None:
        yield None
        return
    _complete(settings, host, certfile, keyfile)
    is_shared = workers > 1
    with contextlib.closing(_bind(settings, settings.gateway_port, is_shared=is_shared)) as listener:
        if is_shared:
            # A worker's listening socket is its own; this one keeps the port, also a free one that was found.
            settings.gateway_port = listener.getsockname()[1]
            _export(settings)
        yield ListenerFactory(lambda: listener)


def _complete(settings: ServerSettings, host: str, certfile: Path | None, keyfile: Path | None) -> None:
    settings.gateway_address = settings.gateway_address or host
    if settings.gateway_certfile is None:
        settings.gateway_certfile, settings.gateway_keyfile = certfile, keyfile
    if settings.gateway_certfile is not None:
        check_certificate(settings.gateway_certfile, settings.gateway_keyfile)


def _export(settings: ServerSettings) -> None:
    found = {
        "PORT": settings.gateway_port,
        "ADDRESS": settings.gateway_address,
        "CERTFILE": settings.gateway_certfile,
        "KEYFILE": settings.gateway_keyfile,
    }
    os.environ.update(
        {f"DOMINUS_GATEWAY_{name}": str(value) for name, value in found.items() if value is not None}
    )


def _bind(settings: ServerSettings, port: int, *, is_shared: bool = False) -> socket.socket:
    address = settings.gateway_address or ""
    try:
        if is_shared:
            # Another orchestrator of this user would share the port without a word.
            bind(address, port).close()
        return bind(address, port, is_shared=is_shared, is_held=is_shared)
    except ConflictError as error:
        raise ConflictError(
            f"port {port} on {address}, for the gateway, is in use by another program",
            code=error.code,
            hint="set DOMINUS_GATEWAY_PORT to another; 0 finds a free one",
        ) from error
