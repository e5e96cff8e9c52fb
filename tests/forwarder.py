"""A TCP forwarder in front of a server. It goes away and comes back at exact moments; a server takes a second to start."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

__all__ = ["Forwarder", "forwarder"]

T = TypeVar("T")
CONNECT_SECONDS = 5.0


class Forwarder:
    """Listens on a port of its own, in a thread of its own: neither a busy caller nor a busy server delays it.

    While it is away nobody listens on the port, and connections are refused at once. The methods may be called from any
    thread; `outage` is for the caller's event loop.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        """The port behind it; connections that are there already keep theirs."""
        self.passed = 0
        """Bytes that went through, both ways."""
        self.cuts: list[int] = []
        """At each of these counts all connections are ended, in the middle of what is sent."""
        self.connected_at: list[float] = []
        """When a connection was accepted, in seconds of `time.monotonic`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder")
        self._thread.start()
        # Bound as long as we live and never listening: while we are away nobody else gets the port, not even as the
        # source port of a connection to it, which would then be connected to itself.
        self._holder = _bound(("127.0.0.1", 0))
        self._listener: asyncio.Server | None = None
        self.ends: set[asyncio.Transport] = set()
        """The open connections: two for each."""

    @property
    def port(self) -> int:
        return int(self._holder.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> float:
        """Be there; return since when."""
        return self._run(self._listen())

    def stop_listening(self) -> float:
        """Refuse connections, and leave those that are open as they are; return since when."""
        return self._run(self._stop_listening())

    def leave(self) -> float:
        """Refuse connections, and end those that are open, as the end of a killed server does; return since when."""
        return self._run(self._leave())

    async def outage(self, seconds: float) -> tuple[float, float]:
        """Be away for so long; return when it left and when it was back."""
        away = asyncio.run_coroutine_threadsafe(self._outage(seconds), self._loop)
        return await asyncio.wrap_future(away)

    def close(self) -> None:
        """End, with all connections."""
        self._run(self._leave())
        self._run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    def count(self, size: int) -> None:
        """Add bytes that went through, and cut where it is time."""
        self.passed += size
        if self.cuts and self.passed >= self.cuts[0]:
            del self.cuts[0]
            for end in list(self.ends):
                end.abort()

    def _run(self, steps: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(steps, self._loop).result(10)

    async def _listen(self) -> float:
        ours = _bound(self._holder.getsockname())
        self._listener = await self._loop.create_server(lambda: _Caller(self), sock=ours, backlog=1024)
        return time.monotonic()

    async def _stop_listening(self) -> float:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        return time.monotonic()

    async def _leave(self) -> float:
        left = await self._stop_listening()
        for end in list(self.ends):
            end.abort()
        return left

    async def _outage(self, seconds: float) -> tuple[float, float]:
        left = await self._leave()
        await asyncio.sleep(left + seconds - time.monotonic())
        return left, await self._listen()

    async def _settle(self) -> None:
        # Aborted transports close their sockets in the next turn, connections under way give up in theirs.
        others = asyncio.all_tasks() - {cast("asyncio.Task[None]", asyncio.current_task())}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)


class _End(asyncio.Protocol):
    """One end of a connection; what it gets goes to its peer."""

    def __init__(self, forwarder: Forwarder) -> None:
        self.forwarder = forwarder
        self.peer: asyncio.Transport | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.forwarder.ends.add(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.write(data)
            self.forwarder.count(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.forwarder.ends.discard(self.transport)
        if self.peer is not None:
            self.peer.close()


class _Caller(_End):
    """The end of a caller; what it says before the server is reached waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.forwarder.connected_at.append(time.monotonic())
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                to_server = loop.create_connection(
                    lambda: _End(self.forwarder), "127.0.0.1", self.forwarder.target
                )
                upstream, server = await to_server
        except OSError:
            self.transport.abort()
            return
        if self.transport.is_closing():
            upstream.abort()
            return
        self.peer, server.peer = upstream, self.transport
        self.transport.resume_reading()


def _bound(address: tuple[str, int]) -> socket.socket:
    """Return a bound socket; several may have one address until one of them listens."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    return made


@contextlib.contextmanager
def forwarder(target: int) -> Iterator[Forwarder]:
    """Forward to a port of 127.0.0.1 for a block."""
    made = Forwarder(target)
    try:
        made.listen()
        yield made
    finally:
        made.close()
