"""A gateway in a thread with an event loop of its own, and blocking sockets on both of its sides."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from dominus.contract.handshake import encode_hello, encode_published_hello, read_reply
from dominus.errors import AuthenticationError
from dominus.orchestrator.gateway.limits import Limits
from dominus.orchestrator.gateway.metrics import GatewayMetrics
from dominus.orchestrator.gateway.server import Gateway
from dominus.orchestrator.gateway.upstream.targets import Target
from dominus.orchestrator.identity.principal import Principal
from dominus.orchestrator.identity.tokens import SessionGrant

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
SECONDS = 10


def until(condition: Callable[[], Any], message: str = "it did not happen", seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message
        os.sched_yield()


@dataclass
class Clock:
    """Moved by tests."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Verifier:
    """Knows tokens by their text."""

    def __init__(self) -> None:
        self.grants: dict[str, SessionGrant] = {}
        self.expired: set[str] = set()

    def grant(self, target: str, subject: str = "svc", scope: str | None = None) -> str:
        token = f"token-{len(self.grants)}"
        scopes = frozenset({scope or f"gateway:{target}"})
        self.grants[token] = SessionGrant(Principal(subject, "session", scopes), target, 2e9)
        return token

    async def __call__(self, token: str) -> SessionGrant:
        if token in self.expired:
            raise AuthenticationError("the token has expired", code="token_expired")
        if token not in self.grants:
            raise AuthenticationError("the token is refused: its signature is wrong", code="token_invalid")
        return self.grants[token]


@dataclass
class Running:
    """A gateway, from outside of its loop."""

    gateway: Gateway
    loop: asyncio.AbstractEventLoop
    verifier: Verifier
    clock: Clock
    metrics: GatewayMetrics
    tls: ssl.SSLContext | None = None
    address: tuple[str, int] = ("", 0)
    sockets: list[socket.socket] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    def ask(self, function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return function()

        return self.run(call())

    @property
    def stats(self) -> Any:
        return self.ask(lambda: self.gateway.stats)

    def sweep(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        self.ask(self.gateway.sweep)

    def connect(self, first: bytes = b"") -> socket.socket:
        """Connect, and send something."""
        client: socket.socket = socket.create_connection(self.address, timeout=SECONDS)
        if self.tls is not None:
            client = self.tls.wrap_socket(client, server_hostname="localhost")
        self.sockets.append(client)
        if first:
            client.sendall(first)
        return client

    def session(self, token: str, more: bytes = b"", **named: Any) -> socket.socket:
        """Open a connection by our handshake; what follows the reply is left to read."""
        client = self.connect(encode_hello(token, **named) + more)
        assert self.reply(client) == "", "the gateway refused"
        return client

    def published(self, token: str, more: bytes = b"") -> socket.socket:
        return self.connect(encode_published_hello(token) + more)

    def reply(self, client: socket.socket) -> str:
        """Read the gateway's answer, no further; return its code."""
        head = exactly(client, 6)
        (length,) = struct.unpack_from(">H", head, 4)
        found = read_reply(head + exactly(client, length))
        assert found is not None
        return found.code


def exactly(client: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = client.recv(count - len(received))
        assert chunk, f"hung up after {len(received)} of {count} bytes"
        received += chunk
    return received


def everything(client: socket.socket) -> bytes:
    """Read to the end; a reset is one too."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(1 << 20):
            received += chunk
    return received


class Peer:
    """A database of the test's own: the test holds its ends of the connections."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.listener.settimeout(SECONDS)
        self.sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        accepted, _ = self.listener.accept()
        accepted.settimeout(SECONDS)
        self.sockets.append(accepted)
        return accepted

    def close(self) -> None:
        for opened in (self.listener, *self.sockets):
            opened.close()


@contextlib.contextmanager
def running(
    loop_name: str,
    targets: dict[str, Target],
    *,
    limits: Limits | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
) -> Iterator[Running]:
    """Run a gateway. At the end no task, no connection and no warning of the loop may be left."""
    loop = LOOPS[loop_name]()
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    verifier, clock, metrics = Verifier(), Clock(), GatewayMetrics()
    gateway = Gateway(
        targets, verifier, limits=limits, metrics=metrics, tls=tls[0] if tls else None, clock=clock
    )
    found = Running(gateway, loop, verifier, clock, metrics, tls[1] if tls else None)
    try:
        found.address = found.run(gateway.start(("127.0.0.1", 0)))
        yield found
    finally:
        found.run(gateway.stop())
        for client in found.sockets:
            client.close()
        stats = found.stats
        left = found.ask(lambda: len(asyncio.all_tasks()) - 1)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()
    assert (stats.active, stats.pending, left) == (0, 0, 0)
    assert not complaints


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def reset(client: socket.socket) -> None:
    """Close at once, as a process that crashed with unread data does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
