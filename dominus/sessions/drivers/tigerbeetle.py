"""The native TigerBeetle clients, by local ports of this session's own: they take nothing else."""

from __future__ import annotations

import contextlib

import tigerbeetle

from dominus.errors import DominusConnectionError
from dominus.sessions.access import Access
from dominus.sessions.background import run
from dominus.sessions.forward import LOOPBACK, Forwarder

__all__ = ["open_async", "open_sync"]


async def open_async(
    access: Access, cluster_id: int, stack: contextlib.AsyncExitStack
) -> tigerbeetle.ClientAsync:
    """Open a native asynchronous client; `stack` closes it."""
    forwarder = Forwarder(access, "tigerbeetle")
    stack.push_async_callback(forwarder.close)
    addresses = _addresses(await forwarder.start_tcp())
    try:
        client = tigerbeetle.ClientAsync(cluster_id=cluster_id, replica_addresses=addresses)
    except Exception as error:
        raise _not_opened(error) from error
    stack.push_async_callback(client.close)
    return client


def open_sync(access: Access, cluster_id: int, stack: contextlib.ExitStack) -> tigerbeetle.ClientSync:
    """Open a native synchronous client; `stack` closes it."""
    forwarder = Forwarder(access, "tigerbeetle")
    stack.callback(lambda: run(forwarder.close()))
    addresses = _addresses(run(forwarder.start_tcp()))
    try:
        client = tigerbeetle.ClientSync(cluster_id=cluster_id, replica_addresses=addresses)
    except Exception as error:
        raise _not_opened(error) from error
    stack.callback(client.close)
    return client


def _addresses(ports: list[int]) -> str:
    return ",".join(f"{LOOPBACK}:{port}" for port in ports)


def _not_opened(error: Exception) -> DominusConnectionError:
    return DominusConnectionError(f"the TigerBeetle client was not opened: {error!r}")
